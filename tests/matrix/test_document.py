from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.matrix.document import MAX_NODES, Lines, parse

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc xyz:-#'\"\n", max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


def plain(text: str) -> object:
    document = parse(text)
    assert document.problems == ()
    assert document.root is not None
    return document.root.plain()


def sentences(text: str) -> list[str]:
    document = parse(text)
    assert all(problem.line >= 1 for problem in document.problems)
    return [problem.sentence for problem in document.problems]


@given(TREES)
def test_what_yaml_writes_is_read_back(tree: object) -> None:
    assert plain(yaml.safe_dump(tree)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", 10),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("2024-01-02", "2024-01-02"),
        ("'12'", "12"),
        ("~", None),
        ("True", True),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("10m", "10m"),
    ],
)
def test_a_plain_word_means_what_a_reader_expects(text: str, value: object) -> None:
    assert plain(text) == value


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: !!python/object/apply:os.system [ls]", 1, "tag"),
        ("a: 1\nb: !!int 3", 2, "tag"),
        ("a: !x {}", 1, "tag"),
        ("a: ! 12", 1, "tag"),
        ("a: 1\nb: 2\na: 3", 3, "twice"),
        ("a:\n  b: 1\n  b: 2", 3, "twice"),
        ("a: 1\n---\nb: 1", 2, "several documents"),
        ("a: *b", 1, "no anchor"),
        ("a: &a [1, *a]", 1, "inside its own anchor"),
        ("? [1, 2]\n: 3", 1, "key"),
        ("1: 2", 1, "key"),
        ("null: 2", 1, "key"),
        ("a: 1\nb: [1", 2, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: \x07", 1, "control character"),
        ("a: 1\nb: \x00", 2, "control character"),
        ('a: "\\UFFFFFFFF"', 1, "not YAML"),
        ('a: "\\ud800"', 1, "surrogate"),
        ("a: 123456789012345678901234567890", 1, "too long"),
        ("[" * 100, 1, "nested deeper"),
        ("%YAML 9.9\n---\na: 1", 1, "not YAML"),
        ("%TAG ! tag:x,2000:\n---\na: !y 1", 3, "tag"),
    ],
)
def test_what_a_matrix_never_needs_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    problems = parse(text).problems
    assert any(word in problem.sentence for problem in problems)
    assert problems[0].line == line


def test_every_mistake_in_the_yaml_is_found_at_once() -> None:
    found = sentences("a: !x 1\na: 2\n5: 6\nb: !y 2")
    assert len(found) == 4


def test_a_bomb_of_aliases_is_refused_before_it_is_expanded() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("aliases expanded" in sentence for sentence in sentences("\n".join(levels)))


def test_a_bomb_of_long_words_is_refused() -> None:
    text = f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 1000)}]"
    assert any("aliases expanded" in sentence for sentence in sentences(text))


def test_a_tower_of_aliases_is_refused() -> None:
    text = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))])
    assert any("nested deeper" in sentence for sentence in sentences(text))


def test_too_many_values_are_refused() -> None:
    assert any("more than" in sentence for sentence in sentences("- 1\n" * (MAX_NODES + 1)))


def test_an_alias_repeats_its_value() -> None:
    assert plain("a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_lines_are_those_of_keys_and_items() -> None:
    text = "name: x\nload:\n  context:\n    - 1\n    - 2\nrecipes: [a,\n  b]\n"
    lines = Lines(source="f", root=parse(text).root)
    places = ("name", "load", "load.context", "load.context[1]", "recipes[1]", "load.output", "load.context[7]")
    assert [lines.at(path) for path in places] == [1, 2, 3, 5, 7, 2, 3]


def test_a_scalar_stands_for_a_list_of_one_when_lines_are_found() -> None:
    lines = Lines(source="f", root=parse("a: 1\nb: 2\nc: {tp: 3}").root)
    assert lines.at("b[0]") == 2
    assert lines.find(("c", 0, "tp", 0)) == (("c", "tp"), 3)


@given(st.text())
def test_any_text_gives_a_tree_or_a_problem(text: str) -> None:
    document = parse(text)
    if document.root is not None:
        document.root.plain()
    assert all("\n" not in problem.sentence and problem.sentence.isascii() for problem in document.problems)


@given(st.text("[]{}:-,&*!|>'\"%@`#?~ \n\tab01.\\uU", max_size=60))
def test_any_text_of_yaml_signs_gives_a_tree_or_a_problem(text: str) -> None:
    document = parse(text)
    if document.root is not None:
        document.root.plain()

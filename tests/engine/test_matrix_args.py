from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine.matrix_args import refusal, refused_args

ALLOWED = ("--max-num-seqs", "--flag", "-f")


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--max-num-seqs", "8"),
        ("--max-num-seqs=8",),
        ("--flag", "a", "b", "-1", "-0.5"),
        ("-f", "x", "--flag"),
        ('--flag={"a": "--b"}',),
    ],
)
def test_a_listed_flag_passes_with_its_values(args: tuple[str, ...]) -> None:
    assert refused_args(args, ALLOWED) == ()


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (("--trust-remote-code",), ("--trust-remote-code",)),
        (("--chat-template", "/etc/passwd"), ("--chat-template",)),
        (("--chat-template=/etc/passwd",), ("--chat-template",)),
        (("--max-num", "8"), ("--max-num",)),  # argparse would complete it
        (("--max_num_seqs", "8"), ("--max_num_seqs",)),
        (("-fx",), ("-fx",)),
        (("--flag", "--config"), ("--config",)),
        (("other-model",), ("other-model",)),
        (("a", "--flag", "b"), ("a",)),
        (("--", "--flag"), ("--",)),
        (("--x", "v", "--flag", "w", "--x", "--y"), ("--x", "--y")),
        (("",), ("",)),
    ],
)
def test_anything_else_is_refused_by_its_name(args: tuple[str, ...], refused: tuple[str, ...]) -> None:
    assert refused_args(args, ALLOWED) == refused


@given(st.lists(st.text(max_size=6) | st.sampled_from(["--flag", "-f", "--x=1", "--", "-1"])))
def test_where_nothing_is_allowed_no_argument_passes(args: list[str]) -> None:
    assert bool(refused_args(args, ())) == bool(args)


@given(st.lists(st.text(max_size=6)))
def test_where_anything_is_allowed_only_what_listens_is_refused(args: list[str]) -> None:
    assert set(refused_args(args, "any")) <= {"--", "--ho", "--hos", "--host", "--po", "--por", "--port"}


@pytest.mark.parametrize("args", [("--host", "0.0.0.0"), ("--host=::",), ("--hos", "0.0.0.0"), ("--port=1",)])  # noqa: S104 - what is refused
@pytest.mark.parametrize("allowed", ["any", ("--host", "--port", "--hos")])
def test_no_settings_let_a_matrix_open_an_engine_to_others(args: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    assert "engines listen on loopback" in str(refusal("vllm", args, allowed))


def test_the_sentence_names_the_argument_and_where_it_is_allowed() -> None:
    assert refusal("vllm", ("--max-num-seqs", "8"), ALLOWED) is None
    assert refusal("vllm", ("--x", "1", "--flag"), ALLOWED) == (
        "vllm: this node does not let a matrix set the argument --x: "
        "write it under engines: vllm: matrix_args: in the node's settings"
    )
    assert "the arguments --x, --y: write them under" in str(refusal("vllm", ("--x", "--y"), ALLOWED))

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load import textfile
from fleetbench_collectors.load.datasets import Sample, read


def sample(text: str, output_tok: int | None = None, messages: tuple[tuple[str, str], ...] | None = None) -> Sample:
    return Sample(text=text, output_tok=output_tok, messages=messages)


def talk(*turns: str) -> dict[str, Any]:
    """A ShareGPT conversation: `human:...`, `gpt:...`."""
    pairs = (turn.partition(":") for turn in turns)
    return {"id": "x", "conversations": [{"from": speaker, "value": value} for speaker, _, value in pairs]}


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, _, content in (turn.partition(":") for turn in turns)]


def written(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff[why] is it?\r\n\n  \n{ Grüße\n".encode())
    assert read(path) == [sample("[why] is it?"), sample("{ Grüße")]


def test_json_lines_hold_prompts_texts_and_messages(tmp_path: Path) -> None:
    path = written(
        tmp_path / "prompts.jsonl",
        {"prompt": "a", "output_tokens": 5},
        {"text": "b", "max_tokens": 6, "prompt": None},
        "",
        {"messages": chat("system:", "user:c", "assistant:d", "user:e"), "output_len": 7},
        {"prompt": "f", "output_tokens": None, "other": [1]},
        talk("human:g", "gpt:h"),
    )
    turns = (("system", ""), ("user", "c"), ("assistant", "d"), ("user", "e"))
    assert read(path) == [sample("a", 5), sample("b", 6), sample("\nc\nd\ne", 7, turns), sample("f"), sample("g")]


def test_a_recorded_answer_is_no_part_of_the_question(tmp_path: Path) -> None:
    path = written(tmp_path / "chats.jsonl", {"messages": chat("user:a", "assistant:b", "assistant:c")})
    assert read(path) == [sample("a", None, (("user", "a"),))]


@pytest.mark.parametrize("indent", [None, 2])
def test_the_first_human_turn_of_a_conversation_is_the_prompt(tmp_path: Path, indent: int | None) -> None:
    talks = [talk("human:a", "gpt:b", "human:c"), talk("gpt:d", "user:e"), talk(), talk("gpt:f"), talk("human: ")]
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(talks, indent=indent) + "\n")
    assert read(path) == [sample("a"), sample("e")]


@pytest.mark.parametrize("name", ["p.txt", "p.txt.gz", "p.jsonl", "p.json.gz", "p"])
def test_gzip_is_seen_by_its_bytes(tmp_path: Path, name: str) -> None:
    content = "hello" if "txt" in name else '{"prompt": "hello"}'
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert read(tmp_path / name) == [sample("hello")]


@pytest.mark.parametrize("content", ['{"prompt": "hello"}', ' [{"prompt": "hello"}]'])
def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text("\ufeff" + content)
    assert read(path) == [sample("hello")]


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip), min_size=1
    ),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_a_list_is_the_same_however_its_bytes_are_cut(
    *, scratch: Path, texts: list[str], chunk: int, indent: int | None, ascii_only: bool
) -> None:
    talks = [talk(f"human:{text}", "gpt:}],[{") for text in texts]
    scratch.write_text(json.dumps(talks, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "READ_BYTES", chunk + 8)
        assert [one.text for one in read(scratch)] == texts


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    for path in (
        written(tmp_path / "a.jsonl", {"prompt": "a"}, {"prompt": "b"}, "broken"),
        written(tmp_path / "a.json", f"[{json.dumps(talk('human:a'))}, {json.dumps(talk('human:b'))}, broken"),
        written(tmp_path / "a.txt", "a", "b", "c"),
    ):
        assert [one.text for one in read(path, limit=2)] == ["a", "b"]


def test_a_long_list_is_not_held_in_memory(tmp_path: Path) -> None:
    entry = json.dumps(talk("human:a", "gpt:" + "x" * 10_000))
    path = written(tmp_path / "long.json", "[" + ",".join([entry] * 2_000) + "]")
    tracemalloc.start()
    try:
        assert len(read(path)) == 2_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("oops", "not a JSON object, 'oops'"),
        ("[1]", "must be a JSON object"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ({}, "must have messages, prompt, text or conversations"),
        ({"question": "a"}, r"not only \['question'\]"),
        ({"prompt": 3}, "prompt must be text, not 3"),
        ({"prompt": [1, 2]}, "prompt must be text"),
        ({"text": " "}, "the prompt is empty"),
        ('{"prompt": "\\ud800"}', "half of a surrogate pair"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens must be a whole number"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens must be"),
        ({"prompt": "a", "output_len": 1.0}, "output_len must be"),
        ({"prompt": "a", "output_tokens": 10**30}, "output_tokens must be"),
        ({"messages": "a"}, "messages must be a list"),
        ({"messages": ["a"]}, "must be a JSON object"),
        ({"messages": []}, "no turn that is to be answered"),
        ({"messages": chat("assistant:a")}, "no turn that is to be answered"),
        ({"messages": chat("tool:a")}, "a role must be one of system, developer, user, assistant, not 'tool'"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "a role must be"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content must be text"),
        ({"conversations": "a"}, "conversations must be a list"),
        ({"conversations": [{"from": "human"}]}, "value must be text, not None"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, row: object, words: str) -> None:
    path = written(tmp_path / "p.jsonl", {"prompt": "a"}, "", row)
    with pytest.raises(ValueError, match=f"p.jsonl, line 3: .*{words}") as caught:
        read(path)
    assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"prompt": "a"}, 3]', "entry 2: must be a JSON object, not '3]'"),
        ('[{"prompt": "a"}, {}]', "entry 2: must have"),
        ('[{"prompt": "a"} {"prompt": "a"}]', "entry 1: , or ] expected, not '{'"),
        ('[{"prompt": "a"}', "entry 1: , or ] expected, not the end of the file"),
        ('[{"prompt": "a"},]', "entry 2: must be a JSON object"),
        ('[{"prompt": "a', "entry 1: not a JSON object of at most 16 MiB"),
        ('[{"prompt": ' + "[" * 100_000, "entry 1: JSON that is nested too deeply"),
        ('[{"n": ' + "9" * 5_000 + "}]", "entry 1: not a JSON object"),
        ('[{"prompt": "a"}] x', "the list: something follows its end"),
        ("[", "entry 1: must be a JSON object"),
        ("[]", "no prompts in it"),
        ("", "no prompts in it"),
        ("hello", "named .txt"),
    ],
)
def test_a_mistake_in_a_list_is_named_with_its_entry(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        read(written(tmp_path / "p.json", content))
    assert words in str(caught.value)
    assert str(tmp_path / "p.json") in str(caught.value)


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.json"])
def test_what_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    start = {"p.txt": b"", "p.jsonl": b'{"prompt": "', "p.json": b'[{"prompt": "'}[name]
    (tmp_path / name).write_bytes(start + b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match=f"{name}, .* not text in UTF-8"):
        read(tmp_path / name)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "FILE_MAX_BYTES", 1000)
    rows = [json.dumps({"prompt": "a" * 100})] * 20
    for name, content in (("a.jsonl", "\n".join(rows)), ("a.json", f"[{','.join(rows)}]")):
        for path, raw in (
            (tmp_path / name, content.encode()),
            (tmp_path / f"{name}.gz", gzip.compress(content.encode())),
        ):
            path.write_bytes(raw)
            with pytest.raises(ValueError, match=f"{path.name}, .*more than .* GiB"):
                read(path)


def test_a_line_or_an_entry_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "ENTRY_MAX_BYTES", 1 << 20)
    long = json.dumps({"prompt": "a" * (1 << 22)})
    with pytest.raises(ValueError, match="line 1: longer than 1 MiB"):
        read(written(tmp_path / "a.jsonl", long))
    with pytest.raises(ValueError, match="entry 1: not a JSON object of at most 1 MiB"):
        read(written(tmp_path / "a.json", f"[{long}]"))


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read(path)


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read(tmp_path / "pipe")


def test_a_limit_below_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a limit must be at least 1"):
        read(tmp_path / "absent", limit=0)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets") / "prompts"


@given(start=st.sampled_from([b"", b"{", b"[", b"[{", b"\x1f\x8b", b'[{"prompt": "']), rest=st.binary(max_size=60))
def test_any_bytes_are_refused_in_words(scratch: Path, start: bytes, rest: bytes) -> None:
    scratch.write_bytes(start + rest)
    with pytest.raises(ValueError, match=str(scratch)):
        read(scratch)

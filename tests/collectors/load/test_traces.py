from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.traces import Trace, TraceRequest, read

HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
GOOD: dict[str, Any] = {"timestamp": 0, "input_length": 700, "output_length": 9, "hash_ids": [0, 1]}
S = 1_000_000_000


def mooncake(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def burstgpt(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def request(at_ns: int, context_tok: int, output_tok: int, blocks: tuple[int, ...] | None = None) -> TraceRequest:
    return TraceRequest(at_ns=at_ns, context_tok=context_tok, output_tok=output_tok, blocks=blocks)


def test_a_mooncake_trace_gives_times_lengths_and_blocks(tmp_path: Path) -> None:
    path = mooncake(
        tmp_path / "trace.jsonl",
        {"timestamp": 3000, "input_length": 1025, "output_length": 7, "hash_ids": [0, 1, 2]},
        {"timestamp": 3000.5, "input_length": 1025, "output_length": 8, "hash_ids": [0, 1], "session": "x"},
        {"timestamp": 27482, "input_length": 5, "output_length": 9},
    )
    assert read(path) == Trace(
        requests=(
            request(0, 1025, 7, (0, 1, 2)),
            request(S // 2000, 1025, 8, (0, 1)),
            request(24_482_000_000, 5, 9),
        ),
        skipped=0,
    )


def test_a_burstgpt_trace_leaves_out_and_counts_failed_requests(tmp_path: Path) -> None:
    rows = (
        "5,ChatGPT,472,18,490,Conversation log",
        "45,GPT-4,87,0,87,API log",
        "46,GPT-4,0,8,8,API log",
        "118.25,GPT-4,417,276,693,API log",
    )
    trace = read(burstgpt(tmp_path / "trace.csv", *rows))
    assert trace == Trace(requests=(request(0, 472, 18), request(113_250_000_000, 417, 276)), skipped=2)


def test_columns_are_found_by_name_and_quotes_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text('\ufeff"Response tokens",Session,"Timestamp","Request tokens"\r\n7,"a, b",1,3\r\n')
    assert read(path).requests == (request(0, 3, 7),)


def test_requests_come_in_order_of_time_from_0(tmp_path: Path) -> None:
    rows = [
        {**GOOD, "timestamp": stamp, "output_length": 1 + index} for index, stamp in enumerate([900, 500, 700, 500])
    ]
    found = read(mooncake(tmp_path / "trace.jsonl", *rows)).requests
    assert [(one.at_ns, one.output_tok) for one in found] == [(0, 2), (0, 4), (S // 5, 3), (2 * S // 5, 1)]


@pytest.mark.parametrize(("speed", "at_ns"), [(2.0, 500_000_000), (0.5, 2_000_000_000), (3, 333_333_333)])
def test_speed_divides_the_times(tmp_path: Path, speed: float, at_ns: int) -> None:
    path = mooncake(tmp_path / "trace.jsonl", GOOD, {**GOOD, "timestamp": 1000})
    assert [one.at_ns for one in read(path, speed=speed).requests] == [0, at_ns]


def test_a_limit_ends_the_reading_and_does_not_count_failed_requests(tmp_path: Path) -> None:
    path = burstgpt(tmp_path / "trace.csv", "1,m,5,0,5,x", "2,m,5,5,5,x", "3,m,5,5,5,x", "not a row")
    trace = read(path, limit=2)
    assert (len(trace.requests), trace.skipped) == (2, 1)


def test_a_trace_may_be_gzip_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert read(path).requests == (request(0, 700, 9, (0, 1)),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timestamp": -1}, "timestamp must be a number of ms"),
        ({"timestamp": math.nan}, "timestamp must be"),
        ({"timestamp": math.inf}, "timestamp must be"),
        ({"timestamp": "0"}, "timestamp must be"),
        ({"timestamp": True}, "timestamp must be"),
        ({"timestamp": None}, "timestamp must be"),
        ({"timestamp": 10**400}, "timestamp must be"),
        ({"input_length": -1}, "input_length must be a whole number of tokens"),
        ({"input_length": 1.5}, "input_length must be"),
        ({"output_length": 10**30}, "output_length must be"),
        ({"output_length": None}, "output_length must be"),
        ({"hash_ids": 3}, "hash_ids must be a list"),
        ({"hash_ids": [0, -1]}, "hash_ids must be a list"),
        ({"hash_ids": [0, 2**63]}, "hash_ids must be a list"),
        ({"hash_ids": [0] * 44}, "44 hash_ids do not fit 700 tokens: a block has 512"),
        ({"hash_ids": []}, "0 hash_ids do not fit"),
    ],
)
def test_a_mistake_in_json_lines_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = mooncake(tmp_path / "trace.jsonl", GOOD, {**GOOD, **change})
    with pytest.raises(ValueError, match=f"trace.jsonl, line 2: {words}") as caught:
        read(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("5,m,5,5,5", "6 fields expected, not 5"),
        ("-5,m,5,5,5,x", "Timestamp must be a number of seconds"),
        ("nan,m,5,5,5,x", "Timestamp must be"),
        (f"{'9' * 5000},m,5,5,5,x", "Timestamp must be"),
        ("5,m,-5,5,5,x", "Request tokens must be a whole number"),
        ("5,m,5,5.5,5,x", "Response tokens must be"),
        (f"5,m,5,{'9' * 5000},5,x", "Response tokens must be"),
        ("5,m,5,99999999,5,x", "Response tokens must be"),
        ('5,"m,5,5,5,x', "not CSV"),
        ("5,m\0,5,5,5,x", "a NUL byte"),
    ],
)
def test_a_mistake_in_csv_is_named_with_its_line(tmp_path: Path, row: str, words: str) -> None:
    path = burstgpt(tmp_path / "trace.csv", "1,m,5,5,5,x", "", row)
    with pytest.raises(ValueError, match=f"trace.csv, line 4: {words}"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no requests in it"),
        (b"\n\n", "no requests in it"),
        (f"{HEADER}\n".encode(), "no requests in it"),
        (f"{HEADER}\n1,m,5,0,5,x\n".encode(), "no requests in it, 1 failed ones aside"),
        (b"a,b\n1,2\n", "line 1: neither Mooncake's JSON lines nor BurstGPT's CSV"),
        (b"[1]", "line 1: neither Mooncake's"),
        (b"{", "line 1: not a JSON object"),
        (b'{"timestamp": ' + b"9" * 5000 + b"}", "line 1: not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "line 1: JSON that is nested too deeply"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "line 1: not text in UTF-8"),
        (b"\0\0\0\0", "line 1: a NUL byte"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], "a damaged gzip file"),
        (b"\x1f\x8b\x08\x00garbage of some length", "a damaged gzip file"),
    ],
)
def test_what_is_no_trace_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read(path)


def test_a_time_in_a_wrong_unit_is_noticed(tmp_path: Path) -> None:
    path = burstgpt(tmp_path / "trace.csv", "1700000000000,m,5,5,5,x")
    with pytest.raises(ValueError, match="Timestamp must be"):
        read(path)
    path = burstgpt(tmp_path / "trace.csv", "0,m,5,5,5,x", "10000000,m,5,5,5,x")
    with pytest.raises(ValueError, match="is its time in the right unit"):
        read(path)
    assert len(read(path, speed=2).requests) == 2


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf, 1e-9])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be from"):
        read(tmp_path / "absent", speed=speed)


def test_a_limit_below_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a limit must be at least 1"):
        read(tmp_path / "absent", limit=0)


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces") / "trace"


@given(start=st.sampled_from([b"", b"{", f"{HEADER}\n".encode(), b"\x1f\x8b"]), rest=st.binary(max_size=60))
def test_any_bytes_are_a_trace_or_a_sentence(scratch: Path, start: bytes, rest: bytes) -> None:
    scratch.write_bytes(start + rest)
    with pytest.raises(ValueError, match=str(scratch)):
        read(scratch)

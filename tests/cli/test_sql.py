"""`fleetbench sql`: one question, a file of them, a conversation; what the columns are; rows as files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fleetbench.store.commit import Warehouse
from tests.cli.inside import inside
from tests.cli.shell import fleetbench
from tests.samples import Lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sql")
    lab = Lab(Warehouse(root / "warehouse"))
    lab.warehouse.create()
    lab.run()
    lab.speed("f16", 100.0)
    lab.speed("q8_0", 150.0)
    return root


def test_several_statements_are_answered_one_after_another(folder: Path) -> None:
    said = inside("sql", "CREATE TABLE t AS SELECT 1 AS a; SELECT a + 1 AS b FROM t;", "--format", "csv", folder=folder)
    assert said.out.endswith("b\n2\n")


def test_a_file_is_asked_and_so_is_what_is_piped_in(folder: Path) -> None:
    (folder / "q.sql").write_text("-- the fastest\nSELECT recipe\nFROM cells ORDER BY output_tok_s DESC LIMIT 1")
    assert inside("sql", "--file", "q.sql", "--format", "csv", folder=folder).out == "recipe\nq8_0\n"
    piped = subprocess.run(
        [sys.executable, "-m", "fleetbench", "sql", "--format", "csv", "--warehouse", "warehouse"],
        input="SELECT count(*) AS n FROM cells",
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stdout == "n\n2\n"


@pytest.mark.parametrize(
    ("text", "line"), [("SELECT 1;\n\nSELECT\n  speling\nFROM cells;", 4), ("SELECT 1;\nSELEC 2", 2)]
)
def test_a_mistake_in_a_file_names_the_file_and_its_own_line(folder: Path, text: str, line: int) -> None:
    (folder / "wrong.sql").write_text(text)
    said = inside("sql", "--file", "wrong.sql", folder=folder)
    assert said.code == 2
    assert said.err.startswith("error: wrong.sql: ")
    assert f"LINE {line}:" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--file", "none.sql"], "none.sql cannot be read: No such file"),
        (["--file", "binary.sql"], "binary.sql cannot be read: it is not UTF-8"),
        (["--file", "empty.sql"], "empty.sql: there is no SQL statement in it"),
        (["SELECT 1", "--file", "empty.sql"], "give QUERY or --file, not both"),
        (["SELECT 1", "--format", "parquet"], "--format parquet wants --output FILE"),
        (["SELECT 1", "--output", "no/where.csv"], "--output no/where.csv: there is no folder no"),
        (["SELECT INTERVAL 1 MONTH AS i", "--format", "parquet", "--output", "i.parquet"], "Parquet cannot hold it"),
        (["SELECT 1", "--output", "/dev/null"], "--output /dev/null: is no file"),
        (["SELECT 1", "--format", "parquet", "--output", "-"], "--format parquet wants --output FILE"),
        (["--describe", "--file", "empty.sql"], "--describe takes the name of a view, and no --file"),
        (["--describe", "cellls"], "there is no view 'cellls', did you mean cells"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, words: list[str], why: str) -> None:
    (folder / "binary.sql").write_bytes(b"\xff\xfe")
    (folder / "empty.sql").write_text("-- nothing\n")
    said = inside("sql", *words, folder=folder)
    assert said.code == 2
    assert why in said.err


@pytest.mark.parametrize(("form", "start"), [("csv", "recipe,output_tok_s\n"), ("json", "["), ("markdown", "| recipe")])
def test_rows_go_into_a_file(folder: Path, form: str, start: str) -> None:
    query = "SELECT recipe, output_tok_s FROM cells ORDER BY ALL"
    said = inside("sql", query, "--format", form, "--output", "out", folder=folder)
    assert (said.code, said.out, said.err) == (0, "", "out: 2 rows\n")
    written = (folder / "out").read_text()
    assert written.startswith(start)
    assert written == inside("sql", query, "--format", form, folder=folder).out
    assert [path.name for path in folder.glob(".out*")] == []


def test_a_link_is_followed_and_a_dash_is_the_standard_output(folder: Path) -> None:
    (folder / "link").symlink_to("behind")
    assert inside("sql", "SELECT 1 AS a", "--format", "csv", "--output", "link", folder=folder).code == 0
    assert (folder / "link").is_symlink()
    assert (folder / "behind").read_text() == "a\n1\n"
    assert inside("sql", "SELECT 1 AS a", "--format", "csv", "--output", "-", folder=folder).out == "a\n1\n"
    assert not (folder / "-").exists()


def test_parquet_keeps_types_and_says_units(folder: Path) -> None:
    query = "SELECT recipe, output_tok_s, speedup_ratio, 1 AS mine FROM cmp_recipe ORDER BY ALL"
    assert inside("sql", query, "--format", "parquet", "--output", "o.parquet", folder=folder).code == 0
    table = pq.read_table(folder / "o.parquet")
    assert table.to_pylist()[1] == {"recipe": "q8_0", "output_tok_s": 150.0, "speedup_ratio": 1.5, "mine": 1}
    assert table.schema.field("output_tok_s").metadata[b"unit"] == b"tok/s"
    assert table.schema.field("speedup_ratio").metadata[b"unit"] == b"ratio"
    assert b"doc" not in (table.schema.field("mine").metadata or {})


def test_views_are_listed_with_what_a_row_is_and_columns_with_their_units(folder: Path) -> None:
    listed = json.loads(inside("sql", "--describe", "--format", "json", folder=folder).out)
    assert {"view": "cells", "kind": "marts"}.items() <= listed[[one["view"] for one in listed].index("cells")].items()
    said = json.loads(inside("sql", "--describe", "cells", "--format", "json", folder=folder).out)
    named = {one["name"]: one for one in said}
    assert named["ttft_p99_ms"]["unit"] == "ms"
    assert named["ttft_p99_ms"]["type"] == "DOUBLE"
    for words in ([], ["cells"]):
        shown = inside("sql", "--describe", *words, folder=folder).out
        assert max(map(len, shown.splitlines())) <= 80


def test_nothing_that_is_asked_changes_the_warehouse(folder: Path) -> None:
    before = sorted((folder / "warehouse").rglob("*"))
    assert inside("sql", "DELETE FROM trials; SELECT count(*) AS n FROM trials", folder=folder).code == 0
    assert sorted((folder / "warehouse").rglob("*")) == before
    assert inside("sql", "SELECT count(*) AS n FROM trials", "--format", "csv", folder=folder).out == "n\n2\n"


PATIENCE_S = 60


class Talk:
    """The command at a terminal."""

    def __init__(self, folder: Path) -> None:
        pid, self.handle = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", XDG_STATE_HOME=str(folder / "state"), COLUMNS="80")
            os.execv(sys.executable, [sys.executable, "-m", "fleetbench", "sql", "--warehouse", "warehouse"])  # noqa: S606
        self.pid, self.seen = pid, ""

    def until(self, wanted: str) -> str:
        """What is said up to some words."""
        while wanted not in self.seen:
            ready, _, _ = select.select([self.handle], [], [], PATIENCE_S)
            assert ready, f"{wanted!r} does not come after {self.seen[-500:]!r}"
            self.seen += os.read(self.handle, 4096).decode()
        said, _, self.seen = self.seen.partition(wanted)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)

    def say(self, text: str) -> None:
        os.write(self.handle, text.encode())


@pytest.fixture
def talk(folder: Path) -> Iterator[Talk]:
    found = Talk(folder)
    found.until("fleetbench> ")
    yield found
    os.close(found.handle)
    try:
        os.kill(found.pid, signal.SIGKILL)
        os.waitpid(found.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_conversation_goes_on_after_mistakes_and_interruptions(talk: Talk, folder: Path) -> None:
    talk.say("SELECT recipe\n")
    talk.until("... ")
    talk.say("FROM cells ORDER BY ALL LIMIT 1;\n")
    assert "f16" in talk.until("fleetbench> ")
    talk.say("FROM nowhere;\n")
    assert "LINE 1: FROM nowhere" in talk.until("fleetbench> ")
    talk.say("SELECT 6 * 7 AS answer; SELECT count(*) FROM range(100000000000) AS a, range(1000000) AS b;\n")
    talk.until("42")  # the first is answered, so the second is under way
    talk.say("\x03")
    assert "interrupted" in talk.until("fleetbench> ")
    talk.say(".describe cells\n")
    assert "tok/s" in talk.until("fleetbench> ")
    talk.say(".nothing\n")
    assert "there is no command .nothing" in talk.until("fleetbench> ")
    talk.say(".format csv\n")
    talk.until("fleetbench> ")
    talk.say("SELECT 1 + 1 AS two; -- a remark\n")
    assert "two\r\n2" in talk.until("fleetbench> ")
    talk.say("\x04")
    _, status = os.waitpid(talk.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ".describe cells" in (folder / "state/fleetbench/sql_history").read_text()


def test_a_long_answer_is_cut_and_says_how_to_see_all(talk: Talk) -> None:
    talk.say("SELECT range AS n FROM range(1000);\n")
    said = talk.until("fleetbench> ")
    assert "100 of 1,000 rows" in said
    assert "\r\n100\r\n" not in said


def test_its_help_has_examples(folder: Path) -> None:
    said = fleetbench("sql", "--help", folder=folder)
    assert "--describe cells" in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_what_is_piped_in_and_is_no_text_is_a_mistake(folder: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "fleetbench", "sql", "--warehouse", str(folder / "warehouse")],
        input=b"\xff\xfe",
        capture_output=True,
        check=False,
    )
    assert (said.returncode, said.stderr.decode()) == (2, "error: standard input cannot be read: it is not UTF-8\n")

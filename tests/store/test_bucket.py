from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

import fleetbench
from fleetbench.cli.main import cli
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.store.bucket import Bucket
from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.mirror import folder, local, writing
from fleetbench.store.url import BucketUrl, parsed
from fleetbench.store.verify import verify_files
from tests.cli.shell import fleetbench as shell
from tests.samples import keyed, request_row, run_row, trial_row
from tests.truth.run import serve

SECRET = "never-to-be-seen-anywhere"  # noqa: S105 - of nobody

VLLM = Path(__file__).parent / "foreign" / "data" / "vllm" / "glm47-conc16.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto_server of its own process."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdout=said, stderr=said
        )
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
        yield found[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without settings of its own."""
    for name, value in {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> BucketUrl:
    """A bucket of the test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    found = BucketUrl(re.sub("[^a-z]+", "-", request.node.name)[:50].strip("-"), "team/night")
    client(found).create_bucket(Bucket=found.bucket)
    return found


def client(url: BucketUrl) -> Any:
    return Bucket(url)._client


def names(url: BucketUrl) -> list[str]:
    return sorted(name for name, _ in Bucket(url).listed(""))


def trial(url: BucketUrl, recipe: str = "f16") -> None:
    with writing(url) as root:
        lab = Warehouse(root)
        lab.create()
        lab.commit("runs", [run_row()], run_id="run1", name="runs")
        row = trial_row(recipe)
        assert lab.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})


def elsewhere(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From here on as another machine: with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))


def test_a_key_is_given_once_and_the_same_bytes_again_are_the_same_object(url: BucketUrl) -> None:
    bucket = Bucket(url)
    assert bucket.put_new("manifest/1.json", b"first")
    assert not bucket.put_new("manifest/1.json", b"second")
    assert bucket.put_new("manifest/1.json", b"first")
    assert bucket.get("manifest/1.json") == b"first"


def test_what_was_removed_is_gone_and_may_be_removed_again(url: BucketUrl) -> None:
    bucket = Bucket(url)
    bucket.put_new("one", b"1")
    bucket.delete(["one", "two"])
    assert bucket.get("one") is None
    assert names(url) == []


def test_rows_written_on_one_machine_are_read_on_another(
    url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(url)
    elsewhere(monkeypatch, tmp_path / "other")
    with fleetbench.open(str(url)) as connection:
        assert connection.execute("SELECT recipe FROM trials").fetchall() == [("f16",)]
        assert connection.execute("SELECT count(*) FROM requests").fetchall() == [(1,)]


def test_objects_have_the_names_of_a_local_warehouse(url: BucketUrl) -> None:
    trial(url)
    assert [name.split("/")[:3] for name in names(url)] == [
        ["landing", "requests", "run1"],
        ["landing", "runs", "run1"],
        ["landing", "trials", "run1"],
    ]


def test_the_trials_own_row_is_sent_after_all_that_it_measured(url: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    put = Bucket.put_new

    def spy(self: Bucket, name: str, data: bytes) -> bool:
        sent.append(name.split("/")[1])
        return put(self, name, data)

    monkeypatch.setattr(Bucket, "put_new", spy)
    trial(url)
    assert sent[-1] == "trials"
    assert sorted(sent) == ["requests", "runs", "trials"]


def test_a_writer_that_dies_before_the_trials_row_leaves_nothing_that_counts(
    url: BucketUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Bucket.put_new

    def dying(self: Bucket, name: str, data: bytes) -> bool:
        if "/trials/" in name:
            raise UnusableEnvironmentError("the network is gone")
        return put(self, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "put_new", dying)
        with pytest.raises(UnusableEnvironmentError):
            trial(url)
    assert Warehouse(local(url)).committed("run1") == []
    trial(url)
    assert len(Warehouse(local(url)).committed("run1")) == 1


def test_only_what_is_new_is_fetched(url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial(url)
    elsewhere(monkeypatch, tmp_path / "other")
    local(url)
    fetched: list[str] = []
    get = Bucket.get

    def spy(self: Bucket, name: str) -> bytes | None:
        fetched.append(name)
        return get(self, name)

    monkeypatch.setattr(Bucket, "get", spy)
    local(url)
    assert fetched == []
    local(url, anew=True)
    assert sorted(fetched) == names(url)


def test_objects_of_others_are_left_alone(url: BucketUrl) -> None:
    bucket = Bucket(url)
    bucket.put_new("landing/notes.txt", b"mine")
    bucket.put_new("landing/trials/../../x.parquet", b"bad")
    trial(url)
    root = local(url)
    assert not [path for path in root.rglob("*") if path.name in ("notes.txt", "x.parquet")]
    assert "landing/notes.txt" in names(url)


def test_a_compaction_replaces_objects_and_every_row_is_still_there(
    url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(url, "f16")
    trial(url, "q8_0")
    for _ in range(2):  # the second one removes what the first took up
        with writing(url) as root:
            compact(root, grace_s=0)
    assert not [name for name in names(url) if name.startswith("landing/")]
    elsewhere(monkeypatch, tmp_path / "other")
    with fleetbench.open(str(url)) as connection:
        assert connection.execute("SELECT recipe FROM trials ORDER BY 1").fetchall() == [("f16",), ("q8_0",)]
    assert verify_files(local(url, anew=True)).findings == ()


def test_the_second_of_two_compactors_is_told_and_the_first_ones_manifest_stands(
    url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(url)

    def while_another_does() -> None:
        with writing(url) as root:
            compact(root)
            with monkeypatch.context() as other:
                elsewhere(other, tmp_path / "other")
                with writing(url) as theirs:
                    compact(theirs, now_s=1.0)

    with pytest.raises(UnusableEnvironmentError, match="another compaction"):
        while_another_does()
    manifest = local(url) / "manifest" / "00000001.json"
    assert json.loads(manifest.read_text())["left_out"][0]["at_s"] == 1.0
    assert verify_files(local(url, anew=True)).findings == ()


def test_an_object_whose_content_is_not_as_named_is_found_by_verify(url: BucketUrl) -> None:
    trial(url)
    (name,) = (name for name in names(url) if "/requests/" in name)
    data = bytearray(Bucket(url).get(name) or b"")
    data[len(data) // 3] ^= 1
    client(url).put_object(Bucket=url.bucket, Key=url.key(name), Body=bytes(data))
    assert name in {one.where for one in verify_files(local(url, anew=True)).findings}


@pytest.mark.usefixtures("url")
def test_a_bucket_that_is_not_there_is_wrong_input() -> None:
    with pytest.raises(InputError, match="there is no bucket nowhere"):
        local(BucketUrl("nowhere", ""))


def test_a_prefix_where_nothing_landed_is_wrong_input(url: BucketUrl) -> None:
    with pytest.raises(InputError, match=f"no warehouse at {url}"):
        local(url)


def test_an_endpoint_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UnusableEnvironmentError, match="no answer from http://127") as raised:
            local(BucketUrl("some", ""))
    assert SECRET not in str(raised.value)


class _Denying(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_who_has_no_right_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _Denying) as denying:
        Thread(target=denying.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{denying.server_port}")
        with pytest.raises(UnusableEnvironmentError, match="access denied") as raised:
            local(BucketUrl("some", ""))
        denying.shutdown()
    assert SECRET not in str(raised.value)


def test_without_credentials_the_remedy_is_said(url: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UnusableEnvironmentError, match="AWS_PROFILE"):
        local(url)


def test_a_profile_that_is_not_there_is_said(url: BucketUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UnusableEnvironmentError, match="nobody"):
        local(url)


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UnusableEnvironmentError, match=r"fleetbench\[s3\]"):
        local(BucketUrl("some", ""))


@pytest.mark.parametrize("text", ["s3://", "s3:///prefix", "s3://key:secret@bucket/x", "s3://b", "s3://bucket/../x"])
def test_an_address_that_is_none_is_wrong_input_and_no_secret_in_it_is_repeated(text: str) -> None:
    with pytest.raises(InputError) as raised:
        parsed(text)
    assert "secret@" not in str(raised.value)


def test_each_bucket_and_prefix_has_a_copy_of_its_own(url: BucketUrl) -> None:
    assert folder(Bucket(url)) != folder(Bucket(BucketUrl(url.bucket, "other")))


def test_a_command_that_works_in_a_folder_refuses_a_bucket(tmp_path: Path) -> None:
    matrix = tmp_path / "m.yaml"
    matrix.write_text("")
    done = CliRunner().invoke(cli, ["submit", str(matrix), "--warehouse", "s3://some/where"])
    assert done.exit_code == 2
    assert "works in a folder" in " ".join(done.output.split())


def test_a_file_is_imported_into_a_bucket_once(url: BucketUrl) -> None:
    asked = ["import", "vllm", str(VLLM), "--warehouse", str(url), "--format", "json"]
    landed = []
    for _ in range(2):
        done = CliRunner().invoke(cli, asked, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        landed.append((json.loads(done.stdout)[0]["landed"] > 0, names(url)))
    assert landed == [(True, landed[0][1]), (False, landed[0][1])]


def test_commands_read_and_compact_a_bucket(url: BucketUrl) -> None:
    trial(url)
    for asked in (["sql", "SELECT recipe FROM trials"], ["runs"], ["warehouse", "compact"], ["warehouse", "verify"]):
        done = CliRunner().invoke(cli, [*asked, "--warehouse", str(url)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "every byte read" in done.output
    assert any(name.startswith("manifest/") for name in names(url))


def test_a_load_is_kept_in_a_bucket(url: BucketUrl, tmp_path: Path) -> None:
    kept = ("--warehouse", str(url))
    with serve(ttft_us=5_000, itl_us=1_000) as truth:
        said = shell("bench", truth.url, "--batch", "2", "--requests", "4", "--output", "3", *kept, folder=tmp_path)
    assert (said.code in (0, 1), "Traceback" in said.err, SECRET in said.err + said.out) == (True, False, False)
    counted = shell("sql", "SELECT count(*) AS n FROM requests", "--format", "json", *kept, folder=tmp_path)
    assert json.loads(counted.out) == [{"n": 4}]


@pytest.mark.usefixtures("url")
def test_a_load_is_not_sent_where_the_bucket_to_keep_it_in_is_not_there(tmp_path: Path) -> None:
    said = shell("bench", "http://127.0.0.1:9", "--batch", "1", "--warehouse", "s3://nowhere", folder=tmp_path)
    assert (said.code, "there is no bucket nowhere" in " ".join(said.err.split())) == (2, True)

"""What `fleetbench bench` refuses before it sends anything, each in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetbench.cli.main import cli
from tests.cli.shell import fleetbench

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "Missing argument 'URL'"),
        (f"{URL} --batc 4", "--batch"),
        (f"{URL} {URL}", "unexpected extra argument"),
        (f"{URL} --batch 4 --rate 5", "--batch and --rate exclude each other"),
        (f"{URL} --rate 5 --stages 5x1", "--rate and --stages exclude each other"),
        (f"{URL} --requests 3 --batch 4", "--requests 3 never fills --batch 4: ask for at least 4"),
        (f"{URL} --batch 2 --processes 3", "--processes 3 is more than --batch 2"),
        (f"{URL} --processes 2", "--processes 2 is more than --batch 1"),
        (f"{URL} --batch 0", "0 is not in the range"),
        (f"{URL} --batch -1", "-1 is not in the range"),
        (f"{URL} --requests x", "'x' is not a valid integer"),
        (f"{URL} --processes 0", "0 is not in the range"),
        (f"{URL} --seconds -3", "-3 is not a number above 0"),
        (f"{URL} --seconds inf", "inf is not a number above 0"),
        (f"{URL} --timeout 0", "0 is not a number above 0"),
        (f"{URL} --timeout nan", "nan is not a number above 0"),
        (f"{URL} --seconds soon", "soon is not a number above 0"),
        (f"{URL} --rate 0", "0 is not a number above 0"),
        (f"{URL} --seconds 1e300", "1e300 is not a number above 0 and up to"),
        (f"{URL} --rate 1 --burstiness 1e300", "1e300 is not from 0.001 to"),
        (f"{URL} --seed 99999999999999999999", "is not in the range"),
        (f"{URL} --prompts here.txt --context 5", "--prompts have their own lengths"),
        (f"{URL}/v1/chat/completions --endpoint completions", "is not what the URL ends in"),
        (f"{URL} --rate 1e30", "1e30 is not a number above 0 and up to"),
        (f"{URL} --ramp 5", "'5'"),
        (f"{URL} --stages 5x", "'5x'"),
        (f"{URL} --context none", "a length must be 512, 256..1024"),
        (f"{URL} --context 9..3", "the wrong way round"),
        (f"{URL} --output 0", "lengths must be from 1"),
        (f"{URL} --output normal:0,1", "the mean of normal:0,1"),
        (f"{URL} --arrivals poisson", "--arrivals goes with --rate, --ramp or --stages, not with --batch"),
        (f"{URL} --rate 5 --burstiness 2 --arrivals poisson", "--burstiness goes with --arrivals gamma"),
        (f"{URL} --rate 5 --arrivals random", "'random' is not one of"),
        (f"{URL} --max-in-flight 5", "--max-in-flight goes with --rate"),
        (f"{URL} --speed 2", "--speed goes with --trace"),
        (f"{URL} --unique", "--unique goes with --prompts"),
        (f"{URL} --trace nothing.jsonl", "does not exist"),
        (f"{URL} --prompts nothing.txt", "does not exist"),
        (f"{URL} --prompts here.txt --trace here.txt", "--prompts and --trace exclude each other"),
        (f"{URL} --prompts here.txt --shared-prefix 3", "--shared-prefix and --prompts exclude each other"),
        (f"{URL} --shared-prefix 32 --context 32", "--shared-prefix must be shorter than --context"),
        (f"{URL} --ca nothing.pem", "does not exist"),
        (f"{URL} --ca here.txt --insecure", "--insecure and --ca exclude each other"),
        (f"{URL} --body {{", "is no JSON"),
        (f"{URL} --body []", "a JSON object is needed"),
        (f"{URL} --header nothing", "a header is 'NAME: VALUE'"),
        (f"{URL} --slo fast", "'fast' is no target: write NAME:MS"),
        (f"{URL} --slo ttft:0", "must be above 0"),
        (f"{URL} --slo ttft:5 --slo ttft:6", "Ttft has two targets"),
        (f"{URL} --slo speed:5", "There is no target 'speed'"),
        (f"{URL} --warehouse here.txt", "'here.txt' is a file"),
        (f"{URL} --out .", "is a directory"),
        (f"{URL} --endpoint embeddings", "'embeddings' is not one of"),
        (f"{URL} --format yaml", "'yaml' is not one of"),
        (f"{URL} --proxy socks5://x:1", "proxy must be http://HOST:PORT"),
        ("127.0.0.1:9", "URL must be http://HOST:PORT or https://HOST:PORT"),
        ("ftp://127.0.0.1:9", "URL must be"),
        ("http://127.0.0.1:99999", "URL must be"),
        ("http://[::1", "URL must be"),
        ("http://", "URL must be"),
    ],
)
def test_a_mistake_is_a_sentence_and_2(
    arguments: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("x")
    done = CliRunner().invoke(cli, ["bench", *arguments.split()])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--header", "a: b\nc"), "the value of the header a has a line break"),
        (("--prompts", "here.txt", "--header", "a: b\nc"), "the value of the header a has a line break"),
        (("--tokenizer", "."), "neither tokenizer.json nor vocab.json"),
        (("--tokenizer", "nowhere"), "no such folder"),
        (("--trace", "here.txt"), "here.txt, line 1"),
        (("--prompts", "empty.txt"), "empty.txt"),
    ],
)
def test_what_only_its_files_tell_is_a_sentence_and_2_too(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    (tmp_path / "here.txt").write_text("x")
    (tmp_path / "empty.txt").write_text("")
    said = fleetbench("bench", URL, "--requests", "2", *arguments, folder=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert "Traceback" not in said.err


def test_a_host_that_nobody_knows_and_a_file_without_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("x")
    said = fleetbench("bench", "http://nowhere.invalid:80", folder=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: nowhere.invalid is not known: ")
    said = fleetbench("bench", "https://127.0.0.1:9", "--ca", "here.txt", folder=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: here.txt has no certificates")


def test_a_mistyped_name_of_the_command_is_guessed(tmp_path: Path) -> None:
    said = fleetbench("benhc", URL, folder=tmp_path)
    assert (said.code, "Did you mean bench?" in said.err) == (2, True)

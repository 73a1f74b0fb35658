from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import settings
from fleetbench.engine.runtime import Container, Mount, NodeEngine, Program, Url, Venv, Wheel
from fleetbench.errors import InputError

KNOWN = ("llamacpp", "llama-server", "vllm", "sglang", "transformers", "endpoint")
DIGEST = "sha256:" + "ab" * 32
WHOLE = f"""
engines:
  vllm: {{venv: /opt/vllm, args: [--enforce-eager, "a b"], env: {{VLLM_USE_V1: "1"}}}}
  sglang:
    container: lmsysorg/sglang@{DIGEST}
    with: podman
    gpus: amd
    mounts: [/data, {{source: /cache, target: /root/.cache, writable: true}}]
  llama-server: {{path: /usr/local/bin/llama-server}}
  endpoint: {{url: "http://127.0.0.1:8000/v1/", model: served, version: "1"}}
  transformers:
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        settings.read_text(text, "node.yaml", KNOWN)
    return list(caught.value.mistakes)


def test_every_way_to_have_an_engine_is_read() -> None:
    engines = settings.read_text(WHOLE, "node.yaml", KNOWN)
    assert engines == {
        "llamacpp": NodeEngine(name="llamacpp", runtime=Wheel()),
        "vllm": NodeEngine(
            name="vllm",
            runtime=Venv(path=Path("/opt/vllm")),
            args=("--enforce-eager", "a b"),
            env={"VLLM_USE_V1": "1"},
        ),
        "sglang": NodeEngine(
            name="sglang",
            runtime=Container(image=f"lmsysorg/sglang@{DIGEST}", tool="podman", gpus="amd"),
            mounts=(
                Mount(source=Path("/data")),
                Mount(source=Path("/cache"), target=Path("/root/.cache"), writable=True),
            ),
        ),
        "llama-server": NodeEngine(name="llama-server", runtime=Program(path=Path("/usr/local/bin/llama-server"))),
        "endpoint": NodeEngine(
            name="endpoint", runtime=Url(base_url="http://127.0.0.1:8000", model="served", version="1")
        ),
        "transformers": NodeEngine(name="transformers", runtime=Wheel()),
    }


def test_the_example_in_the_readme_is_read() -> None:
    text = Path(settings.__file__).with_name("README.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    engines = settings.read_text(example, "README.md", KNOWN)
    assert set(engines) == set(KNOWN)
    assert engines["sglang"].mounts[1].writable


def test_the_schema_for_editors_takes_what_is_read() -> None:
    schema = settings.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    tree = yaml.safe_load(WHOLE)
    jsonschema.validate(tree, schema)
    tree["engines"]["vllm"]["vent"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


@pytest.mark.parametrize("text", ["", "engines:", "engines: {}", "# nothing"])
def test_settings_that_name_no_engine_leave_the_embedded_one(text: str) -> None:
    assert list(settings.read_text(text, "node.yaml", KNOWN)) == ["llamacpp"]


@pytest.mark.parametrize(
    ("entry", "path", "sentence"),
    [
        ("vlm: {venv: /opt/x}", "engines.vlm", "did you mean vllm"),
        ("vllm: {vent: /opt/x}", "engines.vllm.vent", "did you mean venv"),
        ("vllm: {venv: opt/x}", "engines.vllm.venv", "from /"),
        ("vllm: {venv: /a, path: /b}", "engines.vllm", "several places: venv, path"),
        ("vllm: {venv: /a, with: docker}", "engines.vllm", "`with` means nothing without `container`"),
        ("vllm: {venv: /a, mounts: [/b]}", "engines.vllm", "`mounts` means nothing"),
        ("vllm: {venv: /a, version: '1'}", "engines.vllm", "`version` is read where the engine is"),
        ("vllm: {container: 'vllm/vllm-openai:latest'}", "engines.vllm.container", "a tag moves"),
        (f"vllm: {{container: 'a@{DIGEST}', with: dockr}}", "engines.vllm.with", "'docker', 'podman' or 'apptainer'"),
        ("vllm: {venv: /a, args: [1]}", "engines.vllm.args[0]", "put it in quotes"),
        ("vllm: {venv: /a, args: --x}", "engines.vllm.args", "where a list belongs"),
        ('vllm: {venv: /a, args: ["a\\0b"]}', "engines.vllm.args[0]", "character NUL"),
        ("vllm: {venv: /a, env: {A: 1}}", "engines.vllm.env.A", "put it in quotes"),
        ("vllm: {venv: /a, env: {A-B: x}}", "engines.vllm.env.A-B", "no name of a variable"),
        ("vllm: 3", "engines.vllm", "where a mapping"),
        ("vllm: {url: 'ftp://x'}", "engines.vllm.url", "write http://HOST:PORT"),
        ("vllm: {url: 'http://x:y'}", "engines.vllm.url", "write http://HOST:PORT"),
        ("vllm: {url: 'http://x', args: [a]}", "engines.vllm", "takes no `args`"),
        ("endpoint: {path: /x}", "engines.endpoint", "write `url:"),
        ("llamacpp: {venv: /x}", "engines.llamacpp", "comes with fleetbench"),
        (f"vllm: {{container: 'a@{DIGEST}', mounts: [{{sauce: /x}}]}}", "engines.vllm.mounts[0].source", "is missing"),
    ],
)
def test_a_mistake_has_its_line_its_path_and_a_remedy(entry: str, path: str, sentence: str) -> None:
    found = [one for one in mistakes(f"engines:\n  {entry}\n") if one.startswith(f"node.yaml:2: {path}: ")]
    assert len(found) == 1
    assert sentence in found[0]


def test_all_mistakes_are_told_at_once() -> None:
    told = mistakes("engines:\n  vlm: {}\n  vllm: {venv: a, args: 1}\n  sglang: {container: x}\nengine: 1\n")
    assert [one.split(": ")[1] for one in told] == [
        "engines.vllm.venv",
        "engines.vllm.args",
        "engines.sglang.container",
        "engine",
        "engines.vlm",
    ]


@pytest.mark.parametrize("text", ["[", "[]", "3", "a: &x b\nengines: *y", "engines: !!python/object:os.system x"])
def test_what_is_no_mapping_is_a_mistake_and_no_crash(text: str) -> None:
    assert all(one.startswith("node.yaml:") for one in mistakes(text))


@given(st.text())
def test_any_text_is_settings_or_mistakes(text: str) -> None:
    with contextlib.suppress(InputError):
        assert "llamacpp" in settings.read_text(text, "node.yaml", KNOWN)


def test_the_file_is_found_by_variable_and_by_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.settings_path({"FLEETBENCH_NODE": "/etc/node.yaml"}) == Path("/etc/node.yaml")
    assert settings.settings_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/fleetbench/node.yaml")
    monkeypatch.setenv("HOME", "/home/me")
    assert settings.settings_path({}) == Path("/home/me/.config/fleetbench/node.yaml")


def test_a_file_may_be_missing_unless_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETBENCH_NODE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert list(settings.read()) == ["llamacpp"]
    monkeypatch.setenv("FLEETBENCH_NODE", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        settings.read()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 1_000_001])
def test_a_file_that_cannot_be_settings_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "node.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"node\.yaml"):
        settings.read(tmp_path / "node.yaml", KNOWN)


def test_a_folder_or_a_fifo_is_no_settings_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "node.yaml")
    for path in (tmp_path, tmp_path / "node.yaml"):
        with pytest.raises(InputError, match="not a regular file"):
            settings.read(path, KNOWN)


def test_the_home_of_nobody_is_no_crash() -> None:
    assert settings.settings_path({"FLEETBENCH_NODE": "~nobody-at-all/node.yaml"}) == Path("~nobody-at-all/node.yaml")
    assert "depends on where" in mistakes("engines: {vllm: {venv: ~nobody-at-all/venv}}")[0]

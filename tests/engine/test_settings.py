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
from fleetbench.engine.settings import Hub, NodeSettings
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
NODE = """
pool: h100-eu
use: shared
cache: ~/weights
models: {llama: /srv/llama, org/qwen: /srv/qwen}
hub: {token_file: /run/secrets/hub, endpoint: "https://hub.example.com", offline: true}
matrix_paths: [/srv]
engines:
  vllm: {venv: /opt/vllm, matrix_args: [--max-num-seqs, -O]}
  sglang: {matrix_args: any}
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        settings.read_text(text, "node.yaml", KNOWN)
    return list(caught.value.mistakes)


def test_every_way_to_have_an_engine_is_read() -> None:
    engines = settings.read_text(WHOLE, "node.yaml", KNOWN).engines
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


def test_what_else_a_node_says_of_itself_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    node = settings.read_text(NODE, "node.yaml", KNOWN)
    assert {name: engine.matrix_args for name, engine in node.engines.items()} == {
        "llamacpp": (),
        "vllm": ("--max-num-seqs", "-O"),
        "sglang": "any",
    }
    assert node == NodeSettings(
        engines=node.engines,
        pool="h100-eu",
        use="shared",
        cache=Path("/home/me/weights"),
        models={"llama": Path("/srv/llama"), "org/qwen": Path("/srv/qwen")},
        hub=Hub(token_file=Path("/run/secrets/hub"), endpoint="https://hub.example.com", offline=True),
        matrix_paths=(Path("/srv"),),
    )


def test_settings_that_say_nothing_else_keep_a_node_to_itself() -> None:
    node = settings.read_text("models:\nhub:\n", "node.yaml", KNOWN)
    assert node == NodeSettings(engines=node.engines, pool="default", use="whole", cache=None, hub=Hub())


@pytest.mark.parametrize(
    ("line", "path", "sentence"),
    [
        ("pool: 'a b'", "pool", "no name of a pool"),
        ("pool: 1", "pool", "put it in quotes"),
        ("use: half", "use", "'shared' or 'whole'"),
        ("cache: here", "cache", "from /"),
        ("models: {a: b}", "models.a", "from /"),
        ("models: [/a]", "models", "where a mapping"),
        ("hub: {token: hf_x}", "hub.token", "did you mean token_file?"),
        ("hub: {endpoint: 'https://me:hf_x@hub'}", "hub.endpoint", "no place for a password"),
        ("hub: {endpoint: hub}", "hub.endpoint", "no address"),
        ("hub: {offline: 1}", "hub.offline", "neither true nor false"),
        ("matrix_paths: /srv", "matrix_paths", "where a list"),
        ("matrix_paths: [srv]", "matrix_paths[0]", "from /"),
        ("matrix_path: [/srv]", "matrix_path", "did you mean matrix_paths?"),
        ("engines: {vllm: {matrix_args: all}}", "engines.vllm.matrix_args", "neither `any` nor a list"),
        ("engines: {vllm: {matrix_args: [--a=b]}}", "engines.vllm.matrix_args", '"--a=b" is no flag'),
        ("engines: {vllm: {matrix_args: [--a b]}}", "engines.vllm.matrix_args", "is no flag"),
        ("engines: {vllm: {url: 'http://a', matrix_args: any}}", "engines.vllm", "takes no `args`"),
    ],
)
def test_a_mistake_in_them_has_its_line_its_path_and_a_remedy(line: str, path: str, sentence: str) -> None:
    (found,) = mistakes(f"# a node\n{line}\n")
    assert found.startswith(f"node.yaml:2: {path}: ")
    assert sentence in found


def test_what_the_file_names_is_looked_for_where_that_is_wanted(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hf_right")
    token.chmod(0o644)
    (tmp_path / "cache").touch()
    text = f"cache: {tmp_path}/cache\nhub:\n  token_file: {token}\nmodels:\n  a: {tmp_path}/none\n"
    settings.read_text(text, "node.yaml", KNOWN)
    with pytest.raises(InputError) as caught:
        settings.read_text(text, "node.yaml", KNOWN, look=True)
    assert [one.split(": ")[:2] for one in caught.value.mistakes] == [
        ["node.yaml:5", "models.a"],
        ["node.yaml:1", "cache"],
        ["node.yaml:3", "hub.token_file"],
    ]
    assert "hf_right" not in str(caught.value)


def test_a_token_is_read_from_a_file_that_its_owner_alone_can_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hf_right\n")
    file.chmod(0o600)
    assert settings.read_token(file) == "hf_right"
    for mode in (0o604, 0o640, 0o622):
        file.chmod(mode)
        with pytest.raises(InputError, match="can be read by others than its owner"):
            settings.read_token(file)


@pytest.mark.parametrize("content", [b"", b" \n", b"hf_a hf_b", b"hf_\xff", b"a\nb"])
def test_a_file_without_a_token_is_a_mistake_that_does_not_show_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(InputError) as caught:
        settings.read_token(file)
    assert str(caught.value) == f"{file} holds no token (write it there alone, in one line)"


def test_the_example_in_the_readme_is_read() -> None:
    text = Path(settings.__file__).with_name("README.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    engines = settings.read_text(example, "README.md", KNOWN).engines
    assert set(engines) == set(KNOWN)
    assert engines["sglang"].mounts[1].writable


def test_the_schema_for_editors_takes_what_is_read() -> None:
    schema = settings.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    tree = yaml.safe_load(WHOLE)
    jsonschema.validate(tree, schema)
    jsonschema.validate(yaml.safe_load(NODE), schema)
    tree["engines"]["vllm"]["vent"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


@pytest.mark.parametrize("text", ["", "engines:", "engines: {}", "# nothing"])
def test_settings_that_name_no_engine_leave_the_embedded_one(text: str) -> None:
    assert list(settings.read_text(text, "node.yaml", KNOWN).engines) == ["llamacpp"]


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
        assert "llamacpp" in settings.read_text(text, "node.yaml", KNOWN).engines


def test_the_file_is_found_by_variable_and_by_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.settings_path({"FLEETBENCH_NODE": "/etc/node.yaml"}) == Path("/etc/node.yaml")
    assert settings.settings_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/fleetbench/node.yaml")
    monkeypatch.setenv("HOME", "/home/me")
    assert settings.settings_path({}) == Path("/home/me/.config/fleetbench/node.yaml")


def test_a_file_may_be_missing_unless_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETBENCH_NODE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert list(settings.read_settings().engines) == ["llamacpp"]
    monkeypatch.setenv("FLEETBENCH_NODE", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        settings.read_settings()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 1_000_001])
def test_a_file_that_cannot_be_settings_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "node.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"node\.yaml"):
        settings.read_settings(tmp_path / "node.yaml", KNOWN)


def test_a_folder_or_a_fifo_is_no_settings_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "node.yaml")
    for path in (tmp_path, tmp_path / "node.yaml"):
        with pytest.raises(InputError, match="not a regular file"):
            settings.read_settings(path, KNOWN)


def test_the_home_of_nobody_is_no_crash() -> None:
    assert settings.settings_path({"FLEETBENCH_NODE": "~nobody-at-all/node.yaml"}) == Path("~nobody-at-all/node.yaml")
    assert "depends on where" in mistakes("engines: {vllm: {venv: ~nobody-at-all/venv}}")[0]

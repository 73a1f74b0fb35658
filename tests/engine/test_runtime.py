from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import runtime
from fleetbench.engine.protocol import Command
from fleetbench.engine.runtime import (
    Container,
    Mount,
    NodeEngine,
    Process,
    Program,
    Runtime,
    Surroundings,
    Tool,
    Url,
    Vendor,
    Venv,
    Wheel,
    wrap,
)

DIGEST = "sha256:" + "a1" * 32
IMAGE = f"registry.example:5000/vllm/vllm-openai:v0.32.0@{DIGEST}"
LEASE = "run-7/launch@12.34"
COMMAND = Command(argv=("vllm", "serve", "/models/a b", "--port", "1"), env={"TOKEN": "secret"})
MODEL = Mount(source=Path("/models/a b"))


def around(vendor: Vendor = "none", **environ: str) -> Surroundings:
    return Surroundings(
        environ={"PATH": "/usr/bin", **environ},
        python=Path("/own/bin/python3.11"),
        vendor=vendor,
        groups=("44", "109"),
        home="boot.1",
    )


def run(runtime: Runtime, where: Surroundings | None = None, **otherwise: Any) -> Process:
    engine = NodeEngine(name="vllm", runtime=runtime, **otherwise)
    return wrap(COMMAND, engine, where or around(), [MODEL], LEASE)


def contained(tool: Tool, vendor: Vendor, **environ: str) -> list[str]:
    return list(run(Container(image=IMAGE, tool=tool), around(vendor, **environ)).argv)


def pairs(argv: list[str], option: str) -> list[str]:
    """The values of an option, before the image."""
    head = argv[: argv.index(next(word for word in argv if IMAGE in word))]
    return [head[at + 1] for at, word in enumerate(head) if word == option]


@pytest.mark.parametrize(
    "image",
    [
        "vllm/vllm-openai",
        "vllm/vllm-openai:v1",
        "a@sha256:12",
        f"-v@{DIGEST}",
        f"a b@{DIGEST}",
        f"a\n@{DIGEST}",
        DIGEST,
        "",
    ],
)
def test_an_image_without_its_digest_is_refused_with_a_sentence(image: str) -> None:
    with pytest.raises(ValueError, match="a tag moves"):
        Container(image=image)


def test_a_venv_runs_its_own_program_and_no_foreign_modules() -> None:
    process = run(Venv(path=Path("/opt/v llm")), around(PYTHONPATH="/mine", PYTHONHOME="/mine", HOME="/root"))
    assert process.argv == ("/opt/v llm/bin/vllm", "serve", "/models/a b", "--port", "1")
    assert process.env["PATH"] == "/opt/v llm/bin:/usr/bin"
    assert process.env["VIRTUAL_ENV"] == "/opt/v llm"
    assert (process.env["TOKEN"], process.env["HOME"]) == ("secret", "/root")
    assert not {"PYTHONPATH", "PYTHONHOME"} & process.env.keys()
    assert process.container is None


def test_a_program_on_disk_stands_for_the_adapters() -> None:
    assert run(Program(path=Path("/usr/local/bin/x"))).argv[:2] == ("/usr/local/bin/x", "serve")


def test_fleetbenchs_own_python_runs_python_and_what_lies_beside_it() -> None:
    assert run(Wheel()).argv[0] == "/own/bin/vllm"
    python = Command(argv=("python", "-m", "x"))
    assert wrap(python, NodeEngine(name="x", runtime=Wheel()), around(), [], LEASE).argv[0] == "/own/bin/python3.11"


def test_a_server_that_runs_already_cannot_be_started() -> None:
    with pytest.raises(ValueError, match="runs already"):
        run(Url(base_url="http://a:1"))


@pytest.mark.parametrize("tool", ["docker", "podman"])
def test_a_container_is_named_labelled_and_sees_only_what_it_needs(tool: Tool) -> None:
    process = run(
        Container(image=IMAGE, tool=tool), env={"NODE": "1"}, mounts=(Mount(source=Path("/cache"), writable=True),)
    )
    argv = list(process.argv)
    assert argv[:5] == [tool, "run", "--rm", "--init", "--pull=never"]
    assert argv[argv.index("--entrypoint") :] == ["--entrypoint", "vllm", IMAGE, *COMMAND.argv[1:]]
    name = runtime.container_name(LEASE)
    assert process.container == (tool, name)
    assert pairs(argv, "--name") == [name]
    assert pairs(argv, "--label") == [f"fleetbench.lease={LEASE}", "fleetbench.home=boot.1"]
    assert (pairs(argv, "--network"), pairs(argv, "--ipc")) == (["host"], ["host"])
    assert pairs(argv, "--mount") == [
        "type=bind,source=/models/a b,destination=/models/a b,readonly",
        "type=bind,source=/cache,destination=/cache",
    ]
    assert pairs(argv, "--env") == ["FLEETBENCH_LEASE", "TOKEN", "NODE"]
    assert "secret" not in " ".join(argv)
    assert (process.env["TOKEN"], process.env["NODE"]) == ("secret", "1")


def test_what_a_client_would_obey_itself_is_told_to_the_container_alone() -> None:
    told = {"HOME": "/home/x", "LD_PRELOAD": "y.so", "DOCKER_HOST": "z", "HF_HOME": "/hub"}
    process = run(Container(image=IMAGE), around(HOME="/root"), env=told)
    assert process.env["HOME"] == "/root"
    assert not {"LD_PRELOAD", "DOCKER_HOST"} & process.env.keys()
    passed = pairs(list(process.argv), "--env")
    assert {"HOME=/home/x", "LD_PRELOAD=y.so", "DOCKER_HOST=z", "HF_HOME"} <= set(passed)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, ["all"]),
        ("0", ["device=0"]),
        ("2,3", ['"device=2,3"']),
        (" GPU-a , MIG-b ", ['"device=GPU-a,MIG-b"']),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_docker_gets_the_nvidia_gpus_that_this_process_was_given(visible: str | None, gpus: list[str]) -> None:
    argv = contained("docker", "nvidia", **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert pairs(argv, "--gpus") == gpus
    assert "CUDA_VISIBLE_DEVICES" not in argv


def test_podman_gets_nvidia_gpus_by_cdi() -> None:
    argv = contained("podman", "nvidia", CUDA_VISIBLE_DEVICES="1,2")
    assert pairs(argv, "--device") == ["nvidia.com/gpu=1", "nvidia.com/gpu=2"]
    assert pairs(contained("podman", "nvidia"), "--device") == ["nvidia.com/gpu=all"]
    assert pairs(argv, "--security-opt") == ["label=disable"]
    assert "--gpus" not in argv


def test_docker_gets_amd_gpus_with_the_groups_that_own_their_files() -> None:
    argv = contained("docker", "amd", ROCR_VISIBLE_DEVICES="1")
    assert pairs(argv, "--device") == ["/dev/kfd", "/dev/dri"]
    assert pairs(argv, "--group-add") == ["44", "109"]
    assert pairs(argv, "--security-opt") == ["seccomp=unconfined"]
    assert "ROCR_VISIBLE_DEVICES" in pairs(argv, "--env")


def test_podman_keeps_its_users_groups_for_amd_gpus() -> None:
    argv = contained("podman", "amd")
    assert pairs(argv, "--group-add") == ["keep-groups"]
    assert pairs(argv, "--security-opt") == ["seccomp=unconfined", "label=disable"]


@pytest.mark.parametrize("tool", ["docker", "podman", "apptainer"])
def test_a_node_without_gpus_passes_none(tool: Tool) -> None:
    argv = contained(tool, "none", CUDA_VISIBLE_DEVICES="0")
    assert not {"--gpus", "--device", "--nv", "--rocm", "--group-add"} & set(argv)


@pytest.mark.parametrize(("vendor", "flag"), [("nvidia", "--nv"), ("amd", "--rocm")])
def test_apptainer_is_a_child_like_any_other_and_sees_what_is_named(vendor: Vendor, flag: str) -> None:
    process = run(Container(image=IMAGE, tool="apptainer"), around(vendor, CUDA_VISIBLE_DEVICES="1", OTHER="x"))
    argv = list(process.argv)
    assert argv[:3] == ["apptainer", "exec", "--cleanenv"]
    assert argv[argv.index(f"docker://{IMAGE}") + 1 :] == list(COMMAND.argv)
    assert flag in argv
    assert pairs(argv, "--mount") == ["type=bind,source=/models/a b,destination=/models/a b,ro"]
    inside = {name for name in process.env if name.startswith("APPTAINERENV_")}
    assert {"APPTAINERENV_TOKEN", "APPTAINERENV_FLEETBENCH_LEASE", "APPTAINERENV_CUDA_VISIBLE_DEVICES"} <= inside
    assert "APPTAINERENV_OTHER" not in inside
    assert process.container is None


def test_the_nodes_word_on_gpus_comes_before_what_is_found() -> None:
    process = run(Container(image=IMAGE, gpus="none"), around("nvidia"))
    assert "--gpus" not in process.argv


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_path_is_one_field_of_a_mount(name: str) -> None:
    path = Path("/models") / name.replace("/", "")
    mounts = [Mount(source=path, target=Path("/at") / name.replace("/", ""))]
    process = wrap(COMMAND, NodeEngine(name="x", runtime=Container(image=IMAGE)), around(), mounts, LEASE)
    (text,) = pairs(list(process.argv), "--mount")
    assert next(csv.reader([text], strict=True) if "\n" not in text and "\r" not in text else iter([None])) in (
        ["type=bind", f"source={path}", f"destination={mounts[0].target}", "readonly"],
        None,
    )


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), st.integers(1, 9**9))
def test_any_lease_gives_a_name_that_docker_allows_and_no_other_lease_has(label: str, pid: int) -> None:
    name = runtime.container_name(f"{label}@{pid}.1")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
    assert name.startswith("fleetbench-")
    assert len(name) < 100
    assert name != runtime.container_name(f"{label}@{pid}.2")

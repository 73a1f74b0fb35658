from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import oneshot, toolenv
from fleetbench.artifact.checkpoint import read_tensors
from fleetbench.artifact.oneshot import Made, make, why
from fleetbench.artifact.toolenv import ToolEnv
from fleetbench.artifact.types import ArtifactError
from fleetbench.matrix.types import Calibration, KvFormat, Recipe

TINY = Path(oneshot.__file__).with_name("tiny")
STAND_IN = """#!{python}
import json, os, signal, sys
from pathlib import Path
spec = json.loads(Path(sys.argv[3]).read_text())
Path(os.environ["SEEN"]).write_text(json.dumps([sys.argv[1:], spec, dict(os.environ)]))
target = Path(spec["target"])
target.mkdir()
(target / "half").write_text("half")
"""
Run = Callable[..., Made]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Makes a recipe of the tiny model with a program in the place of the tool's Python."""

    def make_with(then: str, recipe: Recipe, *, limit_s: float = 60.0) -> Made:
        program = tmp_path / "python"
        program.write_text(STAND_IN.format(python=sys.executable) + then)
        program.chmod(0o755)
        return make(
            recipe,
            TINY,
            tmp_path / "made" / "out",
            tool=ToolEnv(python=program, versions={}),
            log=tmp_path / "tool.log",
            environment={**os.environ, "SEEN": str(tmp_path / "seen")},
            limit_s=limit_s,
        )

    return make_with


FP8 = Recipe(name="fp8", weights="fp8")


def seen(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "seen").read_text())


@pytest.mark.parametrize(
    ("then", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "out of memory: the system killed it"),
        ("sys.exit('torch.OutOfMemoryError: CUDA out of memory.')", "out of memory: torch.OutOfMemoryError"),
        ("raise OSError(28, 'No space left on device')", "disk full: OSError"),
        ("import no_such_package", "missing package: ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise ValueError('odd')", r"failed \(exit 1\): ValueError: odd"),
        ("", r"failed \(exit 0\): it wrote nothing"),
        (
            'Path(spec[\'result\']).write_text(\'{"word": "no accelerator", "sentence": "takes a GPU"}\'); sys.exit(3)',
            "no accelerator: takes a GPU",
        ),
    ],
)
def test_a_failure_has_a_cause_the_last_line_and_leaves_nothing(
    tmp_path: Path, run: Run, then: str, cause: str
) -> None:
    with pytest.raises(ArtifactError, match=cause) as failure:
        run(then, FP8)
    assert str(tmp_path / "tool.log") in str(failure.value)
    assert not list((tmp_path / "made").iterdir())


def test_a_tool_that_does_not_end_is_ended(run: Run) -> None:
    with pytest.raises(ArtifactError, match=r"timeout: it took longer than 0.5 s"):
        run("signal.pause()", FP8, limit_s=0.5)


def test_a_tool_that_says_well_and_wrote_no_checkpoint_is_not_believed(tmp_path: Path, run: Run) -> None:
    report = "Path(spec['result']).write_text(json.dumps({'layers': 21, 'attentions': 0}))"
    plain = "(target / 'config.json').write_text('{}')"
    with pytest.raises(ArtifactError, match=r"config.json: it names no compressed-tensors quantization"):
        run(f"{plain}; {report}", FP8)
    assert not (tmp_path / "made" / "out").exists()


def test_the_tool_is_told_what_the_recipe_says_and_kept_off_the_network(tmp_path: Path, run: Run) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("a b c")
    recipe = Recipe(
        name="r",
        weights="int4",
        method="gptq",
        group_size=64,
        kv=KvFormat(k="fp8", v="fp8"),
        calibration=Calibration(path=str(text), samples=3, sequence_tok=16),
        protect=("last 1",),
    )
    with pytest.raises(ArtifactError):
        run("", recipe)
    arguments, spec, environment = seen(tmp_path)
    assert arguments[0] == "-I"
    assert (spec["preset"], spec["method"], spec["weights"]["group_size"]) == ("W4A16", "gptq", 64)
    assert spec["kv"] == {"num_bits": 8, "type": "float", "strategy": "tensor", "group_size": None, "dynamic": False}
    assert (spec["calibration"]["samples"], spec["calibration"]["sequence_tok"]) == (3, 16)
    assert any("layers" in pattern and "2" in pattern for pattern in spec["ignore"])
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_open_calibration_lengths_are_bounded_by_the_model(tmp_path: Path, run: Run) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("a b c")
    with pytest.raises(ArtifactError):
        run("", Recipe(name="r", weights="int4", method="gptq", calibration=Calibration(path=str(text))))
    calibration = seen(tmp_path)[1]["calibration"]
    assert (calibration["samples"], calibration["exact"], calibration["sequence_tok"]) == (512, False, 1024)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": "/no/such/corpus.txt"}, "/no/such/corpus.txt: No such file"),
        ({"sha256": "0" * 64}, "not the text that was planned"),
        ({"sequence_tok": 4096}, "4096 tokens are longer than the model's 1024"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused_before_the_tool_starts(
    tmp_path: Path, run: Run, change: dict[str, Any], reason: str
) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("a b c")
    calibration = Calibration(**({"path": str(text)} | change))
    with pytest.raises(ArtifactError, match=reason):
        run("", Recipe(name="r", weights="int4", method="gptq", calibration=calibration))
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{}", "num_hidden_layers is None, not a count"),
        ("[", "not JSON"),
        ('{"quantization_config": {"quant_method": "gptq"}}', "is quantized already"),
    ],
)
def test_a_model_that_cannot_be_quantized_is_named(tmp_path: Path, config: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(config)
    tool = ToolEnv(python=Path(sys.executable), versions={})
    with pytest.raises(ArtifactError, match=reason):
        make(FP8, tmp_path, tmp_path / "out", tool=tool, log=tmp_path / "log")


def test_a_progress_bar_does_not_hide_the_last_line() -> None:
    assert why(1, {}, "ValueError: odd\rValueError: even\n\n", 1.0) == "failed (exit 1): ValueError: even"


@pytest.fixture(scope="session")
def tool() -> ToolEnv:
    """The Python that holds the real tool."""
    if not os.environ.get(toolenv.VARIABLE):
        pytest.skip(f"{toolenv.VARIABLE} names no Python with llmcompressor")
    return toolenv.ensure(Path("/nonexistent"))


REAL: dict[str, dict[str, Any]] = {
    "FP8_DYNAMIC": {"weights": "fp8"},
    "FP8": {"weights": "fp8", "scales": "static"},
    "FP8_BLOCK": {"weights": "fp8", "group_size": 128},
    "FP8_KV": {"weights": "fp8", "kv": KvFormat(k="fp8", v="fp8")},
    "KV": {"weights": "bf16", "kv": KvFormat(k="fp8", v="fp8")},
    "W8A8": {"weights": "int8"},
    "W8A8_SMOOTHQUANT": {"weights": "int8", "method": "smoothquant"},
    "W8A16": {"weights": "int8", "activations": "bf16"},
    "W4A16": {"weights": "int4", "protect": ("first 1", "last 1")},
    "W4A16_GPTQ": {"weights": "int4", "method": "gptq"},
    "W4AFP8": {"weights": "int4", "activations": "fp8"},
    "W3A16": {"weights": "int3"},
    "NVFP4": {"weights": "nvfp4"},
    "NVFP4A16": {"weights": "nvfp4", "activations": "bf16"},
    "MXFP4": {"weights": "mxfp4"},
    "MXFP8": {"weights": "mxfp8"},
}
LOOKS = ("FP8", "FP8_KV", "KV", "W8A8_SMOOTHQUANT", "W4A16_GPTQ", "NVFP4")


@pytest.fixture
def corpus(tmp_path: Path) -> Calibration:
    text = tmp_path / "corpus.txt"
    text.write_text("".join(f"A:{a}+{b}={str(a + b)[::-1]}\n" for a in range(10, 99) for b in range(1, 10)))
    return Calibration(path=str(text), samples=8, sequence_tok=64)


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize("name", REAL)
def test_the_real_tool_makes_what_is_asked(tmp_path: Path, tool: ToolEnv, corpus: Calibration, name: str) -> None:
    recipe = Recipe(name=name, calibration=corpus, **REAL[name])
    made = make(recipe, TINY, tmp_path / "out", tool=tool, log=tmp_path / "log")
    assert made.layers == {"KV": 0, "W4A16": 7}.get(name, 21)
    assert made.calibration_tok == (8 * 64 if name in LOOKS else None)
    assert (made.calibration_sha256 is not None) == (name in LOOKS)
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes > 100e6
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (TINY / "tokenizer.json").read_bytes()


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_tool_gives_the_same_weights_twice(tmp_path: Path, tool: ToolEnv, corpus: Calibration) -> None:
    recipe = Recipe(name="r", weights="int4", method="gptq", calibration=corpus)
    for place in ("a", "b"):
        make(recipe, TINY, tmp_path / place, tool=tool, log=tmp_path / "log")
    first, second = ((tmp_path / place / "model.safetensors").read_bytes() for place in ("a", "b"))
    assert first == second


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"method": "gptq", "calibration": {"samples": 10_000}}, "give a longer text, or ask for fewer samples"),
        ({"group_size": 96}, "group size: the widths of its layers do not divide"),
    ],
)
def test_the_real_tool_refuses_in_a_sentence(
    tmp_path: Path, tool: ToolEnv, corpus: Calibration, change: dict[str, Any], cause: str
) -> None:
    calibration = Calibration(path=corpus.path, **change.pop("calibration", {}))
    recipe = Recipe(name="r", weights="int4", calibration=calibration, **change)
    with pytest.raises(ArtifactError, match=cause):
        make(recipe, TINY, tmp_path / "out", tool=tool, log=tmp_path / "log")


@pytest.mark.slow
@pytest.mark.engines
def test_weights_that_the_folder_lacks_are_not_made_up(tmp_path: Path, tool: ToolEnv, make_folder: Any) -> None:
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ArtifactError, match=r"bad checkpoint: .* lacks weights: model.layers.2"):
        make(FP8, folder, tmp_path / "out", tool=tool, log=tmp_path / "log")


@pytest.mark.slow
@pytest.mark.engines
def test_the_memory_of_whoever_asks_is_not_counted(tmp_path: Path, tool: ToolEnv) -> None:
    ballast = bytearray(os.urandom(1 << 20)) * 2000
    made = make(FP8, TINY, tmp_path / "out", tool=tool, log=tmp_path / "log")
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes < len(ballast)
    assert read_tensors(tmp_path / "out")

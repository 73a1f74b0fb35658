"""vLLM as FLEETBENCH_VLLM names it (a virtual environment), and folders of models that it serves in seconds.

`make test-engines` installs it; without the variable these tests are skipped, visibly.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

VENV = "FLEETBENCH_VLLM"
SHAPE_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="session")
def vllm_venv() -> Path:
    named = os.environ.get(VENV)
    if not named:
        pytest.skip(f"{VENV} names no virtual environment with vLLM: make test-engines installs one")
    return Path(named).absolute()


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The trained tiny model, with its weights."""
    return Path(str(resources.files("fleetbench.artifact") / "tiny"))


@pytest.fixture(scope="session")
def shape(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any] | None], Path]:
    """The tiny model's shape without weights, quantized as its config.json then says: for random weights."""
    made: dict[str, Path] = {}

    def make(quantization: dict[str, Any] | None) -> Path:
        key = json.dumps(quantization)
        if key not in made:
            folder = tmp_path_factory.mktemp("shape")
            for name in SHAPE_FILES:
                shutil.copy(tiny_folder / name, folder / name)
            config = json.loads((folder / "config.json").read_text())
            if quantization is not None:
                config["quantization_config"] = quantization
            (folder / "config.json").write_text(json.dumps(config))
            made[key] = folder
        return made[key]

    return make

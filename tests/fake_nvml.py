"""Builds the stand-in for NVIDIA's library that the real pynvml loads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("collectors") / "power" / "fake_nvml.c"


def build(folder: Path) -> Path:
    """The folder, with libnvidia-ml.so.1 in it, for LD_LIBRARY_PATH; skips where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return folder

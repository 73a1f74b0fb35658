"""Finds the data folders `warehouse` and `matrices`, in a wheel or in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fleetbench.errors import UnusableEnvironmentError


def root(name: Literal["warehouse", "matrices"]) -> Path:
    """The folder `name`: shipped inside the wheel, else beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for place in (package / "_shipped" / name, package.parent / name):
        if place.is_dir():
            return place
    raise UnusableEnvironmentError(f"the data folder {name}/ is missing: reinstall fleetbench")

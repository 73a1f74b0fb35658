"""The files of infra/, as several tests read them."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"


class UnitFile(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # systemd's keys have a case


def unit(path: Path) -> ConfigParser:
    """A systemd unit; of a key that stands several times, the last."""
    parser = UnitFile(interpolation=None, comment_prefixes=("#",), delimiters=("=",), strict=False)
    parser.read_string(path.read_text().replace("\\\n", " "))
    return parser


def environment(path: Path) -> dict[str, str]:
    """An EnvironmentFile of systemd's."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def strings(tree: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(tree, dict):
        return [text for value in tree.values() for text in strings(value)]
    if isinstance(tree, list):
        return [text for value in tree for text in strings(value)]
    return [tree] if isinstance(tree, str) else []

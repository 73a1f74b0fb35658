"""Models of the Hugging Face hub: which commit is meant, and where its files lie on this machine.

Planning looks at the local cache alone; only `fetch` goes to the network, by the hub's own library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetbench.artifact.types import ArtifactError

COMMIT = re.compile(r"[0-9a-f]{40}\Z")
MAIN = "main"
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What engines read of a model's repository: no pickles, no pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A commit of a hub repository; folder: its snapshot on this machine, None where it is not here."""

    commit: str | None
    folder: Path | None


def pinned(hub: str, revision: str | None) -> Pinned:
    """What the local cache knows of it, without the network; a branch is what it was when it was last fetched."""
    place = cache_folder() / f"models--{hub.replace('/', '--')}"
    wanted = revision or MAIN
    commit = wanted if COMMIT.match(wanted) else _ref(place / "refs" / wanted)
    folder = place / "snapshots" / commit if commit else None
    return Pinned(commit=commit, folder=folder if folder and (folder / "config.json").is_file() else None)


def fetch(hub: str, revision: str | None, files: Sequence[str] = FILES) -> Pinned:
    """Download files of a commit, resuming what was begun; the token is the hub's own (HF_TOKEN or its file).

    Raises:
        ArtifactError: no library, no network, no such repository, no access; with what to do.
    """
    try:
        from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 - what the hub's library asks with, as below
        from huggingface_hub import errors, snapshot_download  # noqa: PLC0415 - an extra, needed here alone
    except ImportError as error:
        why = "the hub's library is not installed: pip install 'fleetbench[hub]', or download the model yourself"
        raise ArtifactError(f"model {hub} cannot be fetched: {why} and give its path") from error
    try:
        folder = Path(snapshot_download(hub, revision=revision or MAIN, allow_patterns=list(files)))
    except errors.GatedRepoError as error:
        why = "it is gated: accept its terms on its page, and set HF_TOKEN"
        raise ArtifactError(f"model {hub} cannot be fetched: {why}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        why = f"the hub has no such model{f' at {revision}' if revision else ''}, or HF_TOKEN gives no access"
        raise ArtifactError(f"model {hub} cannot be fetched: {why}") from error
    except (HTTPError, InvalidURL, OSError, ValueError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__).removeprefix("Got: ").rstrip(".")
        remedy = "see that the hub can be reached (the same command goes on), or download the model and give its path"
        raise ArtifactError(f"model {hub} cannot be fetched: {said}; {remedy}") from error
    return Pinned(commit=folder.name, folder=folder)


def cache_folder() -> Path:
    """Where the hub's library keeps what it fetched: HF_HUB_CACHE, else hub/ in HF_HOME, else below ~/.cache."""
    if own := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expanduser(os.path.expandvars(own)))  # noqa: PTH111 - leaves the home of nobody as it is
    if home := os.environ.get("HF_HOME"):
        return Path(os.path.expanduser(os.path.expandvars(home))) / "hub"  # noqa: PTH111
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "huggingface" / "hub"


def _ref(file: Path) -> str | None:
    try:
        commit = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.match(commit) else None

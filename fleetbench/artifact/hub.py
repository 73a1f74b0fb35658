"""Models of the Hugging Face hub: which commit is meant, and where its files lie on this machine.

Planning looks at the local cache alone; only `fetch` goes to the network, by the hub's own library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetbench.artifact.types import ArtifactError, PassingError

COMMIT = re.compile(r"[0-9a-f]{40}\Z")
MAIN = "main"
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What engines read of a model's repository: no pickles, no pictures."""
_BUSY = frozenset({408, 429})
"""Answers of a hub that has too much to do; those from 500 on are of one that fails."""
_SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A commit of a hub repository; folder: its snapshot on this machine, None where it is not here."""

    commit: str | None
    folder: Path | None


def pinned(hub: str, revision: str | None, cache: Path | None = None) -> Pinned:
    """What the local cache knows of it, without the network; a branch is what it was when it was last fetched."""
    place = (cache or cache_folder()) / f"models--{hub.replace('/', '--')}"
    wanted = revision or MAIN
    commit = wanted if COMMIT.match(wanted) else _ref(place / "refs" / wanted)
    folder = place / "snapshots" / commit if commit else None
    return Pinned(commit=commit, folder=folder if folder and (folder / "config.json").is_file() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How it is fetched: into which cache, with which token, from which hub; None for the library's own (HF_TOKEN ...).

    quiet: nobody looks at the bars of its progress; right: where its reader has a token, in words.
    """

    cache: Path | None = None
    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    quiet: bool = False
    right: str = "HF_TOKEN"


def fetch(hub: str, revision: str | None, files: Sequence[str] = FILES, way: Way = Way()) -> Pinned:
    """Download files of a commit, resuming what was begun.

    Raises:
        PassingError: no network, or a hub that fails or breaks off.
        ArtifactError: no library, no such repository, no access; with what to do.
    """
    try:
        from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 - what the hub's library asks with, as below
        from huggingface_hub import errors, snapshot_download  # noqa: PLC0415 - an extra, needed here alone
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - as above
    except ImportError as error:
        why = "the hub's library is not installed: pip install 'fleetbench[hub]', or download the model yourself"
        raise ArtifactError(f"model {hub} cannot be fetched: {why} and give its path") from error
    try:
        if way.quiet:
            disable_progress_bars()
        folder = Path(
            snapshot_download(
                hub,
                revision=revision or MAIN,
                allow_patterns=list(files),
                cache_dir=way.cache,
                token=way.token,
                endpoint=way.endpoint,
            )
        )
    except errors.GatedRepoError as error:
        why = f"it is gated: accept its terms on its page, and set {way.right}"
        raise ArtifactError(f"model {hub} cannot be fetched: {why}") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        why = f"the hub has no such model{f' at {revision}' if revision else ''}, or {way.right} gives no access"
        raise ArtifactError(f"model {hub} cannot be fetched: {why}") from error
    except (HTTPError, InvalidURL, OSError, ValueError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__).removeprefix("Got: ").rstrip(".")
        said = said if way.token is None else said.replace(way.token, "the token")
        remedy = "see that the hub can be reached (the same command goes on), or download the model and give its path"
        kind = PassingError if _may_pass(error) else ArtifactError
        raise kind(f"model {hub} cannot be fetched: {said}; {remedy}") from error
    return Pinned(commit=folder.name, folder=folder)


def _may_pass(error: BaseException) -> bool:
    """Whether the network or the hub failed, and did not refuse; the library wraps what happened in errors of its own.

    Its own store of large files has errors without a kind, and a file that came too short is one without a number.
    """
    from httpx2 import HTTPStatusError, LocalProtocolError, TransportError, UnsupportedProtocol  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled  # noqa: PLC0415

    match error:
        case HfHubHTTPError() | HTTPStatusError():
            code = error.response.status_code
            return code >= _SERVER_ERRORS or code in _BUSY
        case OfflineModeIsEnabled() | UnsupportedProtocol() | LocalProtocolError():
            return False
        case TransportError() | ConnectionError() | TimeoutError():
            return True
    if error.__cause__ is not None:
        return _may_pass(error.__cause__)
    return type(error) is RuntimeError or (type(error) is OSError and error.errno is None)


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

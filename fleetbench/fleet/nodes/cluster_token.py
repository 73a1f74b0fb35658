"""The cluster's token: who has it may run code on every node, so it is a private file, and nothing goes without."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from fleetbench.errors import UnusableEnvironmentError

MODE, PATH, VALUE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"
"""How Ray is told of it. The value itself in the environment is what Kubernetes gives to a pod."""
TLS = "RAY_USE_TLS"
TLS_FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
BYTES = 32
_MAX_BYTES = 4096
_ALWAYS = {
    MODE: "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`$RAY_AUTH_TOKEN_PATH`, else `token` in the user's folder of settings."""
    if named := environ.get(PATH):
        return Path(named).expanduser()
    folder = environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "fleetbench" / "token"


def find(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The token's file, looked into; None where the environment has the token itself.

    Raises:
        UnusableEnvironmentError: there is none, or others can read it, or it holds no token; with the remedy.
    """
    if given is None and environ.get(VALUE):
        read_value(environ)
        return None
    path = (default_path(environ) if given is None else given).absolute()
    read(path)
    return path


def read(path: Path) -> str:
    """The token in a private file; it goes into no message, log or row."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnusableEnvironmentError(f"the token {path} is no regular file (name the cluster's by --token)")
        # One of root's is read by its group or not at all: so are secrets that an orchestrator mounts.
        mounted = found.st_uid == 0 and os.geteuid() != 0
        if found.st_mode & (0o037 if mounted else 0o077):
            raise UnusableEnvironmentError(
                f"the token {path} can be used by others on this machine: chmod 600 {path}, and make a new one "
                "if somebody may have read it"
            )
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("ascii").strip()
    except FileNotFoundError as error:
        raise UnusableEnvironmentError(
            f"there is no cluster token at {path}: copy it from the head (there: fleetbench node up --head made it), "
            "or name its file by --token"
        ) from error
    except OSError as error:
        raise UnusableEnvironmentError(
            f"the token {path} cannot be read: {error.strerror} (see whose it is)"
        ) from error
    except UnicodeDecodeError as error:
        raise UnusableEnvironmentError(
            f"{path} holds no token: it is not ASCII (name the cluster's by --token)"
        ) from error
    if not text:
        raise UnusableEnvironmentError(f"the token {path} is empty: copy it from the head again")
    if not _is_word(text):
        raise UnusableEnvironmentError(f"{path} holds no token: it is no single word (name the cluster's by --token)")
    return text


def read_value(environ: Mapping[str, str]) -> str:
    """The token that the environment has itself; a header of HTTP must be able to carry it."""
    text = environ[VALUE].strip()
    if not text.isascii() or not _is_word(text):
        raise UnusableEnvironmentError(
            f"{VALUE} holds no token: it is no single word of ASCII (set it to the cluster's, or unset it)"
        )
    return text


def _is_word(text: str) -> bool:
    return 0 < len(text) <= _MAX_BYTES and text.isprintable() and " " not in text


def find_or_make(given: Path | None, environ: Mapping[str, str] = os.environ) -> tuple[Path | None, bool]:
    """The token's file, made where there is none; and whether it was made now."""
    if given is None and environ.get(VALUE):
        return find(None, environ), False
    path = (default_path(environ) if given is None else given).absolute()
    if os.path.lexists(path):
        return find(path), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # another one made it just now
        return find(path), False
    except OSError as error:
        raise UnusableEnvironmentError(
            f"no token can be made at {path}: {error.strerror} (choose another place by --token)"
        ) from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)  # whatever the umask took away
        file.write(secrets.token_hex(BYTES) + "\n")
    return path, True


def hand_to_ray(token: Path | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set how Ray authenticates, explicitly, since its defaults differ by how it is started.

    Ray reads this when it is imported, and never again. TLS passes through as it is.

    Raises:
        UnusableEnvironmentError: TLS is wanted and a file of it is missing.
    """
    check_tls(environ)
    environ.update(_ALWAYS)
    if token is not None:
        environ[PATH] = str(token)
        environ.pop(VALUE, None)  # which Ray would prefer


def uses_tls(environ: Mapping[str, str]) -> bool:
    return environ.get(TLS, "0").casefold() in ("1", "true")


def check_tls(environ: Mapping[str, str]) -> None:
    """Ray itself dies of a missing file, in a line of its log."""
    if not uses_tls(environ):
        return
    unset = [name for name in TLS_FILES if not environ.get(name)]
    if unset:
        raise UnusableEnvironmentError(f"{TLS} is set, and {', '.join(unset)} is not: name the file, or unset {TLS}")
    for name in TLS_FILES:
        if not os.access(environ[name], os.R_OK) or not Path(environ[name]).is_file():
            raise UnusableEnvironmentError(f"{name} names {environ[name]}, which is no file that can be read")

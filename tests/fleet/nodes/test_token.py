"""The cluster's token: private, never empty, never replaced, never in a message."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.nodes import cluster_token as token

SECRET = "5ec4e7" * 10


def write(path: Path, text: str = SECRET, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UnusableEnvironmentError) as caught:
        token.find(path, {})
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_token_that_others_can_use_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "token", mode=mode)
    said = refusal(path)
    assert f"chmod 600 {path}" in said
    assert SECRET not in said


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_token_is_taken(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "token", f"{SECRET}\n", mode)
    assert token.find(path, {}) == path
    assert token.read(path) == SECRET


@pytest.mark.parametrize("text", ["", "\n", "two words", "two\nlines", "\0", "schlüssel", "x" * 5000])
def test_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "token", text)
    said = refusal(path)
    assert str(path) in said
    assert not text.strip() or text not in said


def test_a_folder_a_fifo_and_nothing_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, word in (("", "no regular file"), ("fifo", "no regular file"), ("absent", "copy it from the head")):
        assert word in refusal(tmp_path / name)


def test_a_head_makes_a_private_token_once_whatever_the_umask(tmp_path: Path) -> None:
    for umask, name in ((0, "open"), (0o777, "shut")):
        before = os.umask(umask)
        try:
            path, made = token.find_or_make(tmp_path / name, {})
        finally:
            os.umask(before)
        assert made
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = token.read(path)
        assert len(first) == 64
        assert token.find_or_make(path, {}) == (path, False)
        assert token.read(path) == first


def test_the_folder_of_settings_is_made_for_it(tmp_path: Path) -> None:
    path, made = token.find_or_make(None, {"XDG_CONFIG_HOME": str(tmp_path / "new")})
    assert made
    assert path == tmp_path / "new" / "fleetbench" / "token"


def test_a_bad_token_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    path = write(tmp_path / "token", mode=0o644)
    with pytest.raises(UnusableEnvironmentError, match="chmod 600"):
        token.find_or_make(path, {})
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnusableEnvironmentError):
        token.find_or_make(tmp_path / "link", {})


def test_the_order_is_what_was_given_then_the_environment_then_the_settings(tmp_path: Path) -> None:
    given, named = write(tmp_path / "given"), write(tmp_path / "named")
    environ = {token.PATH: str(named), "XDG_CONFIG_HOME": str(tmp_path)}
    assert token.find(given, environ) == given
    assert token.find(None, environ) == named
    assert token.default_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "fleetbench" / "token"
    assert token.find(None, {token.VALUE: SECRET}) is None
    assert token.find(given, {token.VALUE: SECRET}) == given


def test_ray_is_told_of_token_mode_explicitly_and_of_one_token_only(tmp_path: Path) -> None:
    path = write(tmp_path / "token")
    environ = {token.VALUE: "another", token.MODE: "disabled"}
    token.hand_to_ray(path, environ)
    assert environ[token.MODE] == "token"
    assert environ[token.PATH] == str(path)
    assert token.VALUE not in environ


def test_tls_passes_through_and_its_missing_files_are_named(tmp_path: Path) -> None:
    files = {name: str(write(tmp_path / name)) for name in token.TLS_FILES}
    environ = {token.TLS: "1", **files}
    token.hand_to_ray(None, environ)
    assert {name: environ[name] for name in files} == files
    for name in token.TLS_FILES:
        with pytest.raises(UnusableEnvironmentError, match=name):
            token.check_tls({**environ, name: str(tmp_path / "absent")})
        with pytest.raises(UnusableEnvironmentError, match=f"{name} is not"):
            token.check_tls({key: value for key, value in environ.items() if key != name})
    token.check_tls({token.TLS: "0", token.TLS_FILES[0]: "absent"})

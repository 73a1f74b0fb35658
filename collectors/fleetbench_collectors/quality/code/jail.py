"""Starts one command where it reaches nothing: no network, no writable file, no other process, no privilege.

Run as a script by a plain `python -I -S`, hence the standard library only. Three processes: this one enters the
namespaces; its child is their first process, builds the file system and ends with this one; the child's child becomes
the command. When the first process of a pid namespace ends, the kernel ends all the others in it.
Says on the status pipe, in one line of JSON, how the command ended (`exit` or `signal`), or why it was not run
(`refused`).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any, NoReturn

NEW_MOUNTS, NEW_UTS, NEW_IPC = 0x20000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
BIND, RECURSIVE, PRIVATE, NOSUID, NODEV = 0x1000, 0x4000, 0x40000, 0x2, 0x4
DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
FILTER_MODE = 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
ATTR_READ_ONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
CANNOT_RUN = 127
NOBODY = 65534
OLD = "/.old"

libc = ctypes.CDLL(None, use_errno=True)


class BpfProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


class MountAttributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def prctl(option: int, *values: Any) -> None:
    words = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in [*values, 0, 0, 0, 0][:4]]
    check(libc.prctl(option, *words), f"prctl {option}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    text = [None if part is None else part.encode() for part in (source, target, kind)]
    check(libc.mount(*text, ctypes.c_ulong(flags), None if data is None else data.encode()), f"mount on {target}")


def enter_namespaces() -> None:
    """New ones of every kind; only who is not root needs a user namespace, and gives itself no other identity in it."""
    kinds = NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS | NEW_NET
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(kinds if uid == 0 else kinds | NEW_USER), "new namespaces")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123  pathlib is not worth its import time here
                file.write(text)


def build_root(shown: list[str], hidden: list[str]) -> None:
    """Makes a root of an empty memory file system: only `shown` is seen, `hidden` is empty, all is read-only."""
    mount(None, "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", NOSUID | NODEV, "size=1m,nr_inodes=4096,mode=755")  # noqa: S108  a place to mount on
    os.mkdir("/tmp" + OLD)  # noqa: PTH102, S108  as above
    check(libc.pivot_root(b"/tmp", ("/tmp" + OLD).encode()), "pivot_root")  # noqa: S108  as above
    os.chdir("/")
    for path in shown:
        show(path)
    for path in hidden:
        mount("tmpfs", path, "tmpfs", NOSUID | NODEV, "size=4k,mode=755")
    check(libc.umount2(OLD.encode(), DETACH), "umount of the old root")
    os.rmdir(OLD)  # noqa: PTH106  as above
    wanted = MountAttributes(set=ATTR_READ_ONLY | ATTR_NOSUID | ATTR_NODEV)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    code = libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(wanted), size)
    check(code, "making all read-only")


def show(path: str) -> None:
    source = OLD + path
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)  # noqa: PTH103, PTH120  as above
    if os.path.islink(source):  # noqa: PTH114  as above
        os.symlink(os.readlink(source), path)  # noqa: PTH115, PTH211  as above
        return
    if os.path.isdir(source):  # noqa: PTH112  as above
        os.mkdir(path, 0o755)  # noqa: PTH102  as above
    else:
        os.close(os.open(path, os.O_CREAT, 0o444))
    mount(source, path, None, BIND | RECURSIVE)


def become(order: dict[str, Any]) -> NoReturn:
    """Gives up every privilege and is the command from here on."""
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        # After the change of uid: a uid that is over its number of processes could not call exec.
        for name, (soft, hard) in order["limits"].items():
            resource.setrlimit(getattr(resource, name), (soft, hard))
        if order["filter"]:
            steps = bytes.fromhex(order["filter"])
            prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(BpfProgram(len(steps) // 8, steps)))
        os.execve(order["command"][0], order["command"], order["environment"])  # noqa: S606  no shell is wanted
    except (OSError, ValueError) as error:  # ValueError: a machine whose own limits are below ours
        say(order["status"], refused=f"the command could not be started: {error}")
        os._exit(CANNOT_RUN)


def say(status: int, **message: object) -> None:
    os.write(status, json.dumps(message).encode() + b"\n")


def be_first(order: dict[str, Any], life: int) -> NoReturn:
    """The first process of the namespaces: builds, starts the command, and waits for its end, `wall_s` at most."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([life], [], [], 0)[0]:  # its end was closed before the line above
        os._exit(CANNOT_RUN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(CANNOT_RUN))
    signal.alarm(order["wall_s"])
    try:
        build_root(order["shown"], order["hidden"])
    except OSError as error:
        say(order["status"], refused=str(error))
        os._exit(CANNOT_RUN)
    os.set_inheritable(order["status"], False)
    pid = os.fork()
    if pid == 0:
        become(order)
    os.close(order["keep"])
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            break
    code = os.waitstatus_to_exitcode(status)
    say(order["status"], **({"exit": code} if code >= 0 else {"signal": -code}))
    os._exit(0)


def main() -> int:
    order = json.loads(sys.argv[1])
    owner = order["owner"]
    os.umask(0o022)  # the command runs as another user and must reach what is shown
    try:
        enter_namespaces()
        # Not before: a change of credentials forgets it.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except OSError as error:
        say(order["status"], refused=str(error))
        return CANNOT_RUN
    if os.getppid() != owner:
        return CANNOT_RUN
    life, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(held)
        be_first(order, life)
    os.close(order["keep"])
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

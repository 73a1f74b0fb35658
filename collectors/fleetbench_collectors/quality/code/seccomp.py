"""The system calls that generated code has no business with, as a BPF program for the kernel."""

from __future__ import annotations

import struct
from typing import NamedTuple

_LOAD_WORD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT = 0, 4
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_X32 = 0x40000000

_NEWER = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "memfd_secret": 447,
}
"""From 424 on every architecture has the same numbers."""


class _Arch(NamedTuple):
    audit: int
    calls: dict[str, int]


# Processes, sockets, mounts and namespaces, memory that no limit counts, other processes' memory, kernel modules.
_ARCHES = {
    "x86_64": _Arch(
        0xC000003E,
        {
            "clone": 56,
            "fork": 57,
            "vfork": 58,
            "socket": 41,
            "socketpair": 53,
            "ptrace": 101,
            "mount": 165,
            "umount2": 166,
            "pivot_root": 155,
            "chroot": 161,
            "unshare": 272,
            "setns": 308,
            "bpf": 321,
            "perf_event_open": 298,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "userfaultfd": 323,
            "memfd_create": 319,
            "shmget": 29,
            "semget": 64,
            "msgget": 68,
            "mq_open": 240,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kexec_load": 246,
            "init_module": 175,
            "finit_module": 313,
            "open_by_handle_at": 304,
            "fanotify_init": 300,
        },
    ),
    "aarch64": _Arch(
        0xC00000B7,
        {
            "clone": 220,
            "socket": 198,
            "socketpair": 199,
            "ptrace": 117,
            "mount": 40,
            "umount2": 39,
            "pivot_root": 41,
            "chroot": 51,
            "unshare": 97,
            "setns": 268,
            "bpf": 280,
            "perf_event_open": 241,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "userfaultfd": 282,
            "memfd_create": 279,
            "shmget": 194,
            "semget": 190,
            "msgget": 186,
            "mq_open": 180,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kexec_load": 104,
            "init_module": 105,
            "finit_module": 273,
            "open_by_handle_at": 265,
            "fanotify_init": 262,
        },
    ),
}
MACHINES = tuple(_ARCHES)


def assemble(machine: str) -> bytes:
    """`struct sock_filter` after `struct sock_filter`: what is listed, or is of a foreign ABI, ends by SIGSYS.

    Killed, not refused by an error: code that tries is told from code that fails, whatever it catches.

    Raises:
        KeyError: a machine whose system call numbers are not known here.
    """
    arch = _ARCHES[machine]
    numbers = sorted({*arch.calls.values(), *_NEWER.values()})
    steps = [(_LOAD_WORD, 0, 0, _ARCH_AT), (_IF_EQUAL, 0, len(numbers) + 3, arch.audit)]
    steps += [(_LOAD_WORD, 0, 0, _NUMBER_AT), (_IF_AT_LEAST, len(numbers) + 1, 0, _X32)]
    steps += [(_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _KILL_PROCESS)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)

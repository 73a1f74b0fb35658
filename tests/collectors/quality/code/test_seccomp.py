from __future__ import annotations

import struct

import pytest

from fleetbench_collectors.quality.code import seccomp

KILL, ALLOW = 0x80000000, 0x7FFF0000
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# From the kernel's unistd.h: socket, clone, ptrace, unshare; then read, write, mmap, exit_group, execve, getrandom.
FORBIDDEN = {"x86_64": (41, 56, 101, 272, 435, 425), "aarch64": (198, 220, 117, 97, 435, 425)}
FREE = {"x86_64": (0, 1, 9, 231, 59, 318), "aarch64": (63, 64, 222, 94, 221, 278)}


def decide(program: bytes, arch: int, number: int) -> int:
    """What the kernel would make of one system call: classic BPF, as far as the program uses it."""
    steps = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, if_true, if_false, k = steps[at]
        at += 1
        if code == 0x20:
            value = {0: number, 4: arch}[k]
        elif code in (0x15, 0x35):
            at += if_true if (value == k if code == 0x15 else value >= k) else if_false
        else:
            assert code == 0x06
            return int(k)


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_what_is_forbidden_kills_and_what_python_needs_is_let_through(machine: str) -> None:
    program = seccomp.assemble(machine)
    assert {decide(program, ARCHES[machine], number) for number in FORBIDDEN[machine]} == {KILL}
    assert {decide(program, ARCHES[machine], number) for number in FREE[machine]} == {ALLOW}


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_calls_by_another_abi_kill(machine: str) -> None:
    program = seccomp.assemble(machine)
    assert decide(program, 0x40000003, FREE[machine][0]) == KILL
    assert decide(program, ARCHES[machine], 0x40000000 + FREE[machine][0]) == KILL

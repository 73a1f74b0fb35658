"""Attacks on the real sandbox: none may pass, reach anything, or leave anything running."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench_collectors.quality.code import proof
from fleetbench_collectors.quality.code.refused import SandboxRefusedError
from fleetbench_collectors.quality.code.sandbox import Sandbox
from fleetbench_collectors.quality.code.score import Kind, judge
from tests.collectors.quality.code.test_score import CODE, ITEM

pytestmark = pytest.mark.tool

DESCRIPTOR = "int(__import__('sys').argv[1])"
WRONG = "def double(n):\n    return 0\n"


def attack(sandbox: Sandbox, code: str) -> Kind:
    return judge(ITEM, sandbox.run(code, ITEM.entry, ITEM.calls)).kind


def test_right_code_passes_with_the_standard_library_at_hand(sandbox: Sandbox) -> None:
    code = "import collections, functools, heapq, itertools, json, math, re, string, decimal, bisect, typing\n" + CODE
    assert attack(sandbox, code + "print('noise', 'é')\n") == Kind.PASSED


def test_runs_side_by_side_do_not_disturb_each_other(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(4) as pool:
        kinds = list(pool.map(lambda i: attack(sandbox, CODE if i % 2 else WRONG), range(8)))
    assert kinds == [Kind.WRONG, Kind.PASSED] * 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import sys; sys.exit(0)\n", Kind.ERROR),
        ("import os; os._exit(0)\n", Kind.ERROR),
        ("def double(n):\n    raise SystemExit(0)\n", Kind.ERROR),
        ("def double(n):\n    raise KeyboardInterrupt\n", Kind.ERROR),
        ("def double(n):\n    return double(n)\n", Kind.ERROR),
        ("def double(n)\n", Kind.ERROR),
        ("import ctypes\ndef double(n):\n    ctypes.string_at(0)\n", Kind.ERROR),
        (
            "import os, sys\ndef double(n):\n    os.execv(sys.executable, [sys.executable, '-S', '-c', ''])\n",
            Kind.ERROR,
        ),
        ("import atexit\natexit.register(lambda: print('passed'))\n" + WRONG, Kind.WRONG),
        ("print('{\"value\": 2}')\n" + WRONG, Kind.WRONG),
        ("class Any(int):\n    def __eq__(self, other): return True\ndef double(n):\n    return Any()\n", Kind.WRONG),
        ("class Any:\n    def __eq__(self, other): return True\ndef double(n):\n    return Any()\n", Kind.WRONG),
        ("class Any(dict):\n    def __missing__(self, k): return 1\ndef double(n):\n    return Any()\n", Kind.WRONG),
        ("import json\njson.dumps = lambda *_: '{\"value\": true}'\n" + WRONG, Kind.WRONG),
        ("import __main__\n__main__.plain = lambda *_: True\n__main__.same = lambda *_: True\n" + WRONG, Kind.WRONG),
        ("import builtins\nbuiltins.all = builtins.any = builtins.type = lambda *_: True\n" + WRONG, Kind.ERROR),
        (f"import os\nos.write({DESCRIPTOR}, b'{{\"value\": 2}}\\n' * 3)\nos._exit(0)\n", Kind.WRONG),
        (f"import os\nos.write({DESCRIPTOR}, b'{{\"value\": 2}}\\n' * 9)\nos._exit(0)\n", Kind.VIOLATION),
        (f"import os\nos.write({DESCRIPTOR}, b'{{\"passed\": true}}\\n')\n" + CODE, Kind.VIOLATION),
        (f"import os\nos.close({DESCRIPTOR})\n" + CODE, Kind.ERROR),
        (f"import os\nwhile True: os.write({DESCRIPTOR}, b'x' * 4096)\n", Kind.VIOLATION),
        ("def double(n):\n    return 'x' * 10**7\n", Kind.VIOLATION),
    ],
)
def test_nothing_that_code_says_or_raises_forges_a_pass(code: str, kind: Kind, sandbox: Sandbox) -> None:
    assert attack(sandbox, code) == kind


def test_the_right_values_are_nowhere_in_the_sandbox(sandbox: Sandbox) -> None:
    code = """
import gc, sys
def double(n):
    frame, seen = sys._getframe(1), []
    while frame:
        seen.append(repr(frame.f_locals) + repr(frame.f_globals))
        frame = frame.f_back
    sys.stdin.buffer.seek(0)
    seen.append(repr(sys.stdin.buffer.read()) + repr(sys.argv[2:]))
    seen += [repr(thing) for thing in gc.get_objects() if type(thing) in (list, dict, tuple)]
    return [n in "".join(seen), "".join(["mark", "-", "93817"]) in "".join(seen)]
"""
    found = sandbox.run(code, ITEM.entry, [["argument-4410"]])
    assert found.replies == b'{"value": [true, false]}\n'
    item = replace(ITEM, calls=(["argument-4410"],), expected=("mark-93817",))
    assert judge(item, found).kind == Kind.WRONG


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def double(n):\n    while True: pass\n", Kind.TIMEOUT),
        ("def double(n):\n    return 10 ** 10 ** 9\n", Kind.TIMEOUT),
        ("while True: print('x' * 1000)\n", Kind.TIMEOUT),
        ("import re\ndef double(n):\n    return re.match('(a*)*b', 'a' * 99)\n", Kind.TIMEOUT),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass\n", Kind.ERROR),
        ("def double(n):\n    return [0] * 10**9\n", Kind.MEMORY),
        ("def double(n):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n", Kind.MEMORY),
        ("import os\ndef double(n):\n    while True: os.fork()\n", Kind.VIOLATION),
        ("import threading\nthreading.Thread(target=print).start()\n" + CODE, Kind.VIOLATION),
        ("import subprocess\nsubprocess.run(['true'])\n" + CODE, Kind.VIOLATION),
        ("import os\nos.system('true')\n" + CODE, Kind.VIOLATION),
        ("import os\nkept = [os.open('/', os.O_RDONLY) for _ in range(99)]\n" + CODE, Kind.ERROR),
        ("import os\nos.memfd_create('x')\n" + CODE, Kind.VIOLATION),
        ("import socket\nsocket.socket()\n" + CODE, Kind.VIOLATION),
        ("import socket\nsocket.socketpair()\n" + CODE, Kind.VIOLATION),
        ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')\n" + CODE, Kind.VIOLATION),
        ("import ctypes\nctypes.CDLL(None).unshare(0x10000000)\n" + CODE, Kind.VIOLATION),
        ("import ctypes\nctypes.CDLL(None).ptrace(16, 1, 0, 0)\n" + CODE, Kind.VIOLATION),
        ("open('/usr/lib/x', 'w')\n" + CODE, Kind.ERROR),
        ("open('/x', 'w')\n" + CODE, Kind.ERROR),
        ("import tempfile\ntempfile.TemporaryFile()\n" + CODE, Kind.ERROR),
        ("import os\nos.setuid(0)\n" + CODE, Kind.ERROR),
        ("import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (9, 9))\n" + CODE, Kind.ERROR),
        ("import fleetbench_collectors\n" + CODE, Kind.ERROR),
        ("import numpy\n" + CODE, Kind.ERROR),
    ],
)
def test_what_an_answer_may_use_is_bounded(code: str, kind: Kind, sandbox: Sandbox) -> None:
    assert attack(sandbox, code) == kind


def test_code_that_sleeps_is_ended_by_the_clock(sandbox: Sandbox) -> None:
    impatient = replace(sandbox, limits=replace(sandbox.limits, wall_s=1))
    assert attack(impatient, "import time\ntime.sleep(1000)\n") == Kind.TIMEOUT


def test_no_signal_leaves_the_sandbox(sandbox: Sandbox) -> None:
    tries = f"""
import os, signal
for pid in (1, -1, {os.getpid()}):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""
    assert attack(sandbox, tries + CODE) == Kind.PASSED


def test_only_an_interpreter_and_its_libraries_are_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("in plain sight")
    secret.chmod(0o644)
    code = """
import os
def double(path):
    there = os.path.exists(path)
    return [there, os.listdir(path) if there else []]
"""
    seen = [str(secret), str(tmp_path), str(Path(__file__).parents[4])]
    seen += ["/proc", "/dev", "/etc", "/home", "/sys", "/var"]
    assert sandbox.run(code, "double", [[path] for path in seen]).replies == b'{"value": [false, []]}\n' * len(seen)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


@pytest.mark.usefixtures("sandbox")
def test_the_sandbox_ends_with_the_one_who_opened_it() -> None:
    code = "from fleetbench_collectors.quality.code.sandbox import Limits, Sandbox\n"
    code += "box = Sandbox.open(Limits(wall_s=600))\nprint('open', flush=True)\n"
    code += "box.run('import time; time.sleep(900)', 'f', [])\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "open\n"
            deadline = time.monotonic() + 20
            while len(below := _descendants(owner.pid)) < 3 and time.monotonic() < deadline:
                select.select([], [], [], 0.01)
            handles = [os.pidfd_open(pid) for pid in below]
        finally:
            owner.kill()
    assert len(handles) == 3
    for handle in handles:
        assert select.select([handle], [], [], 20)[0]
        os.close(handle)


def test_a_sandbox_that_cannot_be_built_is_refused_and_not_the_answers_fault(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefusedError, match="mount on /nowhere"):
        replace(sandbox, shown=("/nowhere",)).run(CODE, "double", [[1]])


def test_a_sandbox_that_shows_a_file_of_this_machine_is_refused(sandbox: Sandbox) -> None:
    leaky = replace(sandbox, shown=(*sandbox.shown, tempfile.gettempdir()), system_calls=b"")
    with pytest.raises(SandboxRefusedError, match="reads files of this machine"):
        proof.prove(leaky.run, sandbox.run)


def test_a_sandbox_without_its_filter_is_refused(sandbox: Sandbox) -> None:
    bare = replace(sandbox, system_calls=b"")
    with pytest.raises(SandboxRefusedError, match="filter of system calls"):
        proof.prove(bare.run, bare.run)


def test_a_machine_whose_system_calls_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxRefusedError, match="x86_64 or aarch64, and this is riscv64"):
        Sandbox.open()

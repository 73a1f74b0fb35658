"""A process that hangs in C with the interpreter's lock held still ends with a sentence."""

from __future__ import annotations

import subprocess
import sys

HANGING = """
import ctypes
from fleetbench.fleet.nodes.deadline import deadline
locked = ctypes.PyDLL(None)
with deadline(0.2, "that is in time"):
    pass
locked.usleep(500_000)
print("alive", flush=True)
with deadline(0.2, "100 % of it hangs"):
    locked.sleep(60)
"""


def test_what_hangs_though_no_python_can_run_ends_with_its_sentence_and_what_is_in_time_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "alive\n", "error: 100 % of it hangs\n")

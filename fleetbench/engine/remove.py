"""Removes a container, running or not, and makes sure: `python -I -S remove.py PROGRAM NAME`.

Run by the guard once all else is dead, hence the standard library only: a container outlives a killed client.
"""

from __future__ import annotations

import subprocess
import sys
import time

LIMIT_S = 25.0
AGAIN_S = 0.2


def remove(program: str, name: str) -> bool:
    """True where no container of this name is left.

    Whether it was there is not asked: docker and podman differ in what they exit with where it was not. A container
    that is being removed already (it was run with --rm) is listed for a moment more.
    """
    until = time.monotonic() + LIMIT_S
    listing = [program, "ps", "--all", "--quiet", "--filter", f"name={name}"]
    while (left := until - time.monotonic()) > 0:
        try:
            subprocess.run([program, "rm", "--force", name], timeout=left, check=False)
            listed = subprocess.run(listing, timeout=left, check=False, stdout=subprocess.PIPE)
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"remove: cannot remove the container {name}: {error}\n")
            return False
        if listed.returncode == 0 and not listed.stdout.strip():
            return True
        time.sleep(AGAIN_S)
    return False


if __name__ == "__main__":
    sys.exit(0 if remove(sys.argv[1], sys.argv[2]) else 1)

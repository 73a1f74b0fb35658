from __future__ import annotations

import pytest

from fleetbench_collectors.quality.code.refused import SandboxRefusedError
from fleetbench_collectors.quality.code.sandbox import Limits, Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """The real one, with little time and memory."""
    try:
        return Sandbox.open(Limits(cpu_s=1, wall_s=20, memory_bytes=128 << 20, reply_bytes=1 << 16))
    except SandboxRefusedError as error:
        pytest.skip(str(error))

"""The truth server, built once for all tests of a run."""

from __future__ import annotations

import pytest

from tests.truth.run import build


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line that starts it."""
    return build(tmp_path_factory.getbasetemp() / "truth-server")

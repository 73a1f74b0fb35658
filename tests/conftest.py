"""What several rooms' tests share: the tiny model as GGUF, and the real engine that serves it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from fleetbench.engine.protocol import Session

hypothesis.settings.register_profile("fleetbench", deadline=None)
hypothesis.settings.load_profile("fleetbench")


ALLOW_SKIPS = "FLEETBENCH_ALLOW_SKIPS"
"""Set to 0 where every tool is installed, so that a test that skips there is a failure."""
_skipped: list[str] = []
LONGEST = ("test_submit.py", "test_faults.py")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get(ALLOW_SKIPS) == "0":
        print(f"\n{len(_skipped)} skipped, where {ALLOW_SKIPS}=0 allows none: {', '.join(_skipped)}")  # noqa: T201
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes goes first: begun last, it alone would run while the other cores have nothing left."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the settings of the machine it runs on."""
    settings = tmp_path_factory.mktemp("settings") / "node.yaml"
    settings.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETBENCH_NODE", str(settings))
        yield


@pytest.fixture(scope="session")
def artifact_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of checkpoints for the whole session: each is made once."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="session")
def gguf(artifact_cache: Path) -> Callable[[str, str], Path]:
    """The GGUF file of an embedded model in a weight format."""
    from fleetbench.artifact import build, source  # noqa: PLC0415  pure tests need not load it
    from fleetbench.artifact.types import ArtifactOrder  # noqa: PLC0415  as above

    def make(model: str, weights: str) -> Path:
        order = ArtifactOrder(
            artifact_id=hashlib.sha256(f"{model} {weights}".encode()).hexdigest()[:16],
            model=model,
            model_path=None,
            model_digest=source.inspect(model, None).digest,
            weights=weights,
        )
        return build.ensure(order, artifact_cache).path

    return make


@pytest.fixture(scope="session")
def tiny_gguf(gguf: Callable[[str, str], Path]) -> Path:
    """The trained tiny model, F16."""
    return gguf("tiny", "f16")


@pytest.fixture(scope="session")
def tiny_session(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A llama.cpp that serves the tiny model as `tiny`: 4 slots of 1,024 tokens, one thread."""
    from fleetbench.engine import lease, protocol, start  # noqa: PLC0415  as above
    from fleetbench.engine.llamacpp import LlamaCpp  # noqa: PLC0415  as above
    from fleetbench.engine.runtime import NodeEngine, Wheel  # noqa: PLC0415  as above
    from fleetbench.matrix.types import KvFormat, Recipe  # noqa: PLC0415  as above

    spec = protocol.LaunchSpec(
        model_path=tiny_gguf,
        model_name="tiny",
        checkpoint="gguf",
        recipe=Recipe(name="f16", weights="f16", kv=KvFormat(k="f16", v="f16")),
        slots=4,
        context_tok=1024,
        threads=1,
        seed=0,
        log=tmp_path_factory.mktemp("engine") / "engine.log",
        timeout_s=60,
    )
    embedded = NodeEngine(name="llamacpp", runtime=Wheel())
    with start.start(LlamaCpp(), embedded, spec, lease.new_lease("tests")) as session:
        yield session


@pytest.fixture(scope="session")
def tiny_url(tiny_session: Session) -> str:
    """The base URL of `tiny_session`."""
    return tiny_session.receipt.base_url

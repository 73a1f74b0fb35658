"""Reads the sources at an interval, in a thread, for as long as a trial lasts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

from fleetbench_collectors.power.common import Availability, ReadFailedError, Reading, Source, Status


class Sampler:
    """Opens the sources on entering and closes them on leaving; reads once at both, so that they bracket the trial."""

    def __init__(self, sources: Sequence[Source], interval_s: float = 0.1) -> None:
        self._sources = tuple(sources)
        self._interval_s = interval_s
        self._found: dict[str, Availability] = {}
        self._readings: list[tuple[str, Reading]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="power", daemon=True)

    def __enter__(self) -> Self:
        for source in self._sources:
            self._found[source.name] = source.open()
        self._read()
        if self.live:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._read()
        for source in self._sources:
            source.close()

    @property
    def live(self) -> list[Source]:
        """The sources that can be read."""
        return [source for source in self._sources if self._found[source.name].status is Status.AVAILABLE]

    def rows(self, *, run_id: str, trial_id: str, attempt: int) -> list[dict[str, Any]]:
        """Rows of `tables.POWER`: one a reading, and one for each source that has none, with why."""
        key = {"run_id": run_id, "trial_id": trial_id, "attempt": attempt}
        without = [
            {**key, "source": name, "status": found.status.value, "detail": found.detail}
            for name, found in self._found.items()
            if found.status is not Status.AVAILABLE
        ]
        read = [
            {**key, "source": name, "status": Status.AVAILABLE.value, "detail": None, **asdict(reading)}
            for name, reading in self._readings
        ]
        return without + read

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._read()

    def _read(self) -> None:
        for source in self.live:
            try:
                self._readings.extend((source.name, reading) for reading in source.read())
            except ReadFailedError as error:
                self._found[source.name] = Availability(status=Status.UNSUPPORTED, detail=str(error))

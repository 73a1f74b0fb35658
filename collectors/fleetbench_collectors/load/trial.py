"""One speed trial in this process: warm-up, measured requests, rows, evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fleetbench_collectors import clock
from fleetbench_collectors.load import certify, latency, steady
from fleetbench_collectors.load.drive import Drive
from fleetbench_collectors.load.record import Records
from fleetbench_collectors.load.rows import table
from fleetbench_collectors.load.spec import LoadSpec, SpecError
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.workload import Share


def run(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the trial of a JSON specification.

    Returns:
        tables: `requests`, rows of `tables.REQUESTS` with times in ns since the clock pair.
        summary: columns of `trials`: the clock pair, all of `latency.summarise` and of `figures`.
        evidence: `evidence.Evidence` as JSON, for a verdict.
        window: [start, end] of the measured requests in ns of the monotonic clock itself, for what was
            sampled meanwhile; None where no request went well, or the clock was set meanwhile.

    Raises:
        SpecError: the specification is wrong.
    """
    spec = LoadSpec.from_json(raw)
    pair = clock.pair()
    records, tally = _driven(spec)
    found = steady.find(records, batch=spec.batch)
    evidence = certify.collect(records, [tally], found, asked=spec.requests, batch=spec.batch)
    bounds = latency.window(records)
    key = {"run_id": spec.run_id, "trial_id": spec.trial_id, "attempt": spec.attempt}
    return {
        "tables": {"requests": table(records, key=key, zero_ns=pair.mono_ns, stamp=evidence.client.stamp or "user")},
        "summary": {
            "clock_wall_ns": pair.wall_ns,
            "clock_mono_ns": pair.mono_ns,
            **latency.summarise(records, asked_requests=spec.requests),
            **certify.figures(records, found, evidence),
        },
        "evidence": evidence.to_json(),
        "window": None if bounds is None else list(bounds),
    }


def _driven(spec: LoadSpec) -> tuple[Records, Tally]:
    try:
        drive = Drive(spec.workload(), Share())
    except ValueError as error:
        raise SpecError(str(error)) from error
    try:
        drive.prepare()
        drive.measure(time.monotonic_ns())
    finally:
        drive.close()
    return drive.records, drive.tally()

"""`fleetbench doctor`: what this machine has and lacks."""

from __future__ import annotations

from pathlib import Path

import click

from fleetbench.cli.options import format_option, warehouse_option

UNUSABLE = 4
MARKS = {"ok": "green", "note": "yellow", "lack": "red"}


@click.command()
@warehouse_option
@format_option
def doctor(warehouse: Path, form: str) -> int:
    """Say what this machine has and lacks, with the remedy for each lack.

    Exit 4 where something is missing without which nothing can be measured.
    """
    from fleetbench.cli.output import show
    from fleetbench.fleet.examination import examine
    from fleetbench.report.result import Result

    findings = examine(warehouse)
    if form == "table":
        for finding in findings:
            mark = click.style(f"{finding.verdict:<5}", fg=MARKS[finding.verdict])
            click.echo(f"{mark} {finding.subject:<13} {finding.found}")
            if finding.remedy:
                click.echo(f"{'':<19} → {finding.remedy}")
    else:
        rows = tuple((one.subject, one.verdict, one.found, one.remedy) for one in findings)
        show(Result(columns=("subject", "verdict", "found", "remedy"), rows=rows), form)
    return UNUSABLE if any(finding.verdict == "lack" for finding in findings) else 0

"""`fleetbench bench`: the load generator by itself, on a server that runs already."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from fleetbench.cli.grouped import Grouped, under
from fleetbench.cli.options import FORMATS, Folder, Store
from fleetbench.cli.values import Parsed, body, burstiness, header, lengths, name, positive, ramp, stages
from fleetbench.store.url import BucketUrl
from fleetbench_collectors.load.workload import IN_FLIGHT_MAX

if TYPE_CHECKING:
    from fleetbench.bench.asked import Asked
    from fleetbench_collectors.load.arrivals import Segment

Value = TypeVar("Value")

DEFAULT_SECONDS = 30.0
_SEED_MAX = 2**63 - 1


LENGTHS = Parsed("lengths", lengths)
SECONDS = Parsed("seconds", positive)
COUNT = click.IntRange(1, 100_000_000)
PROCESSES = ("constant", "poisson", "gamma")
ENDPOINTS = ("completions", "chat")
STAMPS = ("auto", "user")
FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)
load, asks, client, gives = under("The load"), under("What is asked"), under("The client"), under("The result")
EPILOG = """\b
Examples:
  fleetbench bench http://localhost:8000 --batch 64 --seconds 60
  fleetbench bench http://localhost:8000 --rate 5 --seconds 60 --slo ttft:500
  fleetbench bench http://localhost:8000 --endpoint chat --context 256..1024
"""


@click.command(cls=Grouped, epilog=EPILOG)
@click.argument("url", metavar="URL")
@load("--batch", type=COUNT, metavar="N", help="Requests held in flight (closed loop).  [default: 1]")
@load("--rate", type=Parsed("rate", positive), metavar="R", help="Requests started per second (open loop).")
@load("--ramp", type=Parsed("ramp", ramp), metavar="A..BxS", help="A rate from A to B in S seconds; B from then on.")
@load(
    "--stages", type=Parsed("stages", stages), metavar="RxS,...", help="A rate of R for S seconds, one after another."
)
@load("--trace", type=FILE, metavar="FILE", help="Replay a trace: Mooncake JSONL, BurstGPT CSV.")
@load("--speed", type=Parsed("speed", positive), metavar="X", help="Replay the trace X times as fast.")
@load(
    "--arrivals", type=click.Choice(PROCESSES), metavar="KIND", help="constant, poisson or gamma.  [default: poisson]"
)
@load(
    "--burstiness",
    type=Parsed("burstiness", burstiness),
    metavar="X",
    help="Of gamma arrivals; below 1 they come in bursts.",
)
@load("--max-in-flight", type=COUNT, metavar="N", help=f"Bound of an open loop.  [default: {IN_FLIGHT_MAX}]")
@load("--requests", type=COUNT, metavar="N", help="Send N requests.")
@load("--seconds", type=SECONDS, metavar="S", help="Start requests for S seconds.  [default: 30]")
@load(
    "--warmup",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Requests before, kept apart.  [default: 0]",
)
@asks("--model", type=Parsed("name", name), metavar="NAME", help="Model to ask for.  [default: the server's first]")
@asks(
    "--endpoint",
    type=click.Choice(ENDPOINTS),
    metavar="KIND",
    help="completions or chat.  [default: as the URL ends, else completions]",
)
@asks("--context", type=LENGTHS, default="128", metavar="LEN", help="Prompt tokens.  [default: 128]")
@asks("--output", type=LENGTHS, default="128", metavar="LEN", help="Output tokens.  [default: 128]")
@asks(
    "--tokenizer",
    type=Folder(),
    metavar="DIR",
    help="Folder with the model's tokenizer.json; else the server's own counts tell the length.",
)
@asks(
    "--shared-prefix",
    type=click.IntRange(0),
    default=0,
    metavar="TOK",
    help="Tokens that all prompts begin with.  [default: 0]",
)
@asks("--prompts", type=FILE, metavar="FILE", help="Take prompts from ShareGPT JSON, JSONL or lines of text.")
@asks("--unique", is_flag=True, help="Put a line of its own before each prompt of the file.")
@asks(
    "--seed",
    type=click.IntRange(-_SEED_MAX, _SEED_MAX),
    default=0,
    metavar="N",
    help="Of prompts, lengths, arrivals and sampling.  [default: 0]",
)
@asks("--body", type=Parsed("body", body), metavar="JSON", help="Keys to add to each request; null removes one.")
@client(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="Of the client, each on a core of its own.  [default: 1]",
)
@client("--timeout", type=SECONDS, default="300", metavar="S", help="Of a request, to its last byte.  [default: 300]")
@client(
    "--stamp",
    type=click.Choice(STAMPS),
    default=STAMPS[0],
    metavar="KIND",
    help="auto (the kernel's, where it has them) or user.  [default: auto]",
)
@client(
    "--header",
    multiple=True,
    type=Parsed("header", header),
    metavar="'NAME: VALUE'",
    help="Send a header along; as often as needed.",
)
@client("--api-key", envvar="FLEETBENCH_API_KEY", metavar="KEY", help="Or set FLEETBENCH_API_KEY.")
@client("--proxy", metavar="URL", help="Go through an HTTP proxy.")
@client("--ca", type=FILE, metavar="FILE", help="Trust these certificates instead of the system's.")
@client("--insecure", is_flag=True, help="Trust any certificate.")
@gives(
    "--slo",
    multiple=True,
    metavar="NAME:MS,...",
    help="Count the requests that meet all of ttft, itl (its p99), tpot, e2e.",
)
@gives("--warehouse", type=Store(), metavar="DIR|s3://...", help="Keep the result there, beside those of runs.")
@gives(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the result there too, as JSON.",
)
@gives(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    metavar="KIND",
    help="table, json, csv or markdown.  [default: table]",
)
def bench(
    url: str, form: str, warehouse: Path | BucketUrl | None, out: Path | None, processes: int, **options: Any
) -> int:
    """Measure a server that runs already.

    URL is its base, http://HOST:PORT. LEN is a number, a range 64..512, or a distribution: normal:512,64 or
    lognormal:512,0.5, each with bounds if wanted: normal:512,64,16..2048.

    \b
      fleetbench bench http://localhost:8000 --batch 64 --seconds 60
      fleetbench bench http://localhost:8000 --rate 5 --requests 500 \\
        --context 1024 --output 128 --slo ttft:500,itl:50

    Every figure comes with a verdict: whether the client kept up, the lengths were as asked, and no cache helped.
    Ctrl-C ends the load, and reports what was done. Exit codes: 0 valid, 1 not valid, 2 wrong input, 3 interrupted.
    """  # noqa: D301 - click looks for the backspace itself
    asked = _asked(url, processes, options)
    # Until its own handlers are there: an interrupt in the middle of an import may come out as any other error.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fleetbench.cli.bench_run import bench as run

    return run(asked, form=form, warehouse=warehouse, out=out)


def _asked(url: str, processes: int, given: Mapping[str, Any]) -> Asked:
    """The options together; what contradicts itself is a usage error."""
    from fleetbench.bench.asked import Asked
    from fleetbench_collectors.load.target import Target
    from fleetbench_collectors.load.workload import File

    arrivals, text = _arrivals(given)
    batch = (given["batch"] or 1) if arrivals is None else None
    requests, seconds = given["requests"], given["seconds"]
    if requests is None and seconds is None and given["trace"] is None:
        seconds = DEFAULT_SECONDS if given["ramp"] is None else given["ramp"].segments[0].seconds
    _check(given, batch=batch, processes=processes)
    try:
        target = Target.parse(
            url,
            proxy=given["proxy"],
            verify=not given["insecure"],
            ca=None if given["ca"] is None else str(given["ca"]),
        )
        targets = _targets(given["slo"])
    except ValueError as error:
        raise click.UsageError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    return Asked(
        url=url,
        target=target,
        endpoint=_endpoint(given["endpoint"], target.path),
        model=given["model"],
        batch=batch,
        arrivals=arrivals,
        load=f"batch {batch}" if text is None else text,
        in_flight_max=given["max_in_flight"] or IN_FLIGHT_MAX,
        requests=requests,
        seconds=seconds,
        context=given["context"],
        output=given["output"],
        warmup=given["warmup"],
        shared_tok=given["shared_prefix"],
        prompts_file=None if given["prompts"] is None else File(path=str(given["prompts"]), unique=given["unique"]),
        tokenizer=None if given["tokenizer"] is None else str(given["tokenizer"]),
        slo=targets,
        processes=processes,
        timeout_s=given["timeout"],
        seed=given["seed"],
        headers=dict(given["header"]),
        api_key=given["api_key"],
        body=given["body"] or {},
        kernel=given["stamp"] == "auto",
    )


def _typed(name: str) -> bool:
    """Whether the option was given, and is no default."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _endpoint(asked: str | None, path: str) -> Any:
    """The endpoint that was asked for, or that the URL ends in."""
    ends = {name: f"/{kind}" for name, kind in (("chat", "chat/completions"), ("completions", "completions"))}
    found = next((name for name, end in ends.items() if path.endswith(end)), None)
    if asked is not None and found is not None and asked != found:
        raise click.UsageError(f"--endpoint {asked} is not what the URL ends in: give its base, http://HOST:PORT.")
    return asked or found or ENDPOINTS[0]


def _targets(texts: tuple[str, ...]) -> str | None:
    """The targets as one text; ValueError where it is none."""
    if not texts:
        return None
    from fleetbench_collectors.load import slo

    slo.parse(texts)
    return ",".join(texts)


def _arrivals(given: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The open loop that was asked for, and its name; None for a closed one."""
    from fleetbench_collectors.load.arrivals import steady
    from fleetbench_collectors.load.workload import OpenLoop, Replay

    kinds = [name for name in ("batch", "rate", "ramp", "stages", "trace") if given[name] is not None]
    if len(kinds) > 1:
        raise click.UsageError(f"--{kinds[0]} and --{kinds[1]} exclude each other.")
    kind = kinds[0] if kinds else "batch"
    if kind in ("batch", "trace"):
        for name in ("arrivals", "burstiness"):
            if given[name] is not None:
                raise click.UsageError(f"--{name} goes with --rate, --ramp or --stages, not with --{kind}.")
    if kind == "trace":
        return Replay(path=str(given["trace"]), speed=given["speed"] or 1.0), f"trace {given['trace'].name}"
    if kind == "batch":
        return None, None
    process = given["arrivals"] or ("gamma" if given["burstiness"] else "poisson")
    if given["burstiness"] and process != "gamma":
        raise click.UsageError(f"--burstiness goes with --arrivals gamma, not with {process}.")
    try:
        profile = steady(given["rate"]) if kind == "rate" else given[kind]
    except ValueError as error:
        raise click.UsageError(f"--rate: {error}.") from error
    rates = ", ".join(_rates(segment) for segment in profile.segments)
    shown = f"rate {rates}" if kind == "rate" else f"{kind} {rates}"
    loop = OpenLoop(profile=profile, process=cast("Any", process), burstiness=given["burstiness"] or 1.0)
    return loop, f"{shown} {process}"


def _rates(segment: Segment) -> str:
    """A part of an open loop's profile in words."""
    low, high = segment.start_per_s, segment.end_per_s
    rate = f"{low:g}/s" if low == high else f"{low:g}..{high:g}/s"
    return rate if segment.seconds is None else f"{rate} for {segment.seconds:g} s"


def _check(given: Mapping[str, Any], *, batch: int | None, processes: int) -> None:
    """Options that do not go together."""
    rules = (
        (given["speed"] and not given["trace"], "--speed goes with --trace."),
        (given["unique"] and not given["prompts"], "--unique goes with --prompts."),
        (given["max_in_flight"] and batch, "--max-in-flight goes with --rate, --ramp, --stages or --trace."),
        (given["prompts"] and given["trace"], "--prompts and --trace exclude each other."),
        (given["shared_prefix"] and given["prompts"], "--shared-prefix and --prompts exclude each other."),
        (given["prompts"] and _typed("context"), "--prompts have their own lengths: leave --context out."),
        (
            given["trace"] and (_typed("context") or _typed("output")),
            "a trace says the lengths: leave --context and --output out.",
        ),
        (given["shared_prefix"] and given["trace"], "--shared-prefix and --trace exclude each other."),
        (given["shared_prefix"] >= given["context"].shortest, "--shared-prefix must be shorter than --context."),
        (
            batch and processes > batch,
            f"--processes {processes} is more than --batch {batch}: each process needs a place.",
        ),
        (
            batch and given["requests"] and given["requests"] < batch,
            f"--requests {given['requests']} never fills --batch {batch}: ask for at least {batch}.",
        ),
        (given["insecure"] and given["ca"], "--insecure and --ca exclude each other."),
    )
    for wrong, sentence in rules:
        if wrong:
            raise click.UsageError(sentence)

"""Results of `vllm bench serve` (before: benchmark_serving.py), as --save-result or --append-result writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign import serving
from fleetbench.store.foreign.document import Node, json_records
from fleetbench.store.foreign.record import Figure, Record, Request, Said, Words

_LISTS = ("input_lens", "output_lens", "ttfts", "itls", "errors", "start_times", "latencies")
_QUEUE = "queue_times"
_ENGINES = frozenset({"vllm", "sglang", "tgi", "lmdeploy", "tensorrt-llm", "llama.cpp", "deepspeed-mii", "scalellm"})
"""Backends that are a server's name; the others (openai, openai-chat, ...) are an interface that any may have."""
_COLUMNS = (
    *(
        "model_id",
        "backend",
        "endpoint_type",
        "num_prompts",
        "benchmark_start_time_unix",
        "request_rate",
        "burstiness",
        "max_concurrency",
        "duration",
        "completed",
        "failed",
    ),
    *("total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput", "request_goodput:"),
    *("output_throughput", "total_token_throughput", "ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"),
)
"""Keys that go into columns and conditions. An old version wrote `request_goodput:` with its colon."""
_SAID = ("date", "label", "tokenizer_id", "run_number", "rtfx", "max_output_tokens_per_s", "max_concurrent_requests")
_MEASURED = ("spec_decode_", "probe_", "diffusion_", "benchmark_")
_USUAL = {"best_of": 1, "use_beam_search": False}
"""What old versions say of every run, and later ones do not."""

_WORDS: Words = {}


class Vllm:
    """Its statistics are in ms, its lists of requests in seconds."""

    name = "vllm"
    about = "vllm bench serve: JSON of --save-result, --append-result"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        for number, node in enumerate(json_records(path), start=1):
            _check(node)
            yield _record(node, node.where or f"record {number}")


def _check(node: Node) -> None:
    """That this is such a result, of text that was generated, with times in ms."""
    if node.has("elapsed_time", "num_requests") or node.has("avg_latency"):
        raise node.fail("this is of `vllm bench throughput` or `latency`: only those of `bench serve` can be taken in")
    if node.has("total_input_sequences"):
        raise node.fail("this is of embeddings, which have no output tokens: there is no place for it")
    if key := serving.key_of_other_unit(node, "_ms"):
        raise node.get(key).fail("times whose keys lack _ms are InferenceX's, in seconds: import it as inferencex")


def _record(node: Node, where: str) -> Record:
    model = node.get("model_id").required().text()
    speculative = node.has("spec_decode_num_drafts")
    found = serving.statistics(node, unit="_ms", factor=1.0, speculative=speculative)
    figures = {**serving.totals(node, found.columns), **found.columns}
    load = serving.load(node)
    requests = _requests(node, open_loop=load.rate_per_s is not None)
    empty = _empty(requests, figures)
    if requests:
        good = sum(one.outcome == "ok" for one in requests)
        figures |= {"completed_requests": good, "failed_requests": len(requests) - good}
    context_tok, output_tok = _lengths(node, requests)
    conditions, said = _others(node)
    reason = empty or serving.failure(figures)
    backend = (node.get("backend") if node.has("backend") else node.get("endpoint_type")).text()
    return Record(
        where=where,
        model=model or "",
        hardware=None,
        engine=backend if backend in _ENGINES else None,
        batch=load.batch,
        rate_per_s=load.rate_per_s,
        context_tok=context_tok,
        output_tok=output_tok,
        started_at=node.get("benchmark_start_time_unix").unix(),
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        figures=figures,
        requests=requests,
        reported=found.reported,
        conditions={**conditions, **load.conditions, "interface": None if backend in _ENGINES else backend},
        said=said,
        left_out=(*found.left_out, *_left_out(node)),
    )


def _empty(requests: Sequence[Request], figures: Mapping[str, Figure]) -> str | None:
    """Requests that brought nothing and that it counts as completed all the same, with a TTFT of 0 in its means."""
    empty, failed = sum(one.outcome != "ok" for one in requests), figures["failed_requests"]
    if empty and empty != failed:
        return f"{empty} of {len(requests)} requests brought no token, where the file says that {failed or 0} failed"
    return None


def _others(node: Node) -> tuple[dict[str, Said], dict[str, Said]]:
    """All else that is one value: what may make another cell, --metadata and a sweep's settings too, and the rest."""
    conditions: dict[str, Said] = {}
    said: dict[str, Said] = {}
    for key, value in node.mapping().items():
        if key in _COLUMNS or serving.is_statistic(key) or isinstance(value, list | dict):
            continue
        rest = key in _SAID or key.startswith(_MEASURED) or key.endswith("_ms") or _USUAL.get(key) == value
        (said if rest else conditions)[key] = node.get(key).scalar()
    return conditions, said


def _left_out(node: Node) -> tuple[str, ...]:
    lists = [key for key, value in node.mapping().items() if isinstance(value, list | dict) and value]
    kept = (*_LISTS, _QUEUE) if isinstance(node.value.get("ttfts"), list) else ()
    return tuple(f"{key}: a list that no column holds" for key in lists if key not in kept)


def _lengths(node: Node, requests: Sequence[Request]) -> tuple[int | None, int | None]:
    good = [one for one in requests if one.outcome == "ok"]
    if not good:
        return serving.lengths(node)
    prompts, outputs = {one.prompt_tok for one in good}, {one.output_tok for one in good}
    return (prompts.pop() if len(prompts) == 1 else None, outputs.pop() if len(outputs) == 1 else None)


def _requests(node: Node, *, open_loop: bool) -> tuple[Request, ...]:
    """The requests of --save-detailed; none where the lists were not kept.

    What one waited for its turn moves its scheduled start only where arrivals were scheduled.
    """
    if not (node.has("ttfts", "itls")):
        return ()
    keys = (*_LISTS, _QUEUE) if open_loop else _LISTS
    lists = {key: node.get(key).items() for key in keys if node.has(key)}
    n = len(lists["ttfts"])
    for key, values in lists.items():
        if len(values) != n:
            raise node.get(key).fail(f"{len(values)} requests, where ttfts has {n}")
    return tuple(_request({key: values[number] for key, values in lists.items()}) for number in range(n))


def _request(parts: dict[str, Node]) -> Request:
    """One request by its entries of the lists; a TTFT of 0 is none."""
    error = parts["errors"].text() if "errors" in parts else None
    start_ns = parts["start_times"].seconds_ns() if "start_times" in parts else None
    gaps_ns = tuple(gap.seconds_ns() or 0 for gap in parts["itls"].items())
    since_ns, first_ns = start_ns or 0, parts["ttfts"].seconds_ns() or None
    last_ns = None if first_ns is None else first_ns + sum(gaps_ns)
    end_ns = (parts["latencies"].seconds_ns() if "latencies" in parts else None) or last_ns
    answered = not error and first_ns is not None
    return Request(
        start_ns=start_ns,
        intended_ns=None
        if start_ns is None
        else start_ns - (parts[_QUEUE].seconds_ns() or 0 if _QUEUE in parts else 0),
        first_token_ns=None if first_ns is None else since_ns + first_ns,
        last_token_ns=None if last_ns is None else since_ns + last_ns,
        end_ns=None if end_ns is None else since_ns + max(end_ns, last_ns or 0),
        gaps_ns=gaps_ns if first_ns is not None else None,
        prompt_tok=parts["input_lens"].count() if "input_lens" in parts else None,
        output_tok=parts["output_lens"].count() if "output_lens" in parts else None,
        outcome="ok" if answered else "protocol_error",
        error=error,
    )

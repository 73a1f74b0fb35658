"""The load generators that are compared: how each is started, and where its result says what.

Facts come from each tool's --help and the result that it wrote: vLLM 0.33, SGLang 0.5.23, GuideLLM 0.8.1, AIPerf
0.13 and inference-perf 0.7 (its documentation).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.figures import Quantiles, Reported

MODEL = "truth"
RESULT = "result.json"
_S_TO_MS = 1000.0
_SGLANG = (("sglang", "sglang.bench_serving"), ("sglang-rust", "sglang.benchmark.rust_client"))
_QUIET = {
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "0",
}
_OFFLINE = _QUIET | {"HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a tool is to do: `requests` streams of `output_tok` tokens, all at once where `streams` is as many.

    tokenizer: a folder of the Hugging Face form.
    """

    url: str
    streams: int
    requests: int
    prompt_tok: int
    output_tok: int
    tokenizer: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A load generator.

    command: after the program; read: from the folder that it ran in, KeyError, TypeError or ValueError where its
    result is not of the form known here; version: the command that prints it, the receipt that it is there;
    itl_is_mean: its ITL has one value a request, the mean; files: texts that must lie in its folder before, by name;
    shares_cores: it may use the server's core too.
    """

    name: str
    program: tuple[str, ...]
    version: tuple[str, ...]
    command: Callable[[Ask], list[str]]
    read: Callable[[Path], Reported]
    itl_is_mean: bool = False
    shares_cores: bool = False
    files: Callable[[Ask], Mapping[str, str]] = lambda _: {}
    environment: Mapping[str, str] = field(default_factory=lambda: _OFFLINE)

    def receipt(self) -> str | None:
        """Its version; None where it is not there."""
        try:
            return subprocess.run(self.version, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None


def ours(
    program: Sequence[str], *, name: str = "fleetbench", options: Sequence[str] = (), shares_cores: bool = False
) -> Tool:
    """This project's `bench`; `options` make a variant of it."""

    def command(ask: Ask) -> list[str]:
        lengths = ["--context", str(ask.prompt_tok), "--output", str(ask.output_tok), "--requests", str(ask.requests)]
        load = ["--model", MODEL, "--batch", str(ask.streams), *lengths]
        return ["bench", ask.url, *load, "--format", "json", *options]

    return Tool(
        name=name,
        program=tuple(program),
        version=(*program, "--version"),
        command=command,
        read=_read_ours,
        shares_cores=shares_cores,
    )


def peers(root: Path) -> list[Tool]:
    """All that are known, each in a virtual environment of its package, `root`/PACKAGE."""
    python, rust = (_sglang(root, name, module) for name, module in _SGLANG)
    return [_vllm(root), python, rust, _guidellm(root), _aiperf(root), _inference_perf(root)]


def _installed(root: Path, package: str) -> tuple[str, ...]:
    """A tool's own version command may take a quarter of a minute, or want a GPU."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return (str(root / package / "bin/python"), "-c", code)


def _vllm(root: Path) -> Tool:
    def command(ask: Ask) -> list[str]:
        lengths = [
            *("--random-input-len", str(ask.prompt_tok), "--random-output-len", str(ask.output_tok)),
            *("--num-prompts", str(ask.requests), "--max-concurrency", str(ask.streams)),
        ]
        server = ["--backend", "openai", "--base-url", ask.url, "--model", MODEL, "--tokenizer", str(ask.tokenizer)]
        wanted = ["--percentile-metrics", "ttft,itl", "--metric-percentiles", "50,99"]
        result = ["--save-result", "--result-filename", RESULT, "--disable-tqdm"]
        return ["bench", "serve", *server, "--dataset-name", "random", *lengths, "--ignore-eos", *wanted, *result]

    program = (str(root / "vllm/bin/vllm"),)
    return Tool(name="vllm", program=program, version=_installed(root, "vllm"), command=command, read=_read_medians)


def _sglang(root: Path, name: str, module: str) -> Tool:
    """SGLang ships two clients with the same options and result, in one package."""

    def command(ask: Ask) -> list[str]:
        lengths = [
            *("--random-input-len", str(ask.prompt_tok), "--random-output-len", str(ask.output_tok)),
            # Without a ratio of 1 lengths are drawn from 1 to the length.
            *("--random-range-ratio", "1", "--num-prompts", str(ask.requests), "--max-concurrency", str(ask.streams)),
        ]
        server = ["--backend", "sglang-oai", "--base-url", ask.url, "--model", MODEL, "--tokenizer", str(ask.tokenizer)]
        rest = ["--warmup-requests", "0", "--output-file", RESULT, "--disable-tqdm"]
        return [*server, "--dataset-name", "random-ids", *lengths, *rest]

    program = (str(root / "sglang/bin/python"), "-m", module)
    return Tool(name=name, program=program, version=_installed(root, "sglang"), command=command, read=_read_medians)


def _read_medians(folder: Path) -> Reported:
    """The form that vLLM's and SGLang's benches share; SGLang appends a line for each run."""
    result = _object((folder / RESULT).read_text(encoding="utf-8").strip().splitlines()[-1])
    ttft, itl = (
        Quantiles(p50_ms=float(result[f"median_{name}_ms"]), p99_ms=float(result[f"p99_{name}_ms"]))
        for name in ("ttft", "itl")
    )
    return Reported(completed=int(result["completed"]), failed=int(result.get("failed", 0)), ttft=ttft, itl=itl)


def _guidellm(root: Path) -> Tool:
    def command(ask: Ask) -> list[str]:
        backend = f"kind=openai_http,target={ask.url},model={MODEL},request_format=/v1/completions"
        data = f"kind=synthetic_text,prompt_tokens={ask.prompt_tok},output_tokens={ask.output_tok}"
        load = ["--profile", f"kind=concurrent,streams={ask.streams}", "--constraint"]
        limit = f"kind=max_requests,count={ask.requests}"
        texts = ["--data", data, "--tokenizer", f"kind=hf_auto,model={ask.tokenizer}"]
        result = ["--output", f"kind=json,path={RESULT}", "--disable-console"]
        return ["run", "--backend", backend, *load, limit, *texts, *result]

    def read(folder: Path) -> Reported:
        metrics = _object((folder / RESULT).read_text(encoding="utf-8"))["benchmarks"][0]["metrics"]
        ttft, itl = (
            Quantiles(p50_ms=float(found["median"]), p99_ms=float(found["percentiles"]["p99"]))
            for found in (metrics[name]["successful"] for name in ("time_to_first_token_ms", "inter_token_latency_ms"))
        )
        totals = metrics["request_totals"]
        failed = int(totals["errored"]) + int(totals["incomplete"])
        return Reported(completed=int(totals["successful"]), failed=failed, ttft=ttft, itl=itl)

    program = (str(root / "guidellm/bin/guidellm"),)
    return Tool(
        name="guidellm",
        program=program,
        version=_installed(root, "guidellm"),
        command=command,
        read=read,
        itl_is_mean=True,
    )


def _aiperf(root: Path) -> Tool:
    def command(ask: Ask) -> list[str]:
        server = ["--model", MODEL, "--url", ask.url, "--endpoint-type", "completions", "--streaming"]
        load = ["--concurrency", str(ask.streams), "--request-count", str(ask.requests)]
        lengths = [
            *("--isl", str(ask.prompt_tok), "--isl-stddev", "0", "--osl", str(ask.output_tok), "--osl-stddev", "0"),
            *("--extra-inputs", "ignore_eos:true", "--tokenizer", str(ask.tokenizer)),
        ]
        # Its own extras are off: the server's counts spare it a pass of the tokenizer over all text.
        rest = ["--use-server-token-count", "--no-server-metrics", "--no-gpu-telemetry", "--ui", "none"]
        return ["profile", *server, *load, *lengths, *rest, "--export-level", "summary", "--artifact-dir", "."]

    def read(folder: Path) -> Reported:
        result = _object((folder / "profile_export_aiperf.json").read_text(encoding="utf-8"))
        ttft, itl = (
            Quantiles(p50_ms=float(result[name]["p50"]), p99_ms=float(result[name]["p99"]))
            for name in ("time_to_first_token", "inter_token_latency")
        )
        failed = int((result.get("error_request_count") or {"avg": 0})["avg"])
        return Reported(completed=int(result["request_count"]["avg"]), failed=failed, ttft=ttft, itl=itl)

    # Offline it wants the tokenizer from the hub's cache; online it takes the folder, and asks nobody.
    return Tool(
        name="aiperf",
        program=(str(root / "aiperf/bin/aiperf"),),
        version=_installed(root, "aiperf"),
        command=command,
        read=read,
        itl_is_mean=True,
        environment=_QUIET,
    )


def _inference_perf(root: Path) -> Tool:
    def files(ask: Ask) -> dict[str, str]:
        lengths = {
            f"{name}_distribution": {"min": tok, "max": tok, "mean": tok, "std_dev": 0, "total_count": ask.requests}
            for name, tok in (("input", ask.prompt_tok), ("output", ask.output_tok))
        }
        config = {
            "api": {"type": "completion", "streaming": True},
            "server": {"type": "vllm", "model_name": MODEL, "base_url": ask.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(ask.tokenizer)},
            "data": {"type": "random", **lengths},
            "load": {
                "type": "concurrent",
                "stages": [{"num_requests": ask.requests, "concurrency_level": ask.streams}],
                "worker_max_concurrency": ask.streams,
            },
            "report": {"request_lifecycle": {"summary": True, "per_stage": False, "per_request": False}},
            "storage": {"local_storage": {"path": "."}},
        }
        # JSON is YAML.
        return {"config.yml": json.dumps(config)}

    def read(folder: Path) -> Reported:
        result = _object((folder / "summary_lifecycle_metrics.json").read_text(encoding="utf-8"))
        latency = result["successes"]["latency"]
        ttft, itl = (
            Quantiles(p50_ms=latency[name]["median"] * _S_TO_MS, p99_ms=latency[name]["p99"] * _S_TO_MS)
            for name in ("time_to_first_token", "inter_token_latency")
        )
        failed = int(result["failures"]["count"])
        return Reported(completed=int(result["successes"]["count"]), failed=failed, ttft=ttft, itl=itl)

    return Tool(
        name="inference-perf",
        program=(str(root / "inference-perf/bin/inference-perf"),),
        version=_installed(root, "inference-perf"),
        command=lambda _: ["--config_file", "config.yml"],
        read=read,
        files=files,
    )


def _read_ours(folder: Path) -> Reported:
    result = _object((folder / "stdout").read_text(encoding="utf-8"))
    ttft, itl = (_quantiles(result[name]) for name in ("ttft_ms", "itl_ms"))
    return Reported(
        completed=int(result["completed"]),
        failed=int(result["failed"]),
        ttft=ttft,
        itl=itl,
        lead=int(result["probes"]),
        loop_cpu_s=(result.get("evidence") or {}).get("cpu_s"),
        complaint=None if result["valid"] else "; ".join(result["reasons"]),
    )


def _quantiles(found: Mapping[str, Any]) -> Quantiles | None:
    if found["p50"] is None or found["p99"] is None:
        return None
    return Quantiles(p50_ms=float(found["p50"]), p99_ms=float(found["p99"]))


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("the result is no JSON object")
    return value

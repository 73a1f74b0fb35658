"""A server that already runs, started by somebody else: nothing is started, and only what it says is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign

NAME = "endpoint"
INFOS = ("/server_info", "/get_server_info")
"""SGLang's, by its new and its old name; vLLM has the first in development mode."""


class Endpoint:
    """Any server that speaks the OpenAI dialect; its health is its list of models, which all of them have."""

    name = NAME
    package: str | None = None
    program = "the server"
    version_argv: tuple[str, ...] = ()
    health = "/v1/models"
    asks = ("/v1/models", "/version", "/props", "/slots", *INFOS)
    reset: Ask | None = None
    metrics: tuple[str, ...] = ()
    signs: tuple[Sign, ...] = ()

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  none of it is used
        raise LaunchError(
            NAME, "arguments", "it is a server that already runs: write `url:` in the node's settings", ""
        )

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        """What a server that says it must not contradict; the caller drops what it does not say."""
        parallel = spec.parallel
        return {
            "context_tok": spec.context_tok,
            "slots": spec.slots,
            "tp": parallel.tp,
            "pp": parallel.pp,
            "dp": parallel.dp,
        }

    def effective(self, said: Said) -> dict[str, Any]:
        told = {path: said.answers.get(path) for path in self.asks}
        models, props = _mapping(told["/v1/models"]).get("data"), _mapping(told["/props"])
        served = _mapping(models[0]) if isinstance(models, list) and models else {}
        info = next((one for path in INFOS if (one := _mapping(told[path]))), {})
        slots = told["/slots"]
        return {
            "version": said.version,
            "model": served.get("id"),
            "model_root": served.get("root") or props.get("model_path") or info.get("model_path"),
            "context_tok": _count(served.get("max_model_len"), _room(slots), info.get("context_length")),
            "slots": _count(props.get("total_slots"), info.get("max_running_requests")),
            "tp": _count(info.get("tp_size")),
            "pp": _count(info.get("pp_size")),
            "dp": _count(info.get("dp_size")),
            "file_type": props.get("model_ftype"),
            "dtype": info.get("dtype"),
            "quantization": info.get("quantization"),
            "kv_cache_dtype": info.get("kv_cache_dtype"),
            "prefix_caching": _denied(info.get("disable_radix_cache")),
        }

    def cold(self, log: str) -> ColdStart:  # noqa: ARG002  its start is over
        return ColdStart()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(*values: Any) -> int | None:
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def _denied(value: Any) -> bool | None:
    return not value if isinstance(value, bool) else None


def _room(slots: Any) -> int | None:
    rooms = [_count(_mapping(slot).get("n_ctx")) for slot in slots] if isinstance(slots, list) else []
    return min((room for room in rooms if room is not None), default=None)

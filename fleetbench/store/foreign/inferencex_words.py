"""InferenceX's own words for GPUs, engines, models and formats."""

from __future__ import annotations

from collections.abc import Mapping

from fleetbench.store.foreign.record import Words

_CLUSTERS = {
    "h100": ("cw", "dgxc", "nv", "trt", "dgxc-slurm", "multinode", "multinode-slurm"),
    "h200": ("cw", "dgxc", "nb", "nv", "trt", "dgxc-slurm", "multinode", "multinode-slurm"),
    "b200": (
        *("cw", "dgxc", "nb", "nv", "nvd", "trt", "nscale", "dsv4", "new", "dgxc-slurm", "nscale-slurm"),
        *("multinode", "multinode-slurm"),
    ),
    "b300": ("cw", "nv", "p1", "multinode"),
    "gb200": ("nv", "multinode"),
    "gb300": ("nv", "multinode"),
    "mi300x": ("amds", "tw", "amd", "cr", "oci", "disagg"),
    "mi325x": ("amds", "tw", "amd", "cr", "disagg"),
    "mi355x": ("amds", "amd", "cr", "disagg"),
}
"""Runner labels of its runners.yaml: GPU and cluster, `b200-dgxc` or `cluster:b200-dgxc`."""
RUNNERS: Mapping[str, str | None] = {
    label: gpu
    for gpu, names in _CLUSTERS.items()
    for name in names
    for label in (f"{gpu}-{name}", f"cluster:{gpu}-{name}")
}
_AMBIGUOUS = ("fp4", "fp8", "int4", "int8")
"""It calls MXFP8 checkpoints fp8 too, and both NVFP4 and MXFP4 fp4: only the model's published format can tell."""
WORDS: Words = {
    "hardware": RUNNERS,
    "engine": {"trt": "tensorrt-llm"},
    "model": {"gptoss": "gpt-oss-120b"},
    "weights": dict.fromkeys(_AMBIGUOUS),
}

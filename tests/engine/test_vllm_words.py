"""What vLLM said in real starts (logs/), and what its sources say of GPUs, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import vllm_model, vllm_words
from fleetbench.engine.protocol import Said, differences
from fleetbench.engine.vllm import Vllm
from fleetbench.matrix.types import Draft, KvFormat, Recipe
from tests.engine.adapters import BF16, FP8, KV16, spec

LOGS = Path(__file__).with_name("logs")
MODELS = {
    "data": [
        {"id": "tiny", "root": "/models/tiny", "parent": None, "max_model_len": 512},
        {"id": "style", "root": "/adapters/style", "parent": "tiny"},
    ]
}
METRICS = (
    'vllm:cache_config_info{block_size="128",cache_dtype="fp8",enable_prefix_caching="False",engine="0",'
    'kv_cache_size_tokens="699008",kv_cache_dtype_skip_layers="[]"} 1.0\n'
)
CONFIG = (
    "(EngineCore pid=1) INFO 11-24 10:00:00 [core.py:133] Initializing a V1 LLM engine (v0.33.0) with config: "
    "model='/m', speculative_config=None, dtype=torch.bfloat16, max_seq_len=512, load_format=auto, "
    "tensor_parallel_size=4, pipeline_parallel_size=2, data_parallel_size=2, quantization={}, enforce_eager=False, "
    "kv_cache_dtype={}, device_config=cuda, seed=7, enable_prefix_caching=False, enable_chunked_prefill=True\n"
)


def read(name: str) -> str:
    return (LOGS / f"vllm-0.32.0-{name}.log").read_bytes().decode()


def effective(log: str, **answers: Any) -> dict[str, Any]:
    told = {"/version": {"version": "0.32.0"}, "/v1/models": MODELS, "/metrics": None, **answers}
    return Vllm().effective(Said(log=log, answers=told, version="0.32.0+cpu"))


def test_a_start_in_bf16_is_read_whole() -> None:
    assert effective(read("bf16")) == {
        "version": "0.32.0+cpu",
        "weights": "bf16",
        "activations": "bf16",
        "quantized": False,
        "quantized_layers": 0,
        "layers": 12,
        "quantization": "None",
        "scheme": None,
        "gemm_kernel": "gemm16",
        "gemm_kernel_class": None,
        "kv_k": "bf16",
        "kv_v": "bf16",
        "kv_dtype": "auto",
        "kv_tok": 349440,
        "context_tok": 512,
        "slots": 4,
        "tp": 1,
        "pp": 1,
        "dp": 1,
        "prefix_caching": False,
        "chunked_prefill": True,
        "enforce_eager": False,
        "dummy": False,
        "seed": 7,
        "attention_kernel": "cpu_attn",
        "draft": None,
        "draft_tok": None,
        "lora": ["style"],
    }


@pytest.mark.parametrize(
    ("name", "weights", "activations", "scheme", "kernel"),
    [
        ("w8a8", "int8", "int8", "CompressedTensorsW8A8Int8", "int8"),
        ("w4a16", None, "bf16", "CompressedTensorsWNA16", "cpu"),
        ("fp8", "fp8", "fp8", "CompressedTensorsW8A8Fp8", "torch"),
        ("fp8-in-flight", "fp8", "fp8", "Fp8PtpcOnlineLinearMethod", "torch"),
    ],
)
def test_a_quantized_start_says_formats_scheme_kernel_and_layers(
    name: str, weights: str | None, activations: str, scheme: str, kernel: str
) -> None:
    told = effective(read(name))
    assert (told["weights"], told["activations"], told["scheme"], told["gemm_kernel"]) == (
        weights,
        activations,
        scheme,
        kernel,
    )
    assert (told["quantized_layers"], told["layers"]) == (12, 12)


PACKED = {"format": "pack-quantized", "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}
W4A16 = {"quantization_config": {"quant_method": "compressed-tensors", **PACKED}}
GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 8}}


@pytest.mark.parametrize(
    ("name", "config", "weights"),
    [
        ("w4a16", W4A16, "int4"),
        ("w4a16", GPTQ, "int8"),
        ("w4a16", {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {}}}}, None),
        ("w4a16", {"quantization_config": {"quant_method": "gptq", "bits": "many"}}, None),
        ("w4a16", {"quantization_config": {"quant_method": "fp8"}}, None),
        ("w8a8", W4A16, "int8"),
        ("bf16", W4A16, "bf16"),
    ],
)
def test_the_checkpoint_says_how_wide_integers_are_where_the_log_does_not(
    name: str, config: dict[str, Any], weights: str | None
) -> None:
    assert effective(read(name), **{"config.json": config})["weights"] == weights


@pytest.mark.parametrize(
    ("asked", "found"), [("int4", ()), ("int8", ("weights: asked for int8, the engine runs int4",))]
)
def test_a_checkpoint_of_another_width_than_asked_is_found_out(asked: str, found: tuple[str, ...]) -> None:
    recipe = Recipe(name="x", weights=asked, activations="bf16", kv=KV16)
    wanted = Vllm().requested(spec(recipe=recipe, checkpoint="compressed", dummy=True))
    told = effective(read("w4a16"), **{"config.json": W4A16})
    assert differences({**wanted, "dummy": told["dummy"]}, told) == found


INT8 = Recipe(name="int8", weights="int8", activations="bf16", kv=KV16)
KV8 = Recipe(name="kv8", weights="bf16", activations="bf16", kv=KvFormat(k="fp8", v="fp8"))
NGRAM = Recipe(
    name="ngram", weights="bf16", activations="bf16", kv=KV16, draft=Draft(method="ngram", model=None, tokens=3)
)


@pytest.mark.parametrize(
    ("name", "changes", "found"),
    [
        ("bf16", {"recipe": BF16, "kernel": "gemm16"}, ()),
        ("kv8", {"recipe": KV8, "dummy": True}, ()),
        ("fp8-in-flight", {"recipe": FP8, "kernel": "torch"}, ()),
        ("ngram", {"recipe": NGRAM}, ()),
        ("zero-layers", {"recipe": INT8}, ("quantized: asked for True, the engine runs False",)),
        (
            "zero-layers",
            {"recipe": BF16, "args": ("--quantization", "int8_per_channel_weight_only")},
            ("quantized: asked for True, the engine runs False",),
        ),
        (
            "zero-layers",
            {"recipe": Recipe(name="x", weights="int8", activations="int8", kv=KV16), "kernel": "int8"},
            (
                "quantized: asked for True, the engine runs False",
                "weights: asked for int8, the engine runs bf16",
                "activations: asked for int8, the engine runs bf16",
                "gemm_kernel: asked for int8, the engine runs gemm16",
            ),
        ),
        (
            "backend-replaced",
            {"recipe": BF16, "dummy": True, "args": ("--attention-backend", "FLASH_ATTN")},
            ("attention_kernel: asked for flash_attn, the engine runs cpu_attn",),
        ),
        (
            "bf16",
            {"recipe": KV8},
            ("kv_k: asked for fp8, the engine runs bf16", "kv_v: asked for fp8, the engine runs bf16"),
        ),
        ("bf16", {"recipe": BF16, "dummy": True}, ("dummy: asked for True, the engine runs False",)),
    ],
)
def test_real_starts_against_what_was_asked(name: str, changes: dict[str, Any], found: tuple[str, ...]) -> None:
    assert differences(Vllm().requested(spec(**changes)), effective(read(name))) == found


def test_a_model_without_its_structure_is_told_by_the_lines_of_its_kernels() -> None:
    log = CONFIG.format("compressed-tensors", "fp8") + (
        "(Worker_TP0 pid=2) INFO 11-24 10:00:01 [__init__.py:797] "
        "Selected CutlassFP8ScaledMMLinearKernel for CompressedTensorsW8A8Fp8\n"
    )
    told = effective(log)
    assert (told["weights"], told["activations"], told["gemm_kernel"], told["kv_k"]) == ("fp8", "fp8", "fp8", "fp8")
    assert (told["quantized"], told["quantized_layers"]) == (True, None)
    assert (told["tp"], told["pp"], told["dp"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("kernel", "family"),
    [
        ("MarlinLinearKernel", "marlin"),
        ("MarlinFP8ScaledMMLinearKernel", "marlin"),
        ("MacheteLinearKernel", "machete"),
        ("HummingNvFp4LinearKernel", "humming"),
        ("EmulationMxfp4LinearKernel", "emulation"),
        ("CutlassW4A8LinearKernel", "cutlass-w4a8"),
        ("CutlassInt8ScaledMMLinearKernel", "int8"),
        ("FlashInferFP8ScaledMMLinearKernel", "fp8"),
        ("PerTensorTorchFP8ScaledMMLinearKernel", "fp8"),
        ("FlashInferCutlassNvFp4LinearKernel", "nvfp4"),
        ("FlashInferCuteDslNvFp4W4A16LinearKernel", "flashinfer"),
        ("FlashInferMxFp4LinearKernel", "mxfp4"),
        ("FlashInferTrtllmMxfp8LinearKernel", "mxfp8"),
        ("ExllamaLinearKernel", "exllama"),
        ("TritonW4A16LinearKernel", "triton"),
        ("ConchLinearKernel", "conch"),
        ("XPUwNa16LinearKernel", "xpu"),
    ],
)
def test_kernels_have_the_catalogs_words(kernel: str, family: str) -> None:
    log = CONFIG.format("compressed-tensors", "auto") + f"[x.py:1] Selected {kernel} for CompressedTensorsW8A8Fp8\n"
    assert effective(log)["gemm_kernel"] == family


def test_weights_that_marlin_widens_are_multiplied_in_16_bits() -> None:
    log = CONFIG.format("compressed-tensors", "auto") + (
        "[x.py:1] Using MarlinNvFp4LinearKernel for NVFP4 GEMM\n"
        "[x.py:2] Selected MarlinNvFp4LinearKernel for CompressedTensorsW4A4Fp4\n"
    )
    told = effective(log)
    assert (told["weights"], told["activations"], told["gemm_kernel"]) == ("nvfp4", "bf16", "marlin")


@pytest.mark.parametrize(
    "line",
    [
        "Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'FLASHINFER'].",
        "Using AttentionBackendEnum.FLASH_ATTN backend.",
        "Using FLASH_ATTN backend (selected via --attention-backend).",
    ],
)
def test_the_attention_backend_is_read_as_gpus_log_it(line: str) -> None:
    assert effective(f"(Worker pid=1) INFO 11-24 10:00:00 [cuda.py:507] {line}\n")["attention_kernel"] == "flash_attn"


def test_layers_of_a_repeated_block_count_as_often_as_it_stands() -> None:
    said = "INFO 11-24 10:00:00 [base_loader.py:125]"
    tree = [
        "Model()(",
        "  (layers): ModuleList()(",
        "    (0-1, 3): 3 x Layer()(",
        "      (qkv): QKVParallelLinear(quant=A, tp_size=2)",
        "      (experts): FusedMoE(quant=B, tp_size=2)",
        "    )",
        "    (2): Layer()(",
        "      (qkv): QKVParallelLinear(tp_size=2)",
        "    )",
        "  )",
        "  (head): ParallelLMHead(num_embeddings=8)",
        ")",
    ]
    lines = [f"(Worker_TP0 pid=1) {said} vLLM model structure:"]
    for text in tree:
        lines += [f"(Worker_TP0 pid=1) {said} {text}", f"(Worker_TP1 pid=2) {said} {text}"]
    built = vllm_model.structure("\n".join([*lines, f"(Worker_TP0 pid=1) {said} Initializing model took 1.0 seconds"]))
    assert built == vllm_model.Structure(layers=7, quantized=6, schemes=("A", "B"), attention=())


def test_the_cache_is_read_from_metrics_where_the_log_is_cut() -> None:
    told = effective("", **{"/metrics": METRICS})
    assert (told["kv_k"], told["kv_tok"], told["prefix_caching"]) == ("fp8", 699008, False)


@pytest.mark.parametrize(
    ("told", "package", "version"),
    [("0.32.0", "0.32.0+cpu", "0.32.0+cpu"), ("0.31.0", "0.32.0", "0.31.0"), (None, "0.32.0", "0.32.0")],
)
def test_the_version_is_the_packages_unless_the_server_is_another(told: str | None, package: str, version: str) -> None:
    answers = {"/version": {"version": told} if told else None}
    assert vllm_words.effective("", answers, package)["version"] == version


@given(st.text(), st.none() | st.text() | st.dictionaries(st.text(), st.integers()))
def test_any_words_are_read_without_an_error(log: str, answer: Any) -> None:
    told = vllm_words.effective(
        log, {"/version": answer, "/v1/models": answer, "/metrics": answer, "config.json": answer}, ""
    )
    assert told["tp"] is None

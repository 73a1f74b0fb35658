"""Wheels as vLLM and SGLang lay them out, in the small; tests/engines reads the real ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fleetbench.errors import InputError
from tests.engines.wheel_flags import read_wheel

MANY = "\n".join(f"        group.add_argument('--filler-{number}', type=int)" for number in range(100))
VLLM = {
    "vllm/config/model.py": """
class ModelConfig:
    enforce_eager: bool = False
    dtype: Literal["auto", "half"] | torch.dtype = "auto"
    prefix: bool | None = None
    toggled: bool | str | None = None
""",
    "vllm/config/cache.py": 'CacheDType = Literal[\n    "auto",\n    "fp8",\n]\nMambaDType = Literal["float32"]\n',
    "vllm/model_executor/layers/quantization/__init__.py": 'QuantizationMethods = Literal["awq"]\n',
    "vllm/engine/arg_utils.py": f"""
class EngineArgs:
    def add_cli_args(parser):
        model_kwargs = get_kwargs(ModelConfig)
        group = parser.add_argument_group(title="ModelConfig")
        group.add_argument("--enforce-eager", **model_kwargs["enforce_eager"])
        group.add_argument("--dtype", "-d", **model_kwargs["dtype"])
        group.add_argument("--enable-prefix", **{{**model_kwargs["prefix"], "default": None}})
        group.add_argument("--toggled", **model_kwargs["toggled"])
        group.add_argument("--shown", action=argparse.BooleanOptionalAction)
{MANY}
""",
    "vllm/entrypoints/openai/cli_args.py": """
class FrontendArgs:
    port: int = 8000
    allow_credentials: bool = False

def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--headless", action="store_true")
""",
}
SGLANG = {
    "sglang/srt/arg_groups/fields/model.py": """
class Model(msgspec.Struct):
    model_path: A[str, Arg(help="where", aliases=["--model"])]
    port: A[int, "The port."] = 30000
    host: A[str, f"The host of {name}."] = "127.0.0.1"
    long: A[str, "in two " "parts" + " or three"] = ""
    inner: A[int, Arg(no_cli=True)] = 1
    tp_size: A[int, Arg(help="tp", cli_name="--tensor-parallel-size", aliases=["--tp-size"])] = 1
    strict: A[bool, Arg(help="strict", action=argparse.BooleanOptionalAction)] = True
    derived = Derived(fn="x")
    kv_cache_dtype: A[str, Arg(help="the cache", choices=["auto", "fp8_e4m3"])] = "auto"
    quantization: A[Optional[str], Arg(help="how", choices=QUANTIZATION_CHOICES)] = None
    load_format: A[str, Arg(help="files", choices=["dummy"])] = "auto"
    plain: int = 3
""",
    "sglang/srt/arg_groups/choices.py": 'QUANTIZATION_CHOICES = [\n    "awq",  # said\n    "fp8",\n]\n',
    "sglang/srt/server_args.py": f"""
class ServerArgs:
    def add_cli_args(parser):
        group = parser
        parser.add_argument("--sampling-backend", type=str)
{MANY}
""",
}


def wheel(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "engine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def unfilled(path: Path) -> set[str]:
    return {flag for flag in read_wheel(path) if "filler" not in flag}


def test_vllms_flags_are_read_from_calls_fields_and_their_types(tmp_path: Path) -> None:
    assert unfilled(wheel(tmp_path, VLLM)) == {
        *("--enforce-eager", "--no-enforce-eager", "--dtype", "-d", "--enable-prefix", "--no-enable-prefix"),
        *(
            "--toggled",
            "--shown",
            "--no-shown",
            "--port",
            "--allow-credentials",
            "--no-allow-credentials",
            "--headless",
        ),
        *("--kv-cache-dtype=auto", "--kv-cache-dtype=fp8", "--quantization=awq"),
    }


def test_a_parser_that_pairs_enable_with_disable_gives_both(tmp_path: Path) -> None:
    paired = {**VLLM, "vllm/utils/argparse_utils.py": "class Action:\n    _inverse_prefixes = {}\n"}
    assert "--disable-prefix" in unfilled(wheel(tmp_path, paired))


def test_sglangs_flags_are_read_from_annotations(tmp_path: Path) -> None:
    assert unfilled(wheel(tmp_path, SGLANG)) == {
        *("--model-path", "--model", "--port", "--host", "--long", "--tensor-parallel-size", "--tp-size"),
        *("--strict", "--no-strict", "--sampling-backend", "--kv-cache-dtype", "--quantization", "--load-format"),
        *("--kv-cache-dtype=auto", "--kv-cache-dtype=fp8_e4m3", "--quantization=awq", "--quantization=fp8"),
    }


def test_a_wheel_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known wheel of vLLM or SGLang"):
        read_wheel(wheel(tmp_path, {"numpy/__init__.py": ""}))


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_text("no archive")
    with pytest.raises(InputError, match="no wheel could be read"):
        read_wheel(tmp_path / "x.whl")

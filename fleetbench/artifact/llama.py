"""The shape of a Llama and the GGUF form of it: names, fields and tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from fleetbench.artifact.vocabulary import Vocabulary

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a Llama; all are counts, `context` and `vocab` of tokens, the rest of channels or parts."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    rope_theta: float
    norm_eps: float
    tied: bool = False

    @property
    def params(self) -> int:
        return sum(int(np.prod(dims)) for dims in tensor_shapes(self).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a GGUF file: `shape` as [rows, row length] in elements; `load` gives the stored bytes."""

    name: str
    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    nbytes: int
    load: Callable[[], Array]


def layer_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Of one layer: GGUF's short name to (rows, row length), or (length,) for a norm."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "attn_norm": (shape.width,),
        "attn_q": (query, shape.width),
        "attn_k": (key, shape.width),
        "attn_v": (key, shape.width),
        "attn_output": (shape.width, query),
        "ffn_norm": (shape.width,),
        "ffn_gate": (shape.ffn, shape.width),
        "ffn_up": (shape.ffn, shape.width),
        "ffn_down": (shape.width, shape.ffn),
    }


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Of the whole model, in the order of the file."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.vocab, shape.width),
        "output_norm.weight": (shape.width,),
    }
    if not shape.tied:
        shapes["output.weight"] = (shape.vocab, shape.width)
    for layer in range(shape.layers):
        for name, dims in layer_shapes(shape).items():
            shapes[f"blk.{layer}.{name}.weight"] = dims
    return shapes


def describe(writer: gguf.GGUFWriter, *, name: str, shape: Shape, vocabulary: Vocabulary) -> None:
    """Put a Llama's fields, all but its tensors, into `writer`; the weights are said to be F16."""
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.bos is not None:
        writer.add_bos_token_id(vocabulary.bos)
    if vocabulary.eos is not None:
        writer.add_eos_token_id(vocabulary.eos)
    writer.add_add_bos_token(vocabulary.add_bos)


def base_tensor(name: str, dims: tuple[int, ...], values: Callable[[], npt.NDArray[np.float32]]) -> Tensor:
    """A tensor of the F16 base form: matrices as F16, norms as F32."""
    if len(dims) == 1:
        return Tensor(name=name, shape=dims, type=gguf.GGMLQuantizationType.F32, nbytes=4 * dims[0], load=values)
    return Tensor(
        name=name,
        shape=dims,
        type=gguf.GGMLQuantizationType.F16,
        nbytes=2 * dims[0] * dims[1],
        load=lambda: values().astype(np.float16),
    )


def write(path: Path, *, fill: Callable[[gguf.GGUFWriter], None], tensors: Sequence[Tensor]) -> None:
    """Write a GGUF file; one tensor at a time is in memory.

    Raises:
        OSError: no room, no rights; the part that was written is the caller's to remove.
    """
    with _writer(path) as writer:
        fill(writer)
        for tensor in tensors:
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.type
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(np.ascontiguousarray(tensor.load()))
        writer.flush()


@contextmanager
def _writer(path: Path) -> Iterator[gguf.GGUFWriter]:
    writer = gguf.GGUFWriter(path, "llama")
    try:
        yield writer
    except BaseException:
        with suppress(OSError):  # the buffer of a file that could not be written cannot be flushed either
            writer.close()
        raise
    writer.close()


def read_vocabulary(reader: gguf.GGUFReader) -> Vocabulary:
    """The vocabulary that `describe` put into a file.

    Raises:
        KeyError: it lacks a field.
    """

    def field(name: str, missing: Any = None) -> Any:
        found = reader.fields.get(f"tokenizer.ggml.{name}")
        return missing if found is None else found.contents()

    return Vocabulary(
        pre=str(field("pre")),
        tokens=tuple(field("tokens")),
        types=tuple(field("token_type")),
        merges=tuple(field("merges", ())),
        bos=field("bos_token_id"),
        eos=field("eos_token_id"),
        add_bos=bool(field("add_bos_token", False)),
    )

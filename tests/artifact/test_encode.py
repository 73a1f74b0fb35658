from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import pytest

from fleetbench.artifact import encode, hf, llama, source
from fleetbench.artifact.llama import Shape
from fleetbench.artifact.vocabulary import Vocabulary, byte_alphabet

TEXT = """The quick brown fox can't jump over 12345 lazy dogs; they're asleep, aren't they?
WE'LL see: x = 3.14159 * (r ** 2)   # area\tof a circle\r\n\r\n
Größe: ½ Liter, naïve café, Привет мир, 你好世界, 東京2024年, ①②, e\u0301, 👍🏽 \u00a0 end.
the then there these theme   the\n\n\nthe     """

TOKENIZE = """
import http.client, json, sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx, params.n_parallel, params.n_gpu_layers = sys.argv[1], 0, 64, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup = False
server = xllamacpp.Server(params)
connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
ask = {"content": sys.stdin.buffer.read().decode(), "add_special": False, "parse_special": False}
connection.request("POST", "/tokenize", json.dumps(ask), {"Content-Type": "application/json"})
print("ANSWER", json.dumps(json.loads(connection.getresponse().read())["tokens"]))
"""


def learned(pre: str, merges: int = 40) -> Vocabulary:
    """A byte-level vocabulary with the pairs that are most frequent in TEXT, a control and a user's token."""
    alphabet = byte_alphabet()
    words = [[alphabet[b] for b in word.encode()] for word in encode._cutter("gpt-2").findall(TEXT)]
    tokens, pairs = [alphabet[b] for b in range(256)], []
    for _ in range(merges):
        seen = Counter(pair for word in words for pair in pairwise(word))
        left, right = seen.most_common(1)[0][0]
        pairs.append(f"{left} {right}")
        tokens += [left + right] if left + right not in tokens else []
        for word in words:
            for at in range(len(word) - 2, -1, -1):
                if word[at : at + 2] == [left, right]:
                    word[at : at + 2] = [left + right]
    whole = ["Ġjump", "123", "Liter"]  # no merge makes them
    assert not set(whole) & set(tokens)
    types = [gguf.TokenType.NORMAL] * (len(tokens) + len(whole)) + [gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED]
    return Vocabulary(
        pre=pre,
        tokens=(*tokens, *whole, "<bos>", "lazy d"),
        types=tuple(map(int, types)),
        merges=tuple(pairs),
        bos=len(types) - 2,
        eos=None,
        add_bos=False,
    )


def test_the_tiny_models_characters_are_its_tokens() -> None:
    vocabulary = hf.read(Path(source.__file__).parent / "tiny").vocabulary
    text = "57 + 8 = 65\nAs she said."
    ids = encode.encode(vocabulary, text)
    spelled = "".join(vocabulary.tokens[i] for i in ids)
    assert spelled.replace("Ġ", " ").replace("Ċ", "\n") == text


def test_what_has_no_token_is_left_out() -> None:
    vocabulary = hf.read(Path(source.__file__).parent / "tiny").vocabulary
    assert encode.encode(vocabulary, "naïve <bos>") == encode.encode(vocabulary, "nave <bos>")
    assert vocabulary.bos not in encode.encode(vocabulary, "<bos>")


def test_pairs_are_joined_by_rank_and_equals_from_the_left() -> None:
    ranks = {("a", "b"): 1, ("b", "c"): 0, ("a", "a"): 2, ("aa", "a"): 3}
    assert encode.merge("abc", ranks) == ["a", "bc"]
    assert encode.merge("aaa", ranks) == ["aaa"]
    assert encode.merge("xyz", ranks) == ["x", "y", "z"]


def test_a_text_can_be_put_together_again_from_its_tokens() -> None:
    vocabulary = learned("llama-bpe")
    back = {char: byte for byte, char in byte_alphabet().items()}
    spelled = "".join(vocabulary.tokens[i].replace("lazy d", "lazyĠd") for i in encode.encode(vocabulary, TEXT))
    assert bytes(back[c] for c in spelled).decode() == TEXT


def test_an_unknown_way_of_cutting_is_an_error() -> None:
    with pytest.raises(ValueError, match="'tekken'"):
        encode.encode(learned("tekken"), "a")


@pytest.mark.engine
@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
def test_the_engine_cuts_a_text_into_the_same_tokens(tmp_path: Path, pre: str) -> None:
    vocabulary = learned(pre)
    shape = Shape(
        width=32,
        layers=1,
        heads=2,
        kv_heads=2,
        head_dim=16,
        ffn=32,
        vocab=len(vocabulary.tokens),
        context=64,
        rope_theta=1e4,
        norm_eps=1e-5,
    )
    tensors = [
        llama.base_tensor(name, dims, lambda dims=dims: np.ones(dims, np.float32))  # type: ignore[misc]
        for name, dims in llama.tensor_shapes(shape).items()
    ]
    path = tmp_path / "m.gguf"
    llama.write(path, fill=lambda w: llama.describe(w, name="m", shape=shape, vocabulary=vocabulary), tensors=tensors)
    done = subprocess.run(
        [sys.executable, "-c", TOKENIZE, str(path)], input=TEXT.encode(), check=True, capture_output=True
    )
    answer = next(line for line in done.stdout.decode().splitlines() if line.startswith("ANSWER "))
    assert encode.encode(vocabulary, TEXT) == json.loads(answer.removeprefix("ANSWER "))

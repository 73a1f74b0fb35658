from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from fleetbench.artifact import forward, quantize, source
from fleetbench.artifact.forward import Model
from fleetbench.artifact.ladder import shape as ladder_shape

QUESTION = [1, 36, 29, 24, 26, 14, 27, 32]  # 57 + 8 =, as the tiny model spells it

PROBABILITIES = """
import http.client, json, sys
import xllamacpp
for path in sys.argv[1:]:
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 0, 64, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
    ask = {"prompt": PROMPT, "n_predict": 1, "temperature": 0, "n_probs": 8}
    connection.request("POST", "/completion", json.dumps(ask), {"Content-Type": "application/json"})
    top = json.loads(connection.getresponse().read())["completion_probabilities"][0]["top_logprobs"]
    print("ANSWER", json.dumps({entry["id"]: entry["logprob"] for entry in top}))
    connection.close()
    del server
""".replace("PROMPT", str(QUESTION))


def test_the_tiny_model_adds(tiny_gguf: Path) -> None:
    logits = Model(tiny_gguf).logits(np.array([[*QUESTION, 24]]))
    assert logits[0, -2:].argmax(axis=-1).tolist() == [24, 25]  # 57 + 8 = 65, lowest digit first


def test_chunks_do_not_see_each_other(tiny_gguf: Path) -> None:
    model = Model(tiny_gguf)
    together = model.logits(np.array([QUESTION, QUESTION[::-1]]))
    alone = model.logits(np.array([QUESTION[::-1]]))
    assert np.allclose(together[1], alone[0], atol=1e-4)


def test_a_token_does_not_see_those_after_it(tiny_gguf: Path) -> None:
    model = Model(tiny_gguf)
    short, long = model.logits(np.array([QUESTION])), model.logits(np.array([[*QUESTION, 99, 98]]))
    assert np.allclose(long[0, : len(QUESTION)], short[0], atol=1e-4)


def test_what_goes_into_the_first_matrix_is_the_normed_embedding(tiny_gguf: Path) -> None:
    seen = {}
    model = Model(tiny_gguf)
    model.hidden(np.array([QUESTION]), lambda name, sums: seen.update({name: sums}))
    rows = model.weights("token_embd")[QUESTION].astype(np.float64)
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)
    rows *= model.weights("blk.0.attn_norm")
    assert np.allclose(seen["blk.0.attn_k.weight"], (rows**2).sum(axis=0), rtol=1e-4)
    assert len(seen) == 7 * model.shape.layers


def test_the_sizes_of_a_model_are_read_from_its_file(tmp_path: Path) -> None:
    source.write_base("ladder-75m", None, source.inspect("ladder-75m", None).digest, tmp_path / "l.gguf")
    found = forward.read_shape(gguf.GGUFReader(tmp_path / "l.gguf"))
    wanted = ladder_shape(128)
    assert found.norm_eps == pytest.approx(wanted.norm_eps)
    assert {k: v for k in found.__slots__ if k != "norm_eps" and (v := getattr(found, k)) != getattr(wanted, k)} == {}


@pytest.mark.engine
def test_the_engine_gives_the_same_probabilities_whatever_the_format(tiny_gguf: Path, tmp_path: Path) -> None:
    paths = [tiny_gguf, tmp_path / "mix.gguf"]
    quantize.quantize(tiny_gguf, paths[1], "q3_k_m")
    done = subprocess.run(
        [sys.executable, "-c", PROBABILITIES, *map(str, paths)], check=True, capture_output=True, text=True
    )
    answers = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    for path, answer, tolerance in zip(paths, answers, (0.02, 0.2), strict=True):  # it rounds activations too
        logits = Model(path).logits(np.array([QUESTION]))[0, -1].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum())
        own = {str(token): logs[int(token)] for token, value in answer.items() if value > -8}
        assert own == pytest.approx({t: v for t, v in answer.items() if t in own}, abs=tolerance)
        assert int(logits.argmax()) == 24

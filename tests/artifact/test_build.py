from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from fleetbench.artifact import quantize, source
from fleetbench.artifact.build import check, ensure
from fleetbench.artifact.hashing import file_sha256
from fleetbench.artifact.types import ArtifactError, ArtifactOrder
from fleetbench.errors import InputError

MakeOrder = Callable[..., ArtifactOrder]

BUILD = """
import sys
from pathlib import Path
from fleetbench.artifact import source
from fleetbench.artifact.build import ensure
from fleetbench.artifact.types import ArtifactOrder
digest = source.inspect("tiny", None).digest
order = ArtifactOrder(artifact_id="abc", model="tiny", model_path=None, model_digest=digest, weights="q2_k")
sys.stdin.readline()
made = ensure(order, Path(sys.argv[1]))
print(made.build_s is not None, made.sha256)
"""

ON_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from fleetbench.artifact import source
from fleetbench.artifact.build import ensure
from fleetbench.artifact.types import ArtifactError, ArtifactOrder
digest = source.inspect("tiny", None).digest
order = ArtifactOrder(artifact_id="abc", model="tiny", model_path=None, model_digest=digest, weights="f16")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    ensure(order, Path(sys.argv[1]))
except ArtifactError as error:
    print(error)
"""

ON_ENGINE = """
import http.client, json, sys
import xllamacpp
for path in sys.argv[1:]:
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 0, 64, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
    prompt = [1, 36, 29, 24, 26, 14, 27, 32]
    ask = {"prompt": prompt, "n_predict": 2, "temperature": 0, "return_tokens": True}
    connection.request("POST", "/completion", json.dumps(ask), {"Content-Type": "application/json"})
    print("ANSWER", json.dumps(json.loads(connection.getresponse().read())["tokens"]))
    connection.close()
    del server
"""


def test_the_first_call_builds_and_the_second_finds(tmp_path: Path, order: MakeOrder) -> None:
    first, second = (ensure(order("abc", "q4_k"), tmp_path) for _ in range(2))
    assert first.build_s is not None
    assert second == dataclasses.replace(first, build_s=None)
    assert (first.bytes, first.sha256) == (first.path.stat().st_size, file_sha256(first.path))


def test_the_manifest_says_what_it_was_made_of(tmp_path: Path, order: MakeOrder) -> None:
    made = ensure(order("abc", "q8_0"), tmp_path)
    manifest = json.loads((made.path.parent / "manifest.json").read_text())
    assert manifest["model_digest"] == source.inspect("tiny", None).digest
    assert (manifest["weights"], manifest["method"]) == ("q8_0", "rtn")
    assert manifest["toolchain"] == source.toolchain()
    assert (manifest["sha256"], manifest["bytes"]) == (made.sha256, made.bytes)


def test_the_manifest_says_what_it_cost(shared: Path, order: MakeOrder) -> None:
    made = ensure(order("d1", "q8_0"), shared)
    manifest = json.loads((made.path.parent / "manifest.json").read_text())
    cost = (manifest["build_s"], manifest["peak_rss_bytes"], manifest["tool"])
    assert cost == (made.build_s, made.peak_rss_bytes, made.tool)
    assert made.tool is not None
    assert "xllamacpp" in made.tool
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes > made.bytes


def test_the_same_order_elsewhere_gives_the_same_bytes(tmp_path: Path, order: MakeOrder) -> None:
    for weights in ("f16", "q2_k"):
        made = {ensure(order("abc", weights), tmp_path / place / weights).sha256 for place in ("a", "b")}
        assert len(made) == 1


def test_all_formats_share_one_base(tmp_path: Path, order: MakeOrder) -> None:
    plain = ensure(order("a1", "f16"), tmp_path)
    base = next(tmp_path.glob("base-*")) / "model.gguf"
    written = base.stat().st_mtime_ns
    ensure(order("a2", "q8_0"), tmp_path)
    assert plain.path.samefile(base)
    assert [base.parent] == list(tmp_path.glob("base-*"))
    assert base.stat().st_mtime_ns == written


def test_a_truncated_artifact_is_made_again(tmp_path: Path, order: MakeOrder) -> None:
    first = ensure(order("abc", "q8_0"), tmp_path)
    first.path.write_bytes(first.path.read_bytes()[:-1])
    second = ensure(order("abc", "q8_0"), tmp_path)
    assert second.build_s is not None
    assert second.sha256 == first.sha256


def test_builders_at_the_same_time_build_once(tmp_path: Path) -> None:
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
    answers = [builder.communicate()[0].split() for builder in builders]
    assert sorted(built for built, _ in answers) == ["False", "False", "True"]
    assert len({sha256 for _, sha256 in answers}) == 1


def test_a_folder_becomes_an_artifact(tmp_path: Path, order: MakeOrder, make_folder: Any) -> None:
    made = ensure(order("abc", "q8_0", "small", make_folder()), tmp_path / "cache")
    assert made.bytes > 0


def test_a_model_that_changed_since_the_plan_is_not_built(tmp_path: Path, order: MakeOrder, make_folder: Any) -> None:
    folder = make_folder()
    planned = order("abc", "f16", "small", folder)
    make_folder(rope_theta=5e5)
    with pytest.raises(ArtifactError, match="small is not the one that was planned"):
        ensure(planned, tmp_path / "cache")


def test_a_model_that_was_truncated_since_the_plan_is_named(tmp_path: Path, order: MakeOrder, make_folder: Any) -> None:
    folder = make_folder()
    planned = order("abc", "f16", "small", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match="truncated"):
        ensure(planned, tmp_path / "cache")
    assert not list((tmp_path / "cache" / ".staging").iterdir())


TEXT = Path("words.txt")
CANNOT_BE = [
    ({"method": "gptq"}, "'gptq'"),
    ({"weights": "fp8"}, "'fp8'.* q4_k_m"),
    ({"weights": "iq2_xxs"}, r"iq2_xxs need an importance matrix: write `method: imatrix` and `calibration:` with"),
    ({"weights": "q2_k_s"}, "q2_k_s need an importance matrix"),
    ({"calibration": TEXT, "calibration_sha256": "0"}, "method rtn looks at no calibration text"),
    ({"method": "imatrix"}, "needs a text: write `calibration:`"),
    ({"method": "imatrix", "calibration": TEXT}, "words.txt was planned without its hash; plan again"),
    ({"method": "imatrix", "calibration": TEXT, "weights": "mxfp4"}, "changes nothing in mxfp4 weights: write `me"),
]


@pytest.mark.parametrize(("change", "what"), CANNOT_BE, ids=range(len(CANNOT_BE)))
def test_what_is_not_made_here_is_said_before_anything_starts(
    tmp_path: Path, order: MakeOrder, change: dict[str, Any], what: str
) -> None:
    wrong = dataclasses.replace(order("abc", "q4_k_m"), **change)
    for ask in (lambda: check(wrong), lambda: ensure(wrong, tmp_path)):
        with pytest.raises(ArtifactError, match=what):
            ask()
    assert not list(tmp_path.iterdir())


def weighed(order: ArtifactOrder, text: Path) -> ArtifactOrder:
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
    return dataclasses.replace(order, method="imatrix", calibration=text, calibration_sha256=sha256)


def tensors(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("".join(f"{a} + {b} = {a + b}\n" for a in range(12) for b in range(10)))
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the base form and the matrix of the text are made once."""
    return tmp_path_factory.mktemp("cache")


def test_formats_share_the_matrix_of_a_text_and_say_what_it_was(shared: Path, order: MakeOrder, text: Path) -> None:
    first = ensure(weighed(order("a1", "q3_k_m"), text), shared)
    matrix = next(shared.glob("imatrix-*")) / "imatrix.gguf"
    written = matrix.stat().st_mtime_ns
    second = ensure(weighed(order("a2", "iq2_xxs"), text), shared)
    assert [matrix.parent] == list(shared.glob("imatrix-*"))
    assert matrix.stat().st_mtime_ns == written
    manifests = [json.loads((made.path.parent / "manifest.json").read_text()) for made in (first, second)]
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
    assert [(m["calibration_sha256"], m["calibration_tok"]) for m in manifests] == [(sha256, 1024)] * 2
    fields = {name: field.contents() for name, field in gguf.GGUFReader(second.path).fields.items()}
    assert fields["quantize.imatrix.dataset"] == f"sha256:{sha256}"
    assert (fields["quantize.imatrix.entries_count"], fields["quantize.imatrix.chunks_count"]) == (21, 2)
    plain = tensors(ensure(order("a3", "q3_k_m"), shared).path)
    changed = {name for name, data in tensors(first.path).items() if data != plain[name]}
    assert changed == {name for name in plain if name.startswith("blk.") and "norm" not in name}
    again = ensure(weighed(order("a4", "q3_k_m"), matrix), shared)  # as from a matrix that somebody made
    assert tensors(again.path) == tensors(first.path)
    assert json.loads((again.path.parent / "manifest.json").read_text())["calibration_tok"] == 1024


def test_fewer_samples_of_a_text_are_another_matrix(shared: Path, order: MakeOrder, text: Path) -> None:
    before = set(shared.glob("imatrix-*"))
    made = ensure(dataclasses.replace(weighed(order("b1", "q3_k_m"), text), calibration_samples=1), shared)
    assert len(set(shared.glob("imatrix-*")) - before) == 1
    assert json.loads((made.path.parent / "manifest.json").read_text())["calibration_tok"] == 512


def test_a_text_that_changed_since_the_plan_is_not_used(tmp_path: Path, order: MakeOrder) -> None:
    text = tmp_path / "words.txt"
    text.write_text("as planned")
    planned = weighed(order("abc", "q4_k"), text)
    text.write_text("otherwise")
    with pytest.raises(ArtifactError, match=f"{text}: the calibration text changed since it was planned"):
        ensure(planned, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/*.gguf"))


def test_protected_layers_stay_in_16_bits_and_are_recorded(shared: Path, order: MakeOrder) -> None:
    made = ensure(dataclasses.replace(order("c1", "q4_k_m"), protect=("lm_head", "first 1")), shared)
    kept = {t.name for t in gguf.GGUFReader(made.path).tensors if t.tensor_type == gguf.GGMLQuantizationType.F16}
    assert len(kept) == 8
    assert "output.weight" in kept
    assert json.loads((made.path.parent / "manifest.json").read_text())["protect"] == ["lm_head", "first 1"]
    with pytest.raises(ArtifactError, match="'last 4' is more than the 3 layers"):
        ensure(dataclasses.replace(order("c2", "q4_k_m"), protect=("last 4",)), shared)


def test_no_room_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert f"{tmp_path} cannot be written" in done.stdout
    assert "set FLEETBENCH_CACHE" in done.stdout
    assert not list((tmp_path / ".staging").iterdir())
    assert not list(tmp_path.glob("*/model.gguf"))


def answers(paths: list[Path]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ON_ENGINE, *map(str, paths)], check=True, capture_output=True, text=True
    )
    return [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER")]


@pytest.mark.engine
def test_the_engine_answers_from_mixtures(tmp_path: Path, tiny_gguf: Path) -> None:
    names = ("q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "iq3_s")
    for name in names:
        quantize.quantize(tiny_gguf, tmp_path / name, name)
    assert answers([tmp_path / name for name in names]) == ["[24, 25]"] * len(names)  # 57 + 8 = 65, as below


@pytest.mark.engine
def test_the_engine_answers_from_every_format(tmp_path: Path, order: MakeOrder) -> None:
    formats = ("f16", *quantize.FORMATS)
    paths = [ensure(order(w.replace("_", "-"), w), tmp_path).path for w in formats]
    assert answers(paths) == ["[24, 25]"] * len(formats)  # 57 + 8 = 65, lowest digit first

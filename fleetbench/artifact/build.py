"""Makes sure that an artifact is on this machine: finds it in the cache or makes it, once."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.artifact import calibrate, imatrix, quantize, source
from fleetbench.artifact.cache import MODEL, Manifest
from fleetbench.artifact.hashing import file_sha256
from fleetbench.artifact.maker import Made, make
from fleetbench.artifact.mixtures import NEED_MATRIX
from fleetbench.artifact.types import Artifact, ArtifactError, ArtifactOrder

RTN, IMATRIX = "rtn", "imatrix"
METHODS = (RTN, IMATRIX)
"""Round to nearest by the format's own rule, or with errors weighed by an importance matrix."""
MATRIX = "imatrix.gguf"


def ensure(order: ArtifactOrder, cache: Path) -> Artifact:
    """The artifact of `order`, made now if it is missing or not as large as its manifest says.

    The model's F16 base form is kept in the same cache and shared by all its formats, as is the importance matrix
    of a text.

    Raises:
        ArtifactError: it cannot be made or the cache cannot be written.
        InputError: the model's folder is broken.
    """
    check(order)
    return _kept(cache, order, lambda target: _make(order, cache, target))


def check(order: ArtifactOrder) -> None:
    """What can be said of an order without the model or the text.

    Raises:
        ArtifactError: formats and methods that cannot be made, or a calibration that is missing or would do nothing.
    """
    weights, method = order.weights, order.method
    if method not in METHODS:
        raise ArtifactError(f"method {method!r} cannot make {weights} here (there are {', '.join(METHODS)})")
    if weights not in quantize.WEIGHTS:
        made = ", ".join(quantize.WEIGHTS)
        raise ArtifactError(f"weights {weights!r} cannot be made here (there are {made})")
    if method == RTN and order.calibration is not None:
        raise ArtifactError(f"method {RTN} looks at no calibration text: write `method: {IMATRIX}` or leave it out")
    if method == RTN and weights in NEED_MATRIX:
        raise ArtifactError(
            f"weights {weights} need an importance matrix: write `method: {IMATRIX}` and `calibration:` with the path "
            "of a text, or of a matrix that llama-imatrix made"
        )
    if method == RTN:
        return
    if weights in quantize.UNWEIGHTED:
        raise ArtifactError(f"an importance matrix changes nothing in {weights} weights: write `method: {RTN}`")
    if order.calibration is None:
        raise ArtifactError(f"method {IMATRIX} needs a text: write `calibration:` with its path")
    if order.calibration_sha256 is None:
        raise ArtifactError(f"calibration {order.calibration} was planned without its hash; plan again")


def _make(order: ArtifactOrder, cache: Path, target: Path) -> Made:
    matrix, seen = _matrix(order, cache) if order.method == IMATRIX else (None, Made(peak_rss_bytes=None))
    base = _base(order, cache)
    if order.weights == quantize.BASE:
        _link(base.path, target)
        return Made(peak_rss_bytes=base.peak_rss_bytes)
    made = make(
        "weights",
        base=base.path,
        target=target,
        weights=order.weights,
        protect=list(order.protect),
        matrix=matrix,
        sha256=order.calibration_sha256,
    )
    peaks = (base.peak_rss_bytes, seen.peak_rss_bytes, made.peak_rss_bytes)
    return Made(peak_rss_bytes=max((p for p in peaks if p is not None), default=None), tokens=seen.tokens)


def _base(order: ArtifactOrder, cache: Path) -> Artifact:
    base = ArtifactOrder(
        artifact_id=f"base-{_key(order)}",
        model=order.model,
        model_path=order.model_path,
        model_digest=order.model_digest,
        weights=quantize.BASE,
    )
    return _kept(
        cache,
        base,
        lambda target: make(
            "base", model=order.model, model_path=order.model_path, digest=order.model_digest, target=target
        ),
    )


def _matrix(order: ArtifactOrder, cache: Path) -> tuple[Path, Made]:
    """The importance matrix: the file itself where it is one, else made of the text and kept beside the others."""
    text, sha256 = order.calibration, order.calibration_sha256
    assert text is not None  # noqa: S101  `check` has seen both
    assert sha256 is not None  # noqa: S101  as above
    if imatrix.is_matrix(calibrate.content(text, sha256)):
        return text, Made(peak_rss_bytes=None, tokens=imatrix.read(text).tokens)
    sizes = (order.calibration_samples, order.calibration_sequence_tok)
    wanted = ArtifactOrder(
        artifact_id=f"imatrix-{_key(order, sha256, *map(str, sizes))}",
        model=order.model,
        model_path=order.model_path,
        model_digest=order.model_digest,
        weights=IMATRIX,
        method=IMATRIX,
        calibration_sha256=sha256,
    )

    def made(target: Path) -> Made:
        base = _base(order, cache).path
        return make(
            "matrix", base=base, text=text, sha256=sha256, target=target, samples=sizes[0], sequence_tok=sizes[1]
        )

    found = _kept(cache, wanted, made, MATRIX)
    tokens = shelf.manifest_of(cache, wanted.artifact_id).get("calibration_tok")
    return found.path, Made(peak_rss_bytes=found.peak_rss_bytes, tokens=tokens)


def _key(order: ArtifactOrder, *more: str) -> str:
    whole = "\0".join((order.model_digest, source.toolchain(), *more))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _kept(cache: Path, order: ArtifactOrder, work: Callable[[Path], Made], file: str = MODEL) -> Artifact:
    """The artifact from the cache, or after `work` has written its `file` and it was published."""
    found = shelf.find(cache, order.artifact_id, file)
    if found is not None:
        return found
    with shelf.making(cache, order.artifact_id) as folder:
        found = shelf.find(cache, order.artifact_id, file)
        if found is not None:
            return found
        began = time.monotonic()
        try:
            made = work(folder / file)
            return shelf.publish(cache, folder, _manifest(order, folder / file, began, made), file)
        except OSError as error:
            raise shelf.unwritable(cache, error) from error


def _manifest(order: ArtifactOrder, path: Path, began: float, made: Made) -> Manifest:
    return Manifest(
        artifact_id=order.artifact_id,
        model=order.model,
        model_digest=order.model_digest,
        weights=order.weights,
        method=order.method,
        toolchain=source.toolchain(),
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        build_s=time.monotonic() - began,
        peak_rss_bytes=made.peak_rss_bytes,
        tool=source.toolchain(),
        calibration_sha256=order.calibration_sha256,
        calibration_tok=made.tokens,
        protect=order.protect,
    )


def _link(base: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no links."""
    try:
        os.link(base, target)
    except OSError:
        shutil.copyfile(base, target)

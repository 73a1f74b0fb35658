"""Makes sure that an artifact is on this machine: finds it in the cache or makes it, once."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.artifact import quantize, source
from fleetbench.artifact.cache import MODEL, Manifest
from fleetbench.artifact.hf import file_sha256
from fleetbench.artifact.types import Artifact, ArtifactError, ArtifactOrder

METHOD = "rtn"
"""Round to nearest, without calibration: the one way in which these formats are made here."""


def ensure(order: ArtifactOrder, cache: Path) -> Artifact:
    """The artifact of `order`, made now if it is missing or not as large as its manifest says.

    The model's F16 base form is kept in the same cache and shared by all its formats.

    Raises:
        ArtifactError: it cannot be made or the cache cannot be written.
        InputError: the model's folder is broken.
    """
    if order.method != METHOD:
        raise ArtifactError(f"method {order.method!r} cannot make {order.weights} here (there is {METHOD})")
    if order.weights != quantize.BASE and order.weights not in quantize.FORMATS:
        made = ", ".join((quantize.BASE, *quantize.FORMATS))
        raise ArtifactError(f"weights {order.weights!r} cannot be made here (there are {made})")
    return _kept(cache, order, lambda target: _make(order, cache, target))


def _make(order: ArtifactOrder, cache: Path, target: Path) -> None:
    base = _base(order, cache).path
    if order.weights == quantize.BASE:
        _link(base, target)
    else:
        quantize.quantize(base, target, order.weights)


def _base(order: ArtifactOrder, cache: Path) -> Artifact:
    key = hashlib.sha256(f"{order.model_digest}\0{source.toolchain()}".encode()).hexdigest()[:16]
    base = ArtifactOrder(
        artifact_id=f"base-{key}",
        model=order.model,
        model_path=order.model_path,
        model_digest=order.model_digest,
        weights=quantize.BASE,
    )
    return _kept(
        cache,
        base,
        lambda target: source.write_base(order.model, order.model_path, order.model_digest, target),
    )


def _kept(cache: Path, order: ArtifactOrder, make: Callable[[Path], None]) -> Artifact:
    """The artifact from the cache, or after `make` has written it and it was published."""
    found = shelf.find(cache, order.artifact_id)
    if found is not None:
        return found
    with shelf.making(cache, order.artifact_id) as folder:
        found = shelf.find(cache, order.artifact_id)
        if found is not None:
            return found
        began = time.monotonic()
        try:
            make(folder / MODEL)
            return shelf.publish(cache, folder, _manifest(order, folder / MODEL, began))
        except OSError as error:
            raise shelf.unwritable(cache, error) from error


def _manifest(order: ArtifactOrder, path: Path, began: float) -> Manifest:
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
    )


def _link(base: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no links."""
    try:
        os.link(base, target)
    except OSError:
        shutil.copyfile(base, target)

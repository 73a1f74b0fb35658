"""Makes the checkpoint that a launch needs: a GGUF file, or a compressed folder; some are the model's own folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fleetbench.artifact import build, compressed, hf, models, oneshot, source, toolenv
from fleetbench.artifact import cache as shelf
from fleetbench.artifact.cache import FOLDER, Manifest
from fleetbench.artifact.hashing import file_sha256
from fleetbench.artifact.hf import ARCHITECTURE, digest_files
from fleetbench.artifact.kinds import SERVED
from fleetbench.artifact.need import Need
from fleetbench.artifact.toolchain import toolchain
from fleetbench.artifact.types import Artifact, ArtifactError, ArtifactOrder
from fleetbench.errors import InputError


def lacks(need: Need, cache: Path) -> str | None:
    """Why the checkpoint cannot be had on this machine, in a sentence; None where it is here or can be made."""
    if need.engine == SERVED:
        return None
    if need.model.lacks is not None:
        return need.model.lacks
    match need.kind:
        case "gguf":
            return _lacks_gguf(need)
        case "compressed":
            return _lacks_compressed(need, cache)
        case _:
            return None


def _lacks_gguf(need: Need) -> str | None:
    model, shape = need.model, need.model.shape
    if model.dummy:
        return f"{need.engine} makes no random weights: GGUF files are made of a checkpoint (remove dummy)"
    if shape is not None and shape.architecture != ARCHITECTURE:
        return f"GGUF files are made of {ARCHITECTURE} here; {model.name} is {shape.architecture}"
    if shape is not None and shape.quantized is not None:
        return f"{model.name} is quantized already ({shape.quantized}): GGUF files are made of 16-bit checkpoints"
    try:
        build.check(_order(need))
    except ArtifactError as error:
        return str(error)
    return None if need.folder is None else _unconverted(need.folder)


@lru_cache(maxsize=64)
def _unconverted(folder: Path) -> str | None:
    """Why a Llama cannot be converted; None where it can."""
    try:
        hf.read(folder)
    except InputError as error:
        return f"no GGUF file can be made of it: {'; '.join(error.mistakes)}"
    return None


def _unmakeable(need: Need) -> str | None:
    """Why llmcompressor makes no such checkpoint, wherever it is installed."""
    if need.model.dummy:
        return f"dummy weights of {need.model.name} cannot be made {need.recipe.weights}: nothing is there to round"
    try:
        compressed.scheme(need.recipe)
    except ArtifactError as error:
        return str(error)
    return None


@lru_cache(maxsize=8)
def _has_tool(cache: Path) -> bool:
    """Whether llmcompressor is here; asking starts a process."""
    return toolenv.find(cache) is not None


def _lacks_compressed(need: Need, cache: Path) -> str | None:
    why = _unmakeable(need)
    if why is not None:
        return why
    try:
        if shelf.find(cache, need.artifact_id, FOLDER) is None and not _has_tool(cache):
            return "llmcompressor, which makes it, is not installed yet (`fleetbench prepare` on this matrix does that)"
    except ArtifactError as error:
        return str(error)
    return None


def make(need: Need, cache: Path) -> Artifact:
    """The checkpoint of a model that is here, made if the cache has none; the model's own folder where it serves.

    Raises:
        ArtifactError: it cannot be made.
        InputError: the model's folder is broken.
    """
    match need.kind:
        case "gguf":
            if why := _lacks_gguf(need):
                raise ArtifactError(why)
            return build.ensure(_order(need), cache)
        case "compressed":
            return _compressed(need, cache)
        case "source":
            folder = _folder(need)
            try:
                size = shelf.size_bytes(folder)
            except OSError as error:
                raise ArtifactError(
                    f"{folder}: {error.strerror or error} (it was there when it was planned)"
                ) from error
            return Artifact(
                artifact_id=need.artifact_id, path=folder, bytes=size, sha256=need.model.digest, build_s=None
            )


def _folder(need: Need) -> Path:
    """The model's own folder; of the embedded ones, one has a checkpoint in Hugging Face layout."""
    if need.folder is not None:
        return need.folder
    if need.model.name == source.TINY:
        return models.TINY_FOLDER
    raise ArtifactError(f"{need.model.name} is made as a GGUF file alone: {need.engine} reads no such model")


def _compressed(need: Need, cache: Path) -> Artifact:
    """A checkpoint of llmcompressor's, made now, by one process at a time."""
    if why := _unmakeable(need):  # before gigabytes are installed for it
        raise ArtifactError(why)
    model, tool = _folder(need), toolenv.ensure(cache)
    with shelf.making(cache, need.artifact_id) as place:
        found = shelf.find(cache, need.artifact_id, FOLDER)
        if found is not None:
            return found
        _unchanged(need)
        try:
            log = cache / f"{need.artifact_id}.log"
            made = oneshot.make(need.recipe, model, place / FOLDER, tool=tool, log=log)
            log.unlink(missing_ok=True)
            return shelf.publish(cache, place, _manifest(need, place / FOLDER, made), FOLDER)
        except OSError as error:
            raise shelf.unwritable(cache, error) from error


def _unchanged(need: Need) -> None:
    """The calibration text must be the one that was planned with: its hash is part of the artifact's identity."""
    text = need.recipe.calibration
    try:
        same = text is None or file_sha256(Path(text.path)) == text.sha256
    except OSError:
        same = False
    if text is not None and not same:
        raise ArtifactError(f"the calibration text {text.path} changed since it was planned: plan again")


def _manifest(need: Need, folder: Path, made: oneshot.Made) -> Manifest:
    return Manifest(
        artifact_id=need.artifact_id,
        model=need.model.name,
        model_digest=need.model.digest,
        weights=need.recipe.weights,
        method=need.recipe.method,
        toolchain=toolchain(need.engine),
        sha256=digest_files(sorted(path for path in folder.rglob("*") if path.is_file())),
        bytes=shelf.size_bytes(folder),
        build_s=made.wall_s,
        peak_rss_bytes=made.peak_rss_bytes,
        tool=made.tool,
        calibration_sha256=made.calibration_sha256,
        calibration_tok=made.calibration_tok,
        protect=need.recipe.protect,
    )


def _order(need: Need) -> ArtifactOrder:
    text = need.recipe.calibration
    return ArtifactOrder(
        artifact_id=need.artifact_id,
        model=need.model.name,
        model_path=need.folder,
        model_digest=need.model.digest,
        weights=need.recipe.weights,
        method=need.recipe.method,
        calibration=Path(text.path) if text else None,
        calibration_sha256=text.sha256 if text else None,
        calibration_samples=text.samples if text else None,
        calibration_sequence_tok=text.sequence_tok if text else None,
        protect=need.recipe.protect,
    )

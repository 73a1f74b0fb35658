"""Finds a model by name or folder, says what it is, and writes its F16 base form."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from fleetbench.artifact import calibrate, convert, hf, ladder, mixtures
from fleetbench.artifact.hf import HfModel
from fleetbench.artifact.types import ArtifactError
from fleetbench.errors import InputError
from fleetbench.matrix.types import ModelInfo

TINY, LADDER = "tiny", "ladder-75m"
EMBEDDED = (TINY, LADDER)
_TINY_FOLDER = Path(__file__).resolve().parent / "tiny"
_SUITE = "embedded"


def toolchain() -> str:
    """What turns a model into an artifact, with versions; another one gives other artifact ids."""
    wheels = f"gguf {version('gguf')}, xllamacpp {version('xllamacpp')}"
    own = f"converter {convert.VERSION}, mixtures {mixtures.SOURCE}, imatrix {calibrate.VERSION}"
    return f"{wheels}, {own}"


def inspect(name: str, path: Path | None) -> ModelInfo:
    """What the embedded model `name`, or the Hugging Face folder at `path`, is.

    The digest covers config.json, tokenizer.json and the weights (see `hf.digest`), or the generator, seed
    and shape of random weights (see `ladder.digest`).

    Raises:
        InputError: no such model, or a folder with lacks: all of them, each naming its file.
    """
    if path is None and name == LADDER:
        vocabulary = hf.read(_TINY_FOLDER).vocabulary
        shape = ladder.shape(len(vocabulary.tokens))
        return ModelInfo(
            name=name,
            digest=ladder.digest(vocabulary),
            max_context_tok=shape.context,
            vocab_tok=shape.vocab,
            params=shape.params,
            random_weights=True,
            suites=(),
        )
    model = hf.read(_folder(name, path))
    return ModelInfo(
        name=name,
        digest=hf.digest(model),
        max_context_tok=model.shape.context,
        vocab_tok=model.shape.vocab,
        params=model.shape.params,
        random_weights=False,
        suites=(_SUITE,) if _speaks_suite(model) else (),
    )


def write_base(name: str, path: Path | None, digest: str, target: Path) -> None:
    """Write the F16 form of a model whose digest must still be `digest`.

    Raises:
        InputError: as `inspect`.
        ArtifactError: the model is no longer the one that was planned, or has values beyond F16.
        OSError: no room, no rights.
    """
    found = inspect(name, path).digest
    if found != digest:
        raise ArtifactError(
            f"model {name} is not the one that was planned (digest {found[:12]}, planned {digest[:12]}): "
            "its files differ on this machine or changed; plan again"
        )
    if path is None and name == LADDER:
        ladder.write(hf.read(_TINY_FOLDER).vocabulary, target, name=name)
    else:
        convert.convert(hf.read(_folder(name, path)), target, name=name)


def _folder(name: str, path: Path | None) -> Path:
    if path is not None:
        return path
    if name == TINY:
        return _TINY_FOLDER
    raise InputError((f"model {name}: no embedded model has this name (there are {', '.join(EMBEDDED)})",))


def _speaks_suite(model: HfModel) -> bool:
    """Whether the embedded suite can be put to it: the tiny model's characters, at least its context."""
    own = hf.read(_TINY_FOLDER)
    return model.vocabulary.tokens == own.vocabulary.tokens and model.shape.context >= own.shape.context

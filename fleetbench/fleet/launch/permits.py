"""What a matrix that comes from somebody else may ask of a node: the arguments and paths that its settings let it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fleetbench.engine import matrix_args
from fleetbench.engine.settings import NodeSettings
from fleetbench.errors import InputError
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.matrix.types import Recipe


def check_args(job: LaunchJob, node: NodeSettings) -> None:
    """Raises InputError where the matrix sets arguments that the node's settings do not allow."""
    engine = job.launch.engine
    here = node.engines.get(engine.name)
    if here is not None and (why := matrix_args.refusal(engine.name, engine.args, here.matrix_args)):
        raise InputError((why,))


def check_paths(recipe: Recipe, node: NodeSettings) -> None:
    """Refuse what a recipe names beside the model where it is not here, or the node's settings keep it to themselves.

    An adapter's name ends up in the engine's arguments, so that it must not look like one.

    Raises:
        InputError: every one of them.
    """
    mistakes: list[str] = []
    for what, path in _beside(recipe):
        if path.name.startswith("-"):
            mistakes.append(f"the {what} {path}: a name that begins with `-` reads as an argument (rename it)")
        elif not may_name(path, node):
            mistakes.append(forbidden(f"the {what} {path}", path))
        elif not path.exists():
            mistakes.append(f"the {what} {path} is not on this node (copy it there)")
    if mistakes:
        raise InputError(tuple(mistakes))


def _beside(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    yield from (("adapter", Path(path)) for path in recipe.lora)
    if recipe.draft is not None and recipe.draft.model is not None and recipe.draft.hub is None:
        yield "draft model", Path(recipe.draft.model)
    if recipe.calibration is not None:
        yield "calibration text", Path(recipe.calibration.path)


def may_name(path: Path, node: NodeSettings) -> bool:
    """Whether it is below a folder that the settings name, links followed."""
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in (*node.matrix_paths, *node.models.values()))
    except (OSError, RuntimeError):  # a loop of links
        return False


def forbidden(what: str, path: Path) -> str:
    remedy = f"write `matrix_paths: [{path.parent}]` in the node's settings"
    return f"{what} may not be named by a matrix on this node: {remedy}"

"""A foreseeable failure of a measurement: the worker answers with it instead of a traceback."""

from __future__ import annotations

from typing import Literal

FailureKind = Literal["bad_spec", "bad_model", "engine_gone", "timeout", "protocol", "disk"]


class WorkerFailure(Exception):  # noqa: N818 -- what the worker answers, by the name that its protocol gives it
    """What kind it is, for the caller's outcome, and one sentence for a person."""

    def __init__(self, kind: FailureKind, sentence: str) -> None:
        super().__init__(kind, sentence)
        self.kind: FailureKind = kind
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence

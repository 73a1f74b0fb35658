"""Field types of the matrix file: each with its check, its sentence, and its JSON Schema."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from fleetbench.catalog import lookup
from fleetbench.matrix.document import show

T = TypeVar("T")
INT32 = 2**31 - 1
MOST = 1e9
_UNSHOWN = ("Cc", "Cs")
_KV_PAIR = re.compile(r"k=(\S+) v=(\S+)\Z")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_PROTECT = re.compile(r"(embeddings|lm_head|(first|last) [1-9][0-9]{0,3})\Z")
_DURATION = re.compile(r"(?:(\d{1,6}(?:\.\d{1,6})?)h)?(?:(\d{1,6}(?:\.\d{1,6})?)m)?(?:(\d{1,9}(?:\.\d{1,6})?)s)?\Z")


class OneOrMany:
    """A scalar stands for a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_as_list, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


class Short:
    """A word stands for a mapping; `spell` writes it out, `pattern` says to editors which words there are."""

    def __init__(self, spell: Callable[[str], dict[str, Any]], pattern: Callable[[], str] | None = None) -> None:
        self.spell, self.pattern = spell, pattern

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        word = {"type": "string", **({"pattern": self.pattern()} if self.pattern else {})}
        return {"anyOf": [word, handler(schema)]}

    def _expand(self, value: Any) -> Any:
        return self.spell(value) if isinstance(value, str) else value


class Lone:
    """What is no mapping stands for the mapping that has it as its `key`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        mapping = handler(schema)
        return {"anyOf": [handler.resolve_ref_schema(mapping)["properties"][self.key], mapping]}

    def _expand(self, value: Any) -> Any:
        return value if isinstance(value, dict) else {self.key: value}


class _Known:
    """A word out of the catalog, by its name or an alias, which becomes the name."""

    def __init__(
        self, what: str, names: Callable[[], tuple[str, ...]], aliases: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        self.what, self.names, self.aliases = what, names, aliases

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = self.names()
        words = [word for word, name in self.aliases().items() if name in names]
        return {**handler(schema), "enum": list(dict.fromkeys((*names, *words)))}

    def _check(self, word: str) -> str:
        name = word if word in self.names() else self.aliases().get(word.casefold(), word)
        if name not in self.names():
            raise PydanticCustomError("unknown", "{why}", {"why": unknown(self.what, word, self.names())})
        return name


class _KnownHardware(_Known):
    """A tag, also of a node that only plays such hardware."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        known = super().__get_pydantic_json_schema__(schema, handler)
        played = {"type": "string", "pattern": f"^{lookup.SIMULATED}({'|'.join(known['enum'])})$"}
        return {"anyOf": [known, played]}

    def _check(self, word: str) -> str:
        if not word.startswith(lookup.SIMULATED):
            return super()._check(word)
        return lookup.SIMULATED + super()._check(word.removeprefix(lookup.SIMULATED))


class _Seconds:
    """`10m`, `90s`, `1h30m`, or a number of seconds."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(seconds, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": "^([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?$"}, handler(schema)]}


def unknown(what: str, name: str, names: tuple[str, ...]) -> str:
    near = lookup.nearest(name, names)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"{show(name)} is no known {what} ({remedy})"


def _as_list(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


def seconds(value: Any) -> Any:
    """Of `1h30m`, `10m` or `90s`; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if not value or match is None:
        raise PydanticCustomError("duration", "must be a duration (write 90s, 10m or 1h30m)")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _name(name: str) -> str:
    if not _NAME.match(name):
        why = f"{show(name)} is no name (1 to 64 letters, digits, and . _ + - after the first)"
        raise PydanticCustomError("name", "{why}", {"why": why})
    return name


def hub_id(word: str) -> str:
    if not _HUB_ID.match(word):
        why = f"{show(word)} is no hub id (write organisation/name)"
        raise PydanticCustomError("hub", "{why}", {"why": why})
    return word


def is_hub_word(word: str) -> bool:
    """Whether it reads as a hub id, with `@revision` if wanted."""
    where, at, revision = word.partition("@")
    return bool(_HUB_ID.match(where) and (not at or _NAME.match(revision)))


def _version(word: str) -> str:
    try:
        return str(Version(word))
    except InvalidVersion:
        why = f"{show(word)} is no version (write it as 0.33.0)"
        raise PydanticCustomError("version", "{why}", {"why": why}) from None


def _protected(word: str) -> str:
    if not _PROTECT.match(word):
        near = lookup.nearest(word, ("embeddings", "lm_head", "first 2", "last 2"))
        remedy = f"did you mean {near[0]}?" if near else "write embeddings, lm_head, first N or last N"
        raise PydanticCustomError("protect", "{why}", {"why": f"{show(word)} names no layers ({remedy})"})
    return word


def _argument(text: str) -> str:
    if any(unicodedata.category(char) in _UNSHOWN for char in text):
        raise PydanticCustomError("argument", "holds a control character (remove it)")
    return text


def _text(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "is empty (write a sentence)")
    control = next((char for char in text if unicodedata.category(char) in _UNSHOWN and char not in "\n\t"), None)
    if control is not None:
        why = f"holds the control character {show(control)} (remove it)"
        raise PydanticCustomError("control", "{why}", {"why": why})
    return text


def _axis_count(value: Any) -> str:
    """A count as `Exclusion` holds it: text; 2.0 is 2, and what no count can be would never match."""
    number = _number(value)
    if number is None or not number.is_integer() or not 1 <= number <= INT32:
        why = f"must be a whole number from 1 to {INT32}, not {show(value)}"
        raise PydanticCustomError("axis_count", "{why}", {"why": why})
    return str(int(number))


def _axis_rate(value: Any) -> str:
    number = _number(value)
    if number is None or not 0 < number <= MOST:
        why = f"must be a number above 0, at most {MOST:g}, not {show(value)}"
        raise PydanticCustomError("axis_rate", "{why}", {"why": why})
    return f"{number:g}"


def _axis_kv(word: str) -> str:
    """`q8_0`, or `k=q8_0 v=q4_0` as a cell says it."""
    pair = _KV_PAIR.match(word)
    for part in pair.groups() if pair else (word,):
        if part.partition("/")[0] not in lookup.format_names("kv"):
            why = unknown("KV format", part, lookup.format_names("kv"))
            raise PydanticCustomError("unknown", "{why}", {"why": why})
    return pair[1] if pair and pair[1] == pair[2] else word


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def spell_model(word: str) -> dict[str, Any]:
    """A path, a hub id (with `@revision` if wanted), or a name out of the catalog."""
    if word.startswith((".", "/", "~")):
        return {"name": word.rstrip("/").rsplit("/", 1)[-1], "path": word}
    if "/" in word:
        hub, _, revision = word.partition("@")
        return {"name": hub.rsplit("/", 1)[-1], "hub": hub, **({"revision": revision} if revision else {})}
    return {"name": word}


def spell_recipe(word: str) -> dict[str, Any]:
    """A recipe of the catalog, or a weight format by itself."""
    known = lookup.recipe_info(word)
    return {"name": word, **(dict(known.spelled) if known else {"weights": word})}


def spell_engine(word: str) -> dict[str, Any]:
    """`vllm`, or `vllm==0.33.0`."""
    name, _, version = word.partition("==")
    return {"name": name.strip(), **({"version": version.strip()} if version else {})}


def engine_words() -> str:
    """The regular expression of `spell_engine`'s words."""
    names = "|".join(re.escape(word) for word in (*lookup.engine_names(), *lookup.aliases("engines")))
    return f"^({names})( *==.+)?$"


def spell_kv(word: str) -> dict[str, Any]:
    return {"k": word, "v": word}


def spell_granularity(word: str) -> dict[str, Any]:
    return {"k": word, "v": word}


def spell_calibration(word: str) -> dict[str, Any]:
    return {"path": word}


def spell_draft(word: str) -> dict[str, Any]:
    return {"method": word} if word == "ngram" else {"model": word}


Many = Annotated[list[T], Field(min_length=1), OneOrMany()]
Name = Annotated[str, AfterValidator(_name)]
Sentence = Annotated[str, Field(max_length=2000), AfterValidator(_text)]
Label = Annotated[str, Field(max_length=200), AfterValidator(_text)]
Count = Annotated[int, Field(ge=1, le=INT32)]
Degree = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
Seconds = Annotated[float, Field(gt=0, le=1e7), _Seconds()]
Weights = Annotated[
    str, _Known("weight format", partial(lookup.format_names, "weights"), partial(lookup.aliases, "formats"))
]
Activations = Annotated[
    str, _Known("activation format", partial(lookup.format_names, "activations"), partial(lookup.aliases, "formats"))
]
Kv = Annotated[str, _Known("KV format", partial(lookup.format_names, "kv"), partial(lookup.aliases, "formats"))]
Attention = Annotated[
    str, _Known("attention format", partial(lookup.format_names, "attention"), partial(lookup.aliases, "formats"))
]
Method = Annotated[str, _Known("method", lookup.method_names)]
EngineName = Annotated[str, _Known("engine", lookup.engine_names, partial(lookup.aliases, "engines"))]
Hardware = Annotated[str, _KnownHardware("hardware", lookup.gpu_names, partial(lookup.aliases, "gpus"))]
HubId = Annotated[str, AfterValidator(hub_id)]
EngineVersion = Annotated[str, AfterValidator(_version)]
Protected = Annotated[str, AfterValidator(_protected)]
Argument = Annotated[str, Field(max_length=4096), AfterValidator(_argument)]
FilePath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_argument)]
Suite = Annotated[str, _Known("quality suite", lookup.suite_names)]
AxisCount = Annotated[Any, AfterValidator(_axis_count), WithJsonSchema({"type": ["string", "number"]})]
AxisRate = Annotated[Any, AfterValidator(_axis_rate), WithJsonSchema({"type": ["string", "number"]})]
AxisKv = Annotated[str, AfterValidator(_axis_kv)]

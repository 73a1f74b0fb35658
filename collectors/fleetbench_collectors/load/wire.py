"""Requests as they go over the wire: one HTTP/1.1 POST of JSON, of which all but two places is built once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

Endpoint = Literal["completions", "chat"]

_PATHS: Mapping[Endpoint, str] = {"completions": "/completions", "chat": "/chat/completions"}
_PROMPT_KEYS: Mapping[Endpoint, str] = {"completions": "prompt", "chat": "messages"}
_OWN_KEYS = ("prompt", "messages", "stream")
_OWN_HEADERS = ("host", "content-length", "transfer-encoding", "connection", "expect")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"(/[\x21\x22\x24-\x3e\x40-\x7e]*)?")


class Wire:
    """Serialises the requests to one endpoint of one server."""

    __slots__ = ("_before_length", "_before_prompt", "_before_tok", "_fixed_bytes")

    def __init__(
        self,
        *,
        host_header: str,
        path_prefix: str,
        endpoint: Endpoint,
        model: str,
        seed: int,
        absolute: str | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Builds the constant parts.

        Args:
            host_header: "host:port".
            path_prefix: of the base URL; what it has of "/v1/completions" already is not doubled.
            endpoint: completions or chat.
            model: name of the model.
            seed: the server's for sampling.
            absolute: "http://host:port" where a proxy is asked (RFC 9112, absolute-form), else None.
            headers: to add, or to replace those that are sent anyway.
            api_key: becomes `Authorization: Bearer`.
            body: keys to add to the JSON, to replace, or with the value None to leave out.

        Raises:
            ValueError: a header, a path or a key cannot be sent; the API key is never in the sentence.
        """
        target = f"{_checked_target(absolute)}{_path(path_prefix, endpoint)}"
        lines = [f"POST {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in _headers(host_header, headers or {}, api_key).items()]
        self._before_length = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
        constant = _constant(model, seed, body or {})
        # Keys without a value of their own come before the two that have one.
        limited = constant.pop("max_tokens", None) is not None
        text = _json(constant)[:-1]
        self._before_tok = f'{text},"max_tokens":'.encode() if limited else None
        key = f'"{_PROMPT_KEYS[endpoint]}":'
        self._before_prompt = f",{key}".encode() if limited else f"{text},{key}".encode()
        self._fixed_bytes = len(self._before_tok or b"") + len(self._before_prompt) + len(b"}")

    def payload(self, prompt: bytes, output_tok: int) -> bytes:
        """Head and body of one request; `prompt` is JSON: ids or a string for completions, messages for chat."""
        tok, before_tok = (b"", b"") if self._before_tok is None else (b"%d" % output_tok, self._before_tok)
        length = b"%d\r\n\r\n" % (self._fixed_bytes + len(tok) + len(prompt))
        return b"".join((self._before_length, length, before_tok, tok, self._before_prompt, prompt, b"}"))


def _path(prefix: str, endpoint: Endpoint) -> str:
    if not _TARGET.fullmatch(prefix):
        raise ValueError(f"the path of a base URL begins with / and has no space, ? or #, unlike {prefix!r}")
    base = prefix.rstrip("/")
    for known in sorted(_PATHS.values(), key=len, reverse=True):
        if base.endswith(f"/v1{known}"):
            base = base.removesuffix(known)
            break
    return f"{base}{'' if base.endswith('/v1') else '/v1'}{_PATHS[endpoint]}"


def _checked_target(absolute: str | None) -> str:
    if absolute is None:
        return ""
    if not re.fullmatch(r"http://[\x21-\x2e\x30-\x7e]+", absolute):
        raise ValueError(f"a proxy is asked for http://HOST:PORT, not for {absolute!r}")
    return absolute


def _headers(host: str, given: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """All headers but Content-Length."""
    if not host or not _VALUE.fullmatch(host):
        raise ValueError(f"the host must be HOST:PORT, not {host!r}")
    names = {name.lower(): name for name in given}
    if len(names) < len(given):
        raise ValueError(f"headers stand twice among {', '.join(given)}")
    for lower, name in names.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if lower in _OWN_HEADERS:
            raise ValueError(f"the header {name} is set by the client and cannot be given")
        if not _VALUE.fullmatch(given[name]):
            raise ValueError(f"the value of the header {name} has a line break or a character that cannot be sent")
    sent = {"Host": host, "Content-Type": "application/json", "Accept": "text/event-stream"}
    if api_key is not None:
        if not api_key or not _VALUE.fullmatch(api_key):
            raise ValueError("the API key is empty, or has a line break or a character that cannot be sent")
        if "authorization" in names:
            raise ValueError("an API key and a header Authorization are given: leave one out")
        sent["Authorization"] = f"Bearer {api_key}"
    return {name: value for name, value in sent.items() if name.lower() not in names} | dict(given)


def _constant(model: str, seed: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the body but the prompt; max_tokens, where it is sent, stands for the length of each request."""
    for key in _OWN_KEYS:
        if key in given:
            raise ValueError(f"{key} is set for each request and cannot be given among the keys of the body")
    if given.get("max_tokens") is not None:
        raise ValueError("max_tokens is the output length of each request: ask for that, or leave the key out by null")
    keys = {
        "model": model,
        "max_tokens": 0,
        "ignore_eos": True,
        "temperature": 0,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": False,
    }
    return {key: value for key, value in (keys | dict(given)).items() if value is not None}


def _json(value: object) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the keys of the body cannot be said in JSON: {error}") from None

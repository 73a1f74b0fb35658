from __future__ import annotations

import email.message
import http.client
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.wire import Endpoint, Wire


def wire(
    *,
    path_prefix: str = "",
    endpoint: Endpoint = "completions",
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    absolute: str | None = None,
    host_header: str = "h:1",
) -> Wire:
    return Wire(
        host_header=host_header,
        path_prefix=path_prefix,
        endpoint=endpoint,
        model="m",
        seed=5,
        absolute=absolute,
        headers=headers,
        body=body,
        api_key=api_key,
    )


def parsed(payload: bytes) -> tuple[str, email.message.Message, dict[str, Any]]:
    """Request line, headers and body as a server reads them; exactly the body is left after the head."""
    source = io.BytesIO(payload)
    line = source.readline().decode().removesuffix("\r\n")
    headers = http.client.parse_headers(source)
    rest = source.read()
    assert int(headers["Content-Length"]) == len(rest)
    body = json.loads(rest)
    assert isinstance(body, dict)
    return line, headers, body


def test_a_completions_request_asks_for_a_stream_of_an_exact_length() -> None:
    line, headers, body = parsed(wire().payload(b"[1,2]", 128))
    assert line == "POST /v1/completions HTTP/1.1"
    assert headers["Host"] == "h:1"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 128,
        "ignore_eos": True,
        "temperature": 0,
        "seed": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": False,
    }


def test_a_chat_request_has_messages() -> None:
    line, _, body = parsed(wire(endpoint="chat").payload(b'[{"role":"user","content":"a"}]', 1))
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body["messages"] == [{"role": "user", "content": "a"}]
    assert "prompt" not in body
    assert body["max_tokens"] == 1


@pytest.mark.parametrize(
    ("prefix", "endpoint", "path"),
    [
        ("", "completions", "/v1/completions"),
        ("/", "chat", "/v1/chat/completions"),
        ("/v1", "completions", "/v1/completions"),
        ("/v1/", "chat", "/v1/chat/completions"),
        ("/openai/v1", "chat", "/openai/v1/chat/completions"),
        ("/api", "completions", "/api/v1/completions"),
        ("/v1/completions", "completions", "/v1/completions"),
        ("/v1/chat/completions/", "chat", "/v1/chat/completions"),
        ("/v1/chat/completions", "completions", "/v1/completions"),
        ("/v1/completions", "chat", "/v1/chat/completions"),
        ("/completions", "completions", "/completions/v1/completions"),
    ],
)
def test_what_a_base_url_has_already_is_not_doubled(prefix: str, endpoint: Endpoint, path: str) -> None:
    line, _, _ = parsed(wire(path_prefix=prefix, endpoint=endpoint).payload(b"[1]", 1))
    assert line == f"POST {path} HTTP/1.1"


def test_a_proxy_gets_the_absolute_form() -> None:
    line, headers, _ = parsed(wire(absolute="http://h:1", path_prefix="/v1").payload(b"[1]", 1))
    assert line == "POST http://h:1/v1/completions HTTP/1.1"
    assert headers["Host"] == "h:1"


def test_keys_of_the_body_are_added_replaced_and_left_out() -> None:
    given_body = {"ignore_eos": None, "temperature": 0.5, "min_tokens": 3, "nested": {"a": [1, None]}, "top_p": None}
    _, _, body = parsed(wire(body=given_body).payload(b"[1]", 7))
    assert body["temperature"] == 0.5
    assert body["min_tokens"] == 3
    assert body["nested"] == {"a": [1, None]}
    assert not {"ignore_eos", "top_p"} & set(body)
    assert body["max_tokens"] == 7


def test_the_output_length_can_be_left_out() -> None:
    _, _, body = parsed(wire(body={"max_tokens": None}).payload(b"[1]", 7))
    assert "max_tokens" not in body
    assert body["prompt"] == [1]


def test_headers_are_added_and_replaced_whatever_their_case() -> None:
    _, headers, _ = parsed(wire(headers={"accept": "*/*", "X-Tenant": "blau ü"}, api_key="k-1").payload(b"[1]", 1))
    assert headers.get_all("Accept") == ["*/*"]
    assert headers["X-Tenant"] == "blau ü"
    assert headers["Authorization"] == "Bearer k-1"


@given(
    prompt=st.lists(st.integers(0, 200_000), min_size=1, max_size=50) | st.text(max_size=40),
    output_tok=st.integers(1, 10**7),
    extra=st.dictionaries(
        st.text(max_size=6), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.booleans()), max_size=4
    ),
    endpoint=st.sampled_from(["completions", "chat"]),
)
def test_any_request_is_read_back_as_it_was_meant(
    prompt: Any, output_tok: int, extra: dict[str, Any], endpoint: Endpoint
) -> None:
    _, _, body = parsed(wire(endpoint=endpoint, body=extra).payload(json.dumps(prompt).encode(), output_tok))
    assert body["prompt" if endpoint == "completions" else "messages"] == prompt
    assert body["max_tokens"] == output_tok
    assert all(body.get(key) == value for key, value in extra.items())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"headers": {"X-A": "1\r\nHost: evil"}}, "the header X-A has a line break"),
        ({"headers": {"X-A": "\u20ac"}}, "a character that cannot be sent"),
        ({"headers": {"X A": "1"}}, "no name of a header"),
        ({"headers": {"Content-Length": "1"}}, "Content-Length is set by the client"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "stand twice"),
        ({"headers": {"Authorization": "Basic x"}, "api_key": "k"}, "leave one out"),
        ({"host_header": "h\r\n"}, "host must be"),
        ({"host_header": ""}, "host must be"),
        ({"path_prefix": "v1"}, "begins with /"),
        ({"path_prefix": "/a b"}, "begins with /"),
        ({"path_prefix": "/v1?x=1"}, "begins with /"),
        ({"absolute": "https://h:1"}, "a proxy is asked"),
        ({"absolute": "http://h:1/"}, "a proxy is asked"),
        ({"body": {"stream": False}}, "stream is set for each request"),
        ({"body": {"prompt": "x"}}, "prompt is set for each request"),
        ({"body": {"max_tokens": 5}}, "max_tokens is the output length"),
        ({"body": {"x": float("nan")}}, "cannot be said in JSON"),
        ({"body": {"x": {1, 2}}}, "cannot be said in JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        wire(**options)


def test_a_broken_api_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="the API key") as caught:
        wire(api_key="secret\r\n")
    assert "secret" not in str(caught.value)

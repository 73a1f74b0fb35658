from __future__ import annotations

import pytest

from fleetbench_collectors.load.target import Target


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path", "authority"),
    [
        ("http://host", "host", 80, False, "", "host:80"),
        ("https://host", "host", 443, True, "", "host:443"),
        ("http://host:8000/", "host", 8000, False, "", "host:8000"),
        ("http://HOST:8000/a/B/", "host", 8000, False, "/a/B", "host:8000"),
        ("http://host:/v1", "host", 80, False, "/v1", "host:80"),
        ("https://h:65535/v1/chat/completions", "h", 65_535, True, "/v1/chat/completions", "h:65535"),
        ("http://127.0.0.1:1", "127.0.0.1", 1, False, "", "127.0.0.1:1"),
        ("http://[::1]:8000/x", "::1", 8000, False, "/x", "[::1]:8000"),
        ("https://[2001:db8::1]", "2001:db8::1", 443, True, "", "[2001:db8::1]:443"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, path: str, authority: str, *, tls: bool) -> None:
    target = Target.parse(url)
    assert (target.host, target.port, target.tls, target.path) == (host, port, tls, path)
    assert (target.authority, target.peer) == (authority, (host, port))
    assert target.way == ("tls" if tls else "direct")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "host:8000",
        "//host",
        "http://",
        "http:///path",
        "http://:8000",
        "http://host:0",
        "http://host:70000",
        "http://host:-1",
        "http://host:port",
        "http://a b",
        " http://host",
        "http://host/a b",
        "http://host\n",
        "http://host\t/x",
        "http://h\u00f6st",
        "http://host/\u00e9",
        "http://[::1",
        "http://[::g]:80",
        "http://[127.0.0.1]:80",
        "http://[v1.x]:80",
        "http://host?x=y",
        "http://host/#x",
        "ftp://host",
        "file:///etc",
        "unix:/run/socket",
    ],
)
def test_what_is_no_url_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL must be http://HOST:PORT or https://HOST:PORT, not "):
        Target.parse(url)


def test_a_user_in_the_url_is_refused_rather_than_left_out() -> None:
    with pytest.raises(ValueError, match="without a user") as found:
        Target.parse("http://user:secret@host")
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("proxy", "peer", "auth"),
    [
        ("http://proxy:3128", ("proxy", 3128), None),
        ("http://[::1]", ("::1", 80), None),
        ("http://a%40b:c%3Ad@proxy:1", ("proxy", 1), "Basic YUBiOmM6ZA=="),
        ("http://user@proxy:1", ("proxy", 1), "Basic dXNlcjo="),
    ],
)
def test_a_proxy_is_whom_connections_are_made_to(proxy: str, peer: tuple[str, int], auth: str | None) -> None:
    target = Target.parse("http://host:8000", proxy=proxy)
    assert (target.peer, target.proxy_auth, target.way) == (peer, auth, "proxy")
    assert target.authority == "host:8000"
    assert Target.parse("https://host", proxy=proxy).way == "proxy+tls"


@pytest.mark.parametrize("proxy", ["proxy:3128", "https://proxy", "socks5://proxy:1", "http://user:secret@proxy:99999"])
def test_what_is_no_proxy_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match="the proxy must be http://HOST:PORT, not ") as found:
        Target.parse("http://host", proxy=proxy)
    assert "secret" not in str(found.value)


def test_a_name_that_nobody_knows_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"."):
        Target.parse("http://nowhere.invalid").resolve()

"""Reaching a dashboard's Jobs API: every way in which it can fail is a sentence with the remedy."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.jobs import api as jobs_api
from fleetbench.fleet.jobs import runs as jobs
from fleetbench.fleet.jobs.api import JobsApi, RefusedError, reach_jobs

SECRET = secrets.token_hex(16)


class _Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's does in token mode."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        if self.path == "/elsewhere/api/version":
            self._answer(302, "", Location="http://192.0.2.1/")
        elif given is None:
            self._answer(401, "Unauthorized: Missing authentication token")
        elif given != f"Bearer {SECRET}":
            self._answer(403, "Forbidden: Invalid authentication token")
        elif self.path in ("/api/version", "/behind/api/version"):
            self._answer(200, json.dumps({"version": "4", "ray_version": "2.60.0"}))
        elif self.path == "/number/api/version":
            self._answer(200, "3")
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" ")
        elif self.path.startswith("/shapeless/"):
            self._answer(200, "{}")
        elif self.path == "/other/api/version":
            self._answer(200, "<html>")
        else:
            self._answer(500, "Traceback\nValueError: Job already exists.\n.")

    def _answer(self, code: int, text: str, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def dashboard(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Dashboard) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with dashboard() as port:
        yield port


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n")
    return path


def reach(address: str, token: Path, **environ: str) -> JobsApi:
    return reach_jobs(address, token, environ)


def test_a_dashboard_that_answers_is_reached_with_the_token(port: int, token: Path) -> None:
    api = reach(f"http://127.0.0.1:{port}/", token)
    assert api.url == f"http://127.0.0.1:{port}"
    assert not api.clear_text
    assert SECRET not in repr(api)
    assert reach(f"http://127.0.0.1:{port}/behind", token).url.endswith("/behind")
    assert reach_jobs(f"http://127.0.0.1:{port}", None, {"RAY_AUTH_TOKEN": SECRET}).url
    with pytest.raises(RefusedError, match="answered 500: ValueError: Job already exists"):
        api.call("GET", "/api/jobs/")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/number", "is no Ray dashboard"),
        ("/elsewhere", r"points elsewhere \(302\)"),
        ("/other", "is no Ray dashboard"),
        ("/nowhere", "is no Ray dashboard"),
    ],
)
def test_what_is_no_dashboard_is_said(port: int, token: Path, path: str, why: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=why):
        reach(f"http://127.0.0.1:{port}{path}", token)


def test_a_wrong_token_is_told_from_one_that_got_lost(port: int, token: Path) -> None:
    token.write_text("another")
    with pytest.raises(UnusableEnvironmentError, match="has another token: copy the head's token file") as error:
        reach(f"http://127.0.0.1:{port}", token)
    assert "another-" not in str(error.value)
    api = JobsApi(url="http://x", _host="127.0.0.1", _port=port, _base="", _headers={}, _tls=None)
    with pytest.raises(UnusableEnvironmentError, match="wants a token that it did not get"):
        api.call("GET", "/api/version")


def test_no_token_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match="there is no cluster token at"):
        reach("http://127.0.0.1:1", tmp_path / "none")


def _refusing() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))  # and does not listen
    return sock


def _silent() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("make", "why"),
    [(_refusing, "nothing listens at .*fleetbench.cluster.*ssh -L"), (_silent, "does not answer.*firewall")],
)
def test_a_head_that_is_not_there_is_said_within_seconds(
    make: Callable[[], socket.socket], why: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_api, "ANSWER_S", 0.2)
    with make() as sock, pytest.raises(UnusableEnvironmentError, match=why):
        reach(f"http://127.0.0.1:{sock.getsockname()[1]}", token)


def test_whatever_hangs_is_not_waited_for(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_api, "WHOLE_S", 0.1)
    with _silent() as sock, pytest.raises(UnusableEnvironmentError, match=r"does not answer within 0\.1 s"):
        reach(f"http://127.0.0.1:{sock.getsockname()[1]}", token)


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "ftp://head:8265",
        "http://user@head",
        "http://head:x",
        "http://[::1",
        "http://head?a=b",
        "http://head:0",
        "http://head/\N{LATIN SMALL LETTER U WITH DIAERESIS}",
    ],
)
def test_an_address_that_is_none_is_a_mistake(address: str, token: Path) -> None:
    with pytest.raises(InputError, match="is none of a dashboard"):
        reach(address, token)


def test_an_unknown_host_is_said(token: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match=r"there is no host nosuch\.invalid|does not answer within"):
        reach("http://nosuch.invalid", token)
    with pytest.raises(UnusableEnvironmentError, match="there is no host aaa"):
        reach(f"http://{'a' * 300}.b", token)


def test_an_answer_that_never_ends_is_not_waited_for(port: int, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = reach(f"http://127.0.0.1:{port}", token)
    monkeypatch.setattr(jobs_api, "ANSWER_BYTES", 100)
    with pytest.raises(UnusableEnvironmentError, match="is no Ray dashboard"):
        api.call("GET", "/drip")
    monkeypatch.setattr(jobs_api, "ANSWER_BYTES", 1 << 30)
    monkeypatch.setattr(jobs_api, "ANSWER_S", 0.1)
    monkeypatch.setattr(jobs_api, "SLOWEST_BYTES_PER_S", 1 << 40)
    with pytest.raises(UnusableEnvironmentError, match="does not answer"):
        api.call("GET", "/drip")


def test_answers_of_another_form_than_ray_s_are_said(port: int, token: Path) -> None:
    api = replace(reach(f"http://127.0.0.1:{port}", token), _base="/shapeless")
    with pytest.raises(UnusableEnvironmentError, match="is no Ray dashboard"):
        jobs.runs_jobs(api)
    with pytest.raises(UnusableEnvironmentError, match="is no Ray dashboard"):
        jobs.follow(jobs.ask_cluster(api, ["status"]), lambda *_: None)


def test_a_token_in_the_environment_that_is_none_is_refused_and_not_told(port: int) -> None:
    with pytest.raises(UnusableEnvironmentError, match="RAY_AUTH_TOKEN holds no token") as error:
        reach_jobs(f"http://127.0.0.1:{port}", None, {"RAY_AUTH_TOKEN": "marker\nX: b"})
    assert "marker" not in str(error.value)


def _certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of its own for 127.0.0.1, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "head")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = folder / "certificate.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return certificate, context


def test_tls_is_verified_against_the_clusters_authority(tmp_path: Path, token: Path) -> None:
    certificate, context = _certificate(tmp_path)
    with dashboard(context) as port:
        address = f"https://127.0.0.1:{port}"
        assert reach(address, token, RAY_TLS_CA_CERT=str(certificate)).url == address
        with pytest.raises(UnusableEnvironmentError, match=r"is not trusted: .*RAY_TLS_CA_CERT"):
            reach(address, token)
        with pytest.raises(UnusableEnvironmentError, match=r"RAY_TLS_CA_CERT names .*key\.pem, which holds no cert"):
            reach(address, token, RAY_TLS_CA_CERT=str(tmp_path / "key.pem"))


def test_plain_http_asked_for_tls_is_said(port: int, token: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match=r"does not speak TLS: .*write http://"):
        reach(f"https://127.0.0.1:{port}", token)


@pytest.mark.parametrize(
    ("host", "clear"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("head", True)]
)
def test_a_token_in_clear_text_is_known(host: str, clear: bool) -> None:  # noqa: FBT001
    api = JobsApi(url="", _host=host, _port=1, _base="", _headers={}, _tls=None)
    assert api.clear_text is clear

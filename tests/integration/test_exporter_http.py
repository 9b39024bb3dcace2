"""The exporter's HTTP server over real sockets: what it answers, whom, and what it does about rude clients."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import trustme
import yaml
from isal import igzip
from served_site import FakeSite, Serving, rest, serving, status
from servers import wait_for

import exporter.connection
from exporter.config import parse
from exporter.errors import CannotServe, ConfigError, Problem


@pytest.fixture(scope="module")
def plain() -> Iterator[Serving]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is refused is listened to until it has read why, however slow it is."""
    monkeypatch.setattr(exporter.connection, "_LINGER", 60.0)


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"


def test_metrics_are_negotiated_and_filtered(plain: Serving) -> None:
    answer = requests.get(plain.url + "/metrics", headers={"Accept": "text/plain", "Accept-Encoding": ""}, timeout=60)
    assert (answer.status_code, answer.headers["Content-Type"], answer.text) == (200, CLASSIC, "sentinel_a 1\n")
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert plain.site.asked[-1] == {"gzip": False, "form": "text", "names": [], "sources": []}
    url = plain.url + "/metrics?name[]=a&name%5B%5D=b&source[]=s%20t"
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    head = requests.head(url, headers=headers, timeout=60)
    assert (head.headers["Content-Type"], head.headers["Content-Encoding"]) == (OPENMETRICS, "gzip")
    assert head.headers["Content-Length"] == str(len(igzip.compress(b"sentinel_a 1\n")))
    assert plain.site.asked[-1] == {"gzip": True, "form": "openmetrics", "names": ["a", "b"], "sources": ["s t"]}


def test_a_head_has_no_body_and_the_connection_goes_on(plain: Serving) -> None:
    answer = plain.raw(
        b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    first, second, body = answer.split(b"\r\n\r\n")
    assert b"Content-Length: 13" in first
    assert second.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in second
    assert body == b"healthy\n"


def test_pages_are_safe_to_show(plain: Serving) -> None:
    page = requests.get(plain.url + "/?q=pay&state=failing", timeout=60)
    assert "text=&#x27;pay" in page.text or "Filter(text='pay', state='failing')" in page.text
    assert page.headers["Content-Encoding"] == "gzip"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    config = requests.get(plain.url + "/config", timeout=60)
    assert yaml.safe_load(config.text) == {"exporter": {}}
    for answer in (page, config, requests.get(plain.url + "/-/nowhere", timeout=60)):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert (page.headers["Cache-Control"], config.headers["Cache-Control"]) == ("no-store", "no-store")


def test_ready_says_so_or_503() -> None:
    with serving(FakeSite(ready=False)) as unready:
        assert requests.get(unready.url + "/-/ready", timeout=60).status_code == 503
        unready.site.ready = True
        assert requests.get(unready.url + "/-/ready", timeout=60).status_code == 200


def test_healthy_is_503_once_nothing_is_collected_any_more() -> None:
    with serving(FakeSite(healthy=False)) as unhealthy:
        assert requests.get(unhealthy.url + "/-/healthy", timeout=60).status_code == 503
        unhealthy.site.healthy = True
        assert requests.get(unhealthy.url + "/-/healthy", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404, b"/-/reload"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", 405, b"Allow: GET, HEAD"),
        (b"BREW / HTTP/1.1\r\n\r\n", 405, b"takes GET, HEAD only"),
        (b"GET /-/reload HTTP/1.1\r\n\r\n", 405, b"Allow: POST, PUT"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, b"8192"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 50_000 + b"\r\n\r\n", 431, b"headers"),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431, b"headers"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (i, b"a" * 990) for i in range(99)) + b"\r\n", 431, b"long"),
        (b"POST /-/reload HTTP/1.1\r\nContent-Length: 70000\r\n\r\n", 413, b"65536"),
        (b"POST /-/reload HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413, b"65536"),
        (b"POST /-/reload HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, b"no number"),
        (b"POST /-/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, b"Content-Length"),
        (b"nonsense\r\n\r\n", 400, b"Bad request syntax"),
        (b"GET / HTTP/9.9\r\n\r\n", 505, b"9.9"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, b"Bad request"),
        (b"GET //[x/metrics HTTP/1.1\r\n\r\n", 404, b"not found"),
        (b"GET http://[x/metrics HTTP/1.1\r\n\r\n", 400, b"cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_said_clearly(plain: Serving, request_: bytes, code: int, words: bytes) -> None:
    keep = request_ if b"9.9" in request_ else request_.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    answer = plain.raw(keep)
    assert status(answer) == code
    assert words in answer
    assert b"Content-Type: text/plain" in answer
    assert b"<html" not in answer.lower()


def test_a_body_is_read_and_thrown_away(plain: Serving) -> None:
    answer = plain.raw(
        b"GET /-/healthy HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET / x\r\n"
        b"GET /-/ready HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.endswith(b"ready\n")


def test_a_reload_says_what_is_wrong() -> None:
    with serving() as own:
        done = requests.post(own.url + "/-/reload", timeout=60)
        assert (done.status_code, done.text, own.site.reloads) == (
            200, "reloaded, sources: 2 kept, 1 changed, 0 added, 0 removed\n", 1,
        )  # fmt: skip
        assert requests.put(own.url + "/-/reload", timeout=60).status_code == 200
        own.site.problems = [Problem("c.yaml", 3, "data_sources[0].type", "is missing")]
        failed = requests.post(own.url + "/-/reload", timeout=60)
        assert failed.status_code == 500
        assert "c.yaml:3: data_sources[0].type: is missing" in failed.text
        assert own.site.reloads == 3


def test_who_may_ask_for_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t-0123456789")
    proxied, foreign = {"X-Forwarded-For": "10.0.0.9"}, {"Origin": "https://elsewhere.example"}
    token = {"Authorization": "Bearer t-0123456789"}

    def asked(config: dict[str, object], headers: dict[str, str]) -> int:
        with serving(**config) as own:
            return requests.post(own.url + "/-/reload", headers=headers, timeout=60).status_code

    auth: dict[str, object] = {"auth": {"tokens": [{"token_env": "TOKEN"}]}}
    assert asked({}, proxied) == 403
    assert asked({"allow_reload": True}, proxied) == 200
    assert asked({"allow_reload": True}, foreign) == 403
    assert asked(auth, {}) == 401
    assert asked(auth, token | proxied) == 200
    assert asked(auth, token | foreign) == 403


def test_only_the_probes_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "secret-4711")
    user = {"username": "prometheus", "password_env": "PASSWORD"}
    with serving(auth={"users": [user]}) as own:
        for path in ("/", "/metrics", "/config", "/nowhere"):
            answer = requests.get(own.url + path, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert requests.get(own.url + "/metrics", auth=("prometheus", "wrong"), timeout=60).status_code == 401
        assert requests.get(own.url + "/metrics", auth=("prometheus", "secret-4711"), timeout=60).status_code == 200
        assert requests.get(own.url + "/-/healthy", timeout=60).status_code == 200
        assert requests.get(own.url + "/-/ready", timeout=60).status_code == 200


def test_a_missing_password_is_told_at_the_start() -> None:
    with pytest.raises(CannotServe, match="NOT_THERE"), serving(auth={"tokens": [{"token_env": "NOT_THERE"}]}):
        pass


@pytest.mark.parametrize("send_timeout", ["1h", "200ms"])
def test_a_stalled_scrape_blocks_no_other_and_is_broken_off(send_timeout: str) -> None:
    site = FakeSite(body=[b"#" + b"x" * 1_000_000 + b"\n"] * 40)
    with serving(site, limits={"send_timeout": send_timeout}) as own, contextlib.ExitStack() as stalled:
        for _ in range(5):
            connection = stalled.enter_context(own.connect())
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        if send_timeout == "200ms":
            wait_for(lambda: len(site.asked) == 5 and own.server._open == 0, what="broken off", timeout=60)
            return
        assert requests.get(own.url + "/-/healthy", timeout=60).ok
        full = requests.get(own.url + "/metrics", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert len(full.content) == 40 * 1_000_002


def test_a_request_that_drips_is_given_up() -> None:
    with serving(limits={"read_timeout": "500ms"}) as own, own.connect() as slow, own.connect() as silent:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        slow.setblocking(False)

        def answered() -> bytes:
            slow.sendall(b"a")
            with contextlib.suppress(BlockingIOError):
                return slow.recv(65536)
            return b""

        assert status(wait_for(answered, what="given up", timeout=60)) == 408
        assert rest(silent) == b""
        slow.close()
        wait_for(lambda: own.server._open == 0, what="both closed", timeout=60)


def test_a_client_that_still_sends_hears_why_it_is_refused(plain: Serving) -> None:
    for _ in range(20):
        answer = plain.raw(b"GET /" + b"a" * 700_000 + b" HTTP/1.1\r\n\r\n")
        assert status(answer) == 414


def test_connections_beyond_the_limit_are_told_so_and_probes_still_answer() -> None:
    with serving(limits={"max_connections": 2, "read_timeout": "1h"}) as own, contextlib.ExitStack() as held:
        kept = [held.enter_context(own.connect()) for _ in range(2)]
        wait_for(lambda: own.server._open == 2, what="two open")
        refused = requests.get(own.url + "/metrics", timeout=60)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert requests.get(own.url + "/-/healthy", timeout=60).ok
        assert requests.get(own.url + "/-/ready", timeout=60).ok
        assert requests.get(own.url + "/-/healthy?x=1", timeout=60).ok
        kept[0].sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert status(rest(kept[0])) == 200
        wait_for(lambda: own.server._open == 1, what="one open")
        assert requests.get(own.url + "/metrics", timeout=60).ok


def test_a_flood_leaves_a_bounded_number_of_threads() -> None:
    with serving(limits={"max_connections": 2, "read_timeout": "1h"}) as own:
        with contextlib.ExitStack() as held:
            for _ in range(60):
                held.enter_context(own.connect())
            wait_for(lambda: own.server._open == 18, what="all that are allowed")
        wait_for(lambda: own.server._open == 0, what="all are gone", timeout=60)
        assert requests.get(own.url + "/metrics", timeout=60).ok


@dataclass
class Paths:
    authority: trustme.CA
    cert: Path
    key: Path
    ca: Path

    @property
    def config(self) -> dict[str, str]:
        return {"cert_file": str(self.cert), "key_file": str(self.key)}

    def issue(self) -> None:
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(self.key)
        self.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))


@pytest.fixture
def certificates(tmp_path: Path) -> Paths:
    paths = Paths(trustme.CA(), tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    paths.authority.cert_pem.write_to_path(paths.ca)
    paths.issue()
    return paths


def serial(serving_: Serving, ca: Path) -> str:
    context = ssl.create_default_context(cafile=str(ca))
    with serving_.connect() as connection, context.wrap_socket(connection, server_hostname="localhost") as wrapped:
        return str(wrapped.getpeercert()["serialNumber"])  # type: ignore[index] # always there when verified


def test_tls_with_a_rotated_certificate(certificates: Paths) -> None:
    with serving(FakeSite(body=[b"x" * 300_000] * 5), tls=certificates.config) as own:
        assert own.url.startswith("https://")
        answer = requests.get(own.url + "/metrics", verify=str(certificates.ca), timeout=60)
        assert len(answer.content) == 1_500_000
        first = serial(own, certificates.ca)
        old_key = certificates.key.read_bytes()
        certificates.issue()
        new_key = certificates.key.read_bytes()
        certificates.key.write_bytes(old_key)  # the rotation is only half done
        assert serial(own, certificates.ca) == first
        certificates.key.write_bytes(new_key)
        second = serial(own, certificates.ca)
        assert second != first
        certificates.cert.unlink()
        assert serial(own, certificates.ca) == second


def test_old_tls_and_plain_http_are_refused(certificates: Paths) -> None:
    with serving(tls=certificates.config | {"min_version": "1.3"}) as own:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with own.connect() as connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_hostname="localhost")
        assert b"200" not in own.raw(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert requests.get(own.url + "/-/healthy", verify=str(certificates.ca), timeout=60).ok


def test_a_handshake_that_never_comes_blocks_nobody_and_is_given_up(certificates: Paths) -> None:
    with serving(tls=certificates.config, limits={"read_timeout": "1h"}) as own, own.connect():
        assert requests.get(own.url + "/-/healthy", verify=str(certificates.ca), timeout=60).ok
    with serving(tls=certificates.config, limits={"read_timeout": "200ms"}) as own, own.connect() as silent:
        assert rest(silent) == b""
        wait_for(lambda: own.server._open == 0, what="silent client closed", timeout=60)


def test_only_clients_with_a_certificate(certificates: Paths, tmp_path: Path) -> None:
    clients, file = trustme.CA(), tmp_path / "clients.pem"
    clients.cert_pem.write_to_path(file)
    mine = tmp_path / "mine.pem"
    clients.issue_cert("prometheus@example.com").private_key_and_cert_chain_pem.write_to_path(mine)
    with serving(tls=certificates.config | {"client_ca_file": str(file)}) as own:
        url, verify = own.url + "/metrics", str(certificates.ca)
        assert requests.get(url, verify=verify, cert=str(mine), timeout=60).ok
        with pytest.raises(requests.ConnectionError):
            requests.get(url, verify=verify, timeout=60)


@pytest.mark.parametrize(
    ("cert", "words"),
    [("not there", "No such file"), ("garbage", "no certificate with its key"), ("other", "values mismatch")],
)
def test_a_certificate_that_cannot_be_used_is_told_at_the_start(
    certificates: Paths, tmp_path: Path, cert: str, words: str
) -> None:
    file = tmp_path / "wrong.pem"
    if cert == "garbage":
        file.write_text("garbage")
    elif cert == "other":
        trustme.CA().issue_cert("localhost").cert_chain_pems[0].write_to_path(file)
    with pytest.raises(CannotServe, match=words), serving(tls=certificates.config | {"cert_file": str(file)}):
        pass


def test_the_server_part_of_the_configuration_is_checked() -> None:
    text = """
exporter:
  auth: {users: [{username: "a:b", password: plain}], tokens: [{}]}
  tls: {cert_file: c.pem, min_version: "1.1"}
  limits: {max_connections: 0, read_timeout: 5}
data_sources: [{name: a, type: database, url_env: U, query: q, metrics: [{source_field: a, prometheus_name: b}]}]
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    found = {problem.path for problem in caught.value.problems}
    assert found == {
        "exporter.auth.users[0].username", "exporter.auth.users[0].password", "exporter.auth.tokens[0]",
        "exporter.tls.key_file", "exporter.tls.min_version", "exporter.limits.max_connections",
        "exporter.limits.read_timeout",
    }  # fmt: skip

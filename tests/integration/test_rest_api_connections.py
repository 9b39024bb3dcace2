"""How the rest_api source connects: TLS, client certificates, proxies, redirects; and what no other server sees."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from rest_sources import at_once, source
from servers_http import Answer, Api, Proxy, api_server, forward_proxy

from exporter.errors import BadAnswer, Denied, SecretMissing, Unreachable

__all__ = ["at_once"]  # a fixture
ROW = {"account_id": "a", "value": 1.5}
GOOD = Answer(body={"data": [ROW]})
SECRET = "s3cret-that-must-not-leak"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("API_SECRET", SECRET)
    with api_server() as api:
        api.answer = lambda _: GOOD
        yield api


@pytest.fixture
def other() -> Iterator[Api]:
    with api_server() as api:
        api.answer = lambda _: GOOD
        yield api


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client = authority.issue_cert("sentinel@example.com")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    stranger = trustme.CA().issue_cert("stranger@example.com")
    stranger.private_key_and_cert_chain_pem.write_to_path(folder / "stranger.pem")
    return authority, folder


def tls_api(stack: ExitStack, authority: trustme.CA, *, client: bool = False, name: str = "127.0.0.1") -> Api:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if client:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    api = stack.enter_context(api_server(context))
    api.answer = lambda _: GOOD
    return api


def test_a_server_is_trusted_only_with_its_authority(authority: tuple[trustme.CA, Path]) -> None:
    ca, folder = authority
    with ExitStack() as stack:
        api = tls_api(stack, ca)
        plain = f"type: rest_api\nendpoint: {api.url}/x\n"
        made = stack.enter_context(source(plain))
        with pytest.raises(Unreachable, match=r"certificate is not trusted; .* in tls.ca_file") as refused:
            made.collect()
        assert not refused.value.retryable
        made = stack.enter_context(source(plain + f"tls: {{ca_file: {folder}/ca.pem}}"))
        assert made.rows() == [(1.5, "a")]
        made = stack.enter_context(source(plain + "tls: {verify: false}"))
        collection = made.collection()
        made.collect(collection)
        assert [warning.reason for warning in collection.warnings] == ["tls_unverified"]
        made = stack.enter_context(source(plain + f"tls: {{ca_file: {folder}/none.pem}}"))
        with pytest.raises(SecretMissing, match=r"tls.ca_file .*none.pem cannot be read"):
            made.collect()
        named = tls_api(stack, ca, name="elsewhere.example")
        made = stack.enter_context(source(f"type: rest_api\nendpoint: {named.url}\ntls: {{ca_file: {folder}/ca.pem}}"))
        with pytest.raises(Unreachable, match="not trusted"):
            made.collect()


@pytest.mark.parametrize("keys", ["cert_file: {}/client.pem, key_file: {}/client.key", "cert_file: {}/both.pem"])
def test_a_client_certificate_lets_in(authority: tuple[trustme.CA, Path], keys: str) -> None:
    ca, folder = authority
    with ExitStack() as stack:
        api = tls_api(stack, ca, client=True)
        text = f"type: rest_api\nendpoint: {api.url}/x\ntls: {{ca_file: {folder}/ca.pem"
        assert stack.enter_context(source(f"{text}, {keys.replace('{}', str(folder))}}}")).rows() == [(1.5, "a")]
        for certificate in ("", f", cert_file: {folder}/stranger.pem"):
            made = stack.enter_context(source(f"{text}{certificate}}}"))
            with pytest.raises(Unreachable, match=r"wants a client certificate.*set tls.cert_file"):
                made.collect()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with forward_proxy() as proxy:
        yield proxy


@pytest.mark.parametrize("key", ["proxy_env: PROXY", "proxy: '${PROXY}'"])
def test_a_proxy_with_a_password_is_gone_through(
    api: Api, proxy: Proxy, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("PROXY", proxy.with_password)
    ca, folder = authority
    with ExitStack() as stack:
        secure = tls_api(stack, ca)
        made = stack.enter_context(source(f"type: rest_api\nendpoint: {api.url}/x\n{key}"))
        assert made.rows() == [(1.5, "a")]
        text = f"type: rest_api\nendpoint: {secure.url}/x\ntls: {{ca_file: {folder}/ca.pem}}\n{key}"
        assert stack.enter_context(source(text)).rows() == [(1.5, "a")]
    plain, tunnelled = proxy.lines
    assert plain.startswith(f"GET {api.url}/x")
    assert tunnelled.startswith("CONNECT 127.0.0.1:")


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_that_refuses_is_named_without_its_password(
    proxy: Proxy, api: Api, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    monkeypatch.setenv("PROXY", proxy.with_password.replace("pr0xy", "wr0ng"))
    with ExitStack() as stack:
        url = tls_api(stack, authority[0]).url if secure else api.url
        made = stack.enter_context(source(f"type: rest_api\nendpoint: {url}/x\nproxy_env: PROXY"))
        with pytest.raises(Denied, match="the proxy refused its user or password") as refused:
            made.collect()
    assert "wr0ng" not in str(refused.value)
    assert made.secrets.redact("wr0ng/pass wr0ng%2Fpass") == "*** ***"


@pytest.mark.usefixtures("at_once")
def test_a_proxy_that_is_down_is_named(api: Api, free_port: Callable[[], int]) -> None:
    with (
        source(f"type: rest_api\nendpoint: {api.url}/x\nproxy: 'http://127.0.0.1:{free_port()}'") as made,
        pytest.raises(Unreachable, match=r"the proxy did not connect: .*Connection refused"),
    ):
        made.collect()


CREDENTIALS = "auth: {type: api_key, key_env: API_SECRET}\nheaders: {X-Tenant: '${API_SECRET}'}"


def test_another_server_gets_no_credentials_by_a_redirect(api: Api, other: Api) -> None:
    api.answer = lambda _: Answer(302, headers={"Location": f"{other.url}/elsewhere"})
    with source(f"type: rest_api\nendpoint: {api.url}/x\n{CREDENTIALS}") as made:
        assert made.rows() == [(1.5, "a")]
    assert api.requests[0].headers["X-Tenant"] == SECRET
    assert SECRET not in str(other.requests[0])
    api.answer = lambda seen: GOOD if seen.path == "/y" else Answer(307, headers={"Location": "/y"})
    with source(f"type: rest_api\nendpoint: {api.url}/x\n{CREDENTIALS}") as made:
        assert made.rows() == [(1.5, "a")]
    assert api.requests[-1].headers["X-API-Key"] == SECRET


def test_a_body_does_not_go_on_to_another_server(api: Api, other: Api) -> None:
    api.answer = lambda _: Answer(307, headers={"Location": f"{other.url}/elsewhere"})
    with (
        source(f"type: rest_api\nendpoint: {api.url}/x\nmethod: POST\nbody: {{k: '${{API_SECRET}}'}}") as made,
        pytest.raises(BadAnswer, match="sends on to another server, http://127"),
    ):
        made.collect()
    assert other.requests == []

from __future__ import annotations

import http.server
import threading
from collections.abc import Sequence

import pytest
import requests

from webhook.notifiers.outgoing import ForbiddenAddress, check_host, check_url, guarded_session, is_public


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1",
        "10.0.0.1", "192.168.1.1",
        "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0", "224.0.0.1", "255.255.255.255", "198.18.0.1",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]",
        "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fec0::1]",
        "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "localhost", "metadata", "127。0。0。1",
        "①②⑦.0.0.1", "127.0.0.1.", "",
    ],
)  # fmt: skip
def test_no_notation_of_an_address_inside_is_taken(host: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/x", "https://user@hooks.slack.com/", "https://hooks.slack.com:80@10.0.0.1/",
        "ftp://a.example/",
        "https://hooks.slack.com\\@10.0.0.1/", "https://a.example:99999/",
        "https://a.example/ b", "https://a.example/\n", "//a.example",
        "https://[::1", "https://" + "a" * 3000 + ".example/",
    ],
)  # fmt: skip
def test_no_url_of_a_doubtful_form_is_taken(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_url(url)


def test_names_and_public_addresses_are_taken() -> None:
    for url in ("https://hooks.slack.com/services/T0/B0/x", "https://bücher.example/x?y=1", "https://8.8.8.8:8443/"):
        assert check_url(url) == url
    assert is_public("2606:4700::1111")


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], []])
def test_a_name_that_leads_inside_is_refused_when_it_is_saved(addresses: list[str]) -> None:
    with pytest.raises(ForbiddenAddress, match="private or local"):
        check_host("https://a.example/", lambda *_: addresses)


def test_a_name_that_changes_its_mind_is_refused_when_it_connects() -> None:
    """Nothing arrives at the server that the name leads to by then."""
    reached = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reached.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        answers = iter([["8.8.8.8"], ["127.0.0.1"]])

        def lookup(host: str, _port: int) -> Sequence[str]:
            assert host == "rebinds.example"
            return next(answers)

        check_host(f"https://rebinds.example:{port}/", lookup)
        with guarded_session(lookup) as session, pytest.raises(ForbiddenAddress):
            session.post(f"http://rebinds.example:{port}/", timeout=5)
        assert reached == []
        with guarded_session(allow_private=True) as session:
            assert session.post(f"http://127.0.0.1:{port}/own", timeout=5).status_code == 200
        server.shutdown()
        thread.join()
    assert reached == ["/own"]


def test_the_connection_goes_to_the_checked_address_under_the_asked_name() -> None:
    tried: list[str] = []

    def lookup(host: str, port: int) -> Sequence[str]:
        tried.append(f"{host}:{port}")
        return ["203.0.113.1"]  # of documentation: not public either

    with guarded_session(lookup) as session, pytest.raises((ForbiddenAddress, requests.ConnectionError)):
        session.get("https://a.example/", timeout=1)
    assert tried == ["a.example:443"]

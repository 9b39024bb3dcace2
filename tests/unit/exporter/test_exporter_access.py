from __future__ import annotations

import base64
from pathlib import Path

import pytest

from exporter.access import Access
from exporter.environment import Secrets
from exporter.errors import CannotServe
from exporter.server_config import ServerAuthConfig

ENVIRON = {"PASSWORD": "päss:word", "TOKEN": "t-0123456789", "EMPTY": ""}
AUTH = {"users": [{"username": "prometheus", "password_env": "PASSWORD"}], "tokens": [{"token_env": "TOKEN"}]}


def access(auth: dict[str, object] | None, environ: dict[str, str] | None = None) -> Access:
    config = None if auth is None else ServerAuthConfig.model_validate(auth)
    return Access(config, lambda: Secrets(ENVIRON if environ is None else environ))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (basic("prometheus:päss:word"), True),
        (basic("prometheus:päss:word").replace("Basic", "bAsIc"), True),
        ("Bearer t-0123456789", True),
        ("bearer   t-0123456789 ", True),
        ("", False),
        ("Bearer", False),
        ("Bearer t-012345678", False),
        ("Bearer t-0123456789x", False),
        (basic("t-0123456789"), False),
        (basic("prometheus:"), False),
        (basic("prometheus"), False),
        (basic(":päss:word"), False),
        (basic("Prometheus:päss:word"), False),
        ("Basic %%%", False),
        ("Basic " + "é" * 5, False),
        ("Digest t-0123456789", False),
    ],
)
def test_who_gets_in(header: str, admitted: bool) -> None:
    assert access(AUTH).admits(header) is admitted
    assert access(None).admits(header)


def test_what_a_client_is_asked_for() -> None:
    assert [challenge.split()[0] for challenge in access(AUTH).challenges] == ["Basic", "Bearer"]
    assert [challenge.split()[0] for challenge in access({"tokens": AUTH["tokens"]}).challenges] == ["Bearer"]
    assert access(None).challenges == ()


@pytest.mark.parametrize("name", ["GONE", "EMPTY"])
def test_a_credential_that_is_missing_or_empty_keeps_the_exporter_from_starting(name: str) -> None:
    with pytest.raises(CannotServe, match=name):
        access({"tokens": [{"token_env": name}]})
    with pytest.raises(CannotServe, match=name):
        access({"users": [{"username": "u", "password_env": name}]})


def test_a_rotated_password_holds_at_once_and_a_lost_one_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    asked = access({"users": [{"username": "u", "password_file": str(file)}], "tokens": AUTH["tokens"]})
    assert asked.admits(basic("u:old"))
    file.write_text("new\n")
    assert asked.admits(basic("u:new"))
    assert not asked.admits(basic("u:old"))
    for lost in (lambda: file.write_text(""), file.unlink):
        lost()
        assert not asked.admits(basic("u:new"))
        assert not asked.admits(basic("u:"))
        assert asked.admits("Bearer t-0123456789")

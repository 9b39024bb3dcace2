"""TLS to PostgreSQL and MariaDB whose certificates are of an authority made for the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import pytest
from servers_database import TlsServer, mariadb_tls, postgresql_tls

from exporter.collectors.base import Collection
from exporter.collectors.database import DatabaseCollector, DatabaseConfig
from exporter.errors import Denied, SecretMissing, Unauthorized, Unreachable

ENCRYPTED = {
    "postgresql": "SELECT 1 AS id, ssl AS value FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT 1 AS id, VARIABLE_VALUE <> '' AS value FROM information_schema.SESSION_STATUS "
    "WHERE VARIABLE_NAME = 'Ssl_cipher'",
}


@dataclass(frozen=True)
class Place:
    driver: str
    server: TlsServer

    def collect(
        self, *, tls: dict[str, str] | None, host: str = "localhost", user: str = "sentinel", **login: str
    ) -> object:
        """Whether the connection is encrypted."""
        database = "postgres" if self.driver == "postgresql" else "payments"
        model: dict[str, Any] = {
            "name": "x",
            "type": "database",
            "tls": tls,
            "query": ENCRYPTED[self.driver],
            "connection": {
                "driver": self.driver, "host": host, "port": self.server.port, "database": database, "username": user,
                **login,
            },
            "metrics": [{"source_field": "value", "prometheus_name": "sentinel_value", "labels": ["id"]}],
        }  # fmt: skip
        collector = DatabaseCollector(DatabaseConfig.model_validate(model))
        try:
            return collector.collect(Collection(now=datetime.now(UTC), deadline=monotonic() + 60))["value"][0]
        finally:
            collector.close()


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with (postgresql_tls if request.param == "postgresql" else mariadb_tls)() as server:
        yield Place(request.param, server)


def test_the_authority_and_the_name_are_verified_by_default(place: Place) -> None:
    ca = {"ca_file": str(place.server.certificates.authority)}
    assert place.collect(tls=ca)
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        place.collect(tls=ca, host="127.0.0.1")
    assert place.collect(tls={"mode": "verify-ca"} | ca, host="127.0.0.1")


def test_another_authority_is_refused(place: Place) -> None:
    for mode in ({"mode": "verify-ca"}, {"mode": "verify-full"}):
        for file in ({}, {"ca_file": str(place.server.certificates.other_authority)}):
            with pytest.raises(Unreachable, match=r"(?i)certificate"):
                place.collect(tls=mode | file)


def test_encryption_without_verification(place: Place) -> None:
    assert place.collect(tls={"mode": "require"}, host="127.0.0.1")
    assert place.collect(tls=None)
    with pytest.raises(Denied):
        place.collect(tls={"mode": "disable"})


def test_a_client_s_certificate(place: Place) -> None:
    files = place.server.certificates
    certificate = {"cert_file": str(files.client), "key_file": str(files.client_key)}
    for mode in ({"mode": "require"}, {"mode": "verify-full", "ca_file": str(files.authority)}):
        assert place.collect(tls=mode | certificate, user="certified")
        with pytest.raises(Denied):
            place.collect(tls=mode, user="certified")


def test_a_file_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(SecretMissing, match=r"tls\.ca_file /no/such\.pem cannot be read"):
        place.collect(tls={"ca_file": "/no/such.pem"})


def test_a_refused_password_stops_the_source_and_is_not_shown(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "the right one")
    login = {"user": "secretive", "password_env": "PASSWORD"}
    place.collect(tls={"mode": "require"}, **login)
    monkeypatch.setenv("PASSWORD", "the wrong one")
    with pytest.raises(Unauthorized) as refused:
        place.collect(tls={"mode": "require"}, **login)
    assert refused.value.stops
    assert "the wrong one" not in str(refused.value)

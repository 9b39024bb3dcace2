from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from exporter.collectors.database import DatabaseConfig
from exporter.collectors.sql_session import Tls
from exporter.collectors.sql_target import TlsConfig, target_of_url
from exporter.errors import BadAnswer, SecretMissing

METRICS = [{"source_field": "value", "prometheus_name": "sentinel_value", "labels": ["id"]}]
SQLITE = {"driver": "sqlite", "database": "/x.db"}
SERVER = {"driver": "postgresql", "host": "db", "username": "u", "database": "d"}


def config(connection: dict[str, Any], **options: Any) -> DatabaseConfig:
    model = {"name": "x", "type": "database", "connection": connection, "query": "SELECT 1", "metrics": METRICS}
    return DatabaseConfig.model_validate(model | options)


@pytest.mark.parametrize(
    ("connection", "options", "message"),
    [
        (SQLITE, {"tls": {}}, "tls has no meaning for sqlite"),
        (SQLITE, {"pool": {}}, "pool has no meaning for sqlite"),
        (SQLITE | {"external_access": True}, {}, "external_access has no meaning for sqlite"),
        (SQLITE | {"host": "h"}, {}, "host has no meaning for sqlite"),
        (SERVER, {"tls": {"cert_file": "a"}}, "cert_file and key_file belong together"),
        (SERVER, {"tls": {"mode": "require", "ca_file": "a"}}, "mode require does not look at ca_file"),
        (SERVER, {"tls": {"mode": "disable", "cert_file": "a", "key_file": "b"}}, "sends no certificate"),
        (SERVER, {"tls": {"mode": "prefer"}}, "Input should be"),
        (SERVER, {"pool": {"size": 0}}, "greater than or equal to 1"),
        (SERVER, {"params": {"a": 1}}, "params has a, but query has no :a"),
        (SERVER, {"params": {"a": 1}, "query": "SELECT ':a', a::a -- :a"}, "query has no :a"),
        (SERVER, {"params": {"a": [1]}, "query": "SELECT :a"}, "a must be text, a number"),
        (SERVER, {"params": {"a": "{time_from}"}, "query": "SELECT :a"}, "add time_window"),
        (SERVER, {"params": {"a": "{time_to}"}, "query": "SELECT :a", "time_window": "1m"}, "has no effect"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(
    connection: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config(connection, **options)


def test_variables_that_a_source_needs() -> None:
    needs = config(
        SERVER | {"username": None, "username_env": "USER_NAME", "password": "${PASS}"},
        query="SELECT ${COLUMN} WHERE a = :a AND b = :b",
        params={"a": "${REGION}", "b": "${OTHER:-eu}"},
    ).needs()
    assert set(needs) == {"USER_NAME", "PASS", "COLUMN", "REGION"}


def test_a_placeholder_is_found_whatever_driver_the_url_will_name() -> None:
    query = "SELECT '\\'' WHERE a = :a AND b = 'x'"
    model = {"name": "x", "type": "database", "url_env": "U", "query": query, "params": {"a": 1}, "metrics": METRICS}
    assert DatabaseConfig.model_validate(model).params == {"a": 1}
    with pytest.raises(ValidationError, match="query has no :a"):
        config(SERVER, query=query, params={"a": 1})


def test_parameters_keep_their_types() -> None:
    params = {"a": True, "b": 1, "c": 1.5, "d": "1", "e": None}
    found = config(SERVER, query="SELECT :a, :b, :c, :d, :e", params=params).params
    assert [(value, type(value)) for value in found.values()] == [(value, type(value)) for value in params.values()]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://u:secret@h/d", "starts with no known driver"),
        ("mysql://u:secret@h/d?ssl_mode=x", "write TLS options as `tls:`"),
        ("postgresql://u:sec#ret@h/d", "write it as %23|cannot be read"),
        ("postgresql://u:secret@h:port/d", "cannot be read"),
        ("sqlite:////x.db", "`tls` has no meaning"),
    ],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str, message: str) -> None:
    with pytest.raises(BadAnswer, match=message) as refused:
        target_of_url(url, Tls("require"))
    assert "sec" not in str(refused.value)


def test_special_characters_of_a_url() -> None:
    target = target_of_url("postgresql+psycopg://us%40er:p%2F%23%3A%25@db.example:5433/a%2Fb?sslmode=require")
    assert (target.username, target.password, target.database) == ("us@er", "p/#:%", "a/b")
    assert (target.place, target.options) == ("db.example:5433", "sslmode=require")
    assert "p/#:%" not in repr(target)


def test_a_certificate_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SecretMissing, match=r"tls\.key_file /none\.key cannot be read"):
        TlsConfig(mode="require", cert_file=__file__, key_file="/none.key").resolved()

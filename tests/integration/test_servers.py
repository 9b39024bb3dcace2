"""The test servers themselves answer, each as the product that the stack runs on."""

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pymysql
import requests


def test_postgresql_database_is_empty(postgresql_database: str) -> None:
    with psycopg.connect(postgresql_database) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(query).fetchone() == (0,)


def test_mariadb_database_is_empty(mariadb_database: str) -> None:
    host, database = mariadb_database.rsplit("/", 1)
    port = int(host.rsplit(":", 1)[1])
    with contextlib.closing(pymysql.connect(host="127.0.0.1", port=port, user="root", database=database)) as connection:
        assert connection.cursor().execute("SHOW TABLES") == 0


def test_redis_answers(redis_server: str) -> None:
    with socket.create_connection(("127.0.0.1", int(redis_server.rsplit(":", 1)[1])), timeout=30) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def test_prometheus_and_alertmanager_know_each_other(
    tmp_path: Path, run_prometheus: Callable[..., str], run_alertmanager: Callable[..., str]
) -> None:
    routes = tmp_path / "alertmanager.yml"
    routes.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    alertmanager = run_alertmanager(routes)
    config = tmp_path / "prometheus.yml"
    target = alertmanager.removeprefix("http://")
    config.write_text(f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}\n")
    prometheus = run_prometheus(config)
    assert requests.get(f"{prometheus}/api/v1/status/buildinfo", timeout=30).json()["data"]["version"]
    assert requests.get(f"{alertmanager}/api/v2/status", timeout=30).json()["versionInfo"]["version"]

"""The kafka source and who may read: users and passwords, certificates, and that no log line shows a secret."""

from __future__ import annotations

import logging
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from kafka_sources import PATIENCE, cluster, lively_group
from servers import wait_for
from servers_kafka import Cluster, Topic
from servers_kafka_gate import gate
from structlog.testing import capture_logs

from exporter.collectors.base import Collection
from exporter.collectors.kafka import KafkaCollector, KafkaConfig
from exporter.environment import Secrets
from exporter.errors import BadAnswer, SecretMissing, TimedOut, Unauthorized

__all__ = ["cluster", "lively_group"]  # fixtures
pytestmark = [pytest.mark.usefixtures("lively_group"), pytest.mark.timeout(600)]
PASSWORD, SECOND = "pa55word-that-must-not-leak", "r0tated-that-must-not-leak"


@pytest.fixture
def topic(cluster: Cluster) -> Topic:
    topic = cluster.topic()
    topic.send({"rate": 7})
    return topic


@pytest.fixture
def environment() -> dict[str, str]:
    return {"KAFKA_USER": "sentinel", "KAFKA_PASSWORD": PASSWORD}


def source(topic: Topic, brokers: str, **keys: Any) -> KafkaCollector:
    whole = {
        "name": "payments", "type": "kafka", "brokers": brokers, "topic": topic.name, "group": topic.name,
        "session_timeout": "4s",
        "metrics": [{"source_field": "rate", "prometheus_name": "rate"}],
    }  # fmt: skip
    return KafkaCollector(KafkaConfig.model_validate(whole | keys))


def collect(collector: KafkaCollector, environment: dict[str, str], timeout: float = PATIENCE) -> list[dict[str, Any]]:
    collection = Collection(datetime.now(UTC), time.monotonic() + timeout, Secrets(environment))
    return collector.collect(collection).to_dicts()


def collected(collector: KafkaCollector, environment: dict[str, str]) -> list[dict[str, Any]] | None:
    """What was collected; None where it failed, for the group may take its time with a member that comes again."""
    try:
        return collect(collector, environment, timeout=20)
    except (BadAnswer, TimedOut):
        return None


def collect_until_told(collector: KafkaCollector) -> None:
    """Collect until it fails for a better reason than time: the client needs a while to see that it cannot connect."""

    def told() -> bool:
        try:
            return bool(collect(collector, {}, timeout=0.5))
        except TimedOut:
            return False

    wait_for(told, what="failure", timeout=60)


SASL = {"mechanism": "PLAIN", "username_env": "KAFKA_USER", "password_env": "KAFKA_PASSWORD"}


def test_a_password_that_is_right_then_wrong_then_right(
    cluster: Cluster, topic: Topic, environment: dict[str, str], capfd: Any
) -> None:
    users = {"sentinel": PASSWORD}
    with capture_logs() as logs, gate(cluster.port, users=users) as open_gate:
        collector = source(topic, open_gate.brokers, sasl=SASL)
        assert collect(collector, environment) == [{"rate": 7}]
        users["sentinel"] = SECOND
        environment["KAFKA_PASSWORD"] = "wr0ng-that-must-not-leak"
        with pytest.raises(Unauthorized, match=r"the brokers refused the credentials: look at sasl\. .*wrong password"):
            collect(collector, environment)
        consumer = collector._consumer
        assert consumer is not None
        wait_for(
            lambda: not consumer._thread.is_alive(), what="no client that logs in again and again, and locks the user"
        )
        environment["KAFKA_PASSWORD"] = SECOND
        wait_for(lambda: collected(collector, environment) == [{"rate": 7}], what="let in again", timeout=PATIENCE)
        collector.close()
    shown = f"{logs}{capfd.readouterr()}"
    assert "kafka client" in shown
    assert "must-not-leak" not in shown


def test_a_secret_in_a_line_of_the_client_is_hidden() -> None:
    from exporter.collectors.kafka_consumer import _ClientLog

    secrets = Secrets({"KAFKA_PASSWORD": PASSWORD})
    secrets.secret(env="KAFKA_PASSWORD")
    with capture_logs() as logs:
        record = logging.LogRecord("kafka", logging.ERROR, "", 0, "%s [%s]", ("SASL", PASSWORD), None)
        _ClientLog("payments", secrets.redact).handle(record)
    (line,) = logs
    assert (line["text"], line["log_level"]) == ("SASL [***]", "info")


def test_no_password_at_all_is_said(topic: Topic) -> None:
    with pytest.raises(SecretMissing, match="KAFKA_USER is not set"):
        collect(source(topic, topic.brokers, sasl=SASL), {})


def test_tls_with_a_client_certificate(cluster: Cluster, topic: Topic, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    client = authority.issue_cert("sentinel.example")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))

    def configure(context: ssl.SSLContext) -> None:
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    keys = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")}
    with gate(cluster.port, tls=configure) as open_gate:
        collector = source(topic, open_gate.brokers, tls={"ca_file": str(tmp_path / "ca.pem"), **keys})
        assert collect(collector, {}) == [{"rate": 7}]
        collector.close()
        collector = source(topic, open_gate.brokers, tls={"ca_file": str(tmp_path / "other.pem"), **keys})
        with pytest.raises(BadAnswer, match=r"no TLS connection: look at tls, and at the ports in brokers\. .*verif"):
            collect_until_told(collector)
        collector.close()


def test_what_is_no_certificate_is_said(topic: Topic, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    collector = source(topic, topic.brokers, tls={"ca_file": str(tmp_path / "ca.pem")})
    with pytest.raises(BadAnswer, match=r"ssl\.ca\.pem"):
        collect(collector, {})
    with pytest.raises(SecretMissing, match=r"ca_file .*gone.pem cannot be read: No such file"):
        collect(source(topic, topic.brokers, tls={"ca_file": str(tmp_path / "gone.pem")}), {})


def test_a_renewed_certificate_is_used(cluster: Cluster, topic: Topic, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    path = tmp_path / "ca.pem"
    old.cert_pem.write_to_path(str(path))
    with gate(cluster.port, tls=lambda context: new.issue_cert("127.0.0.1").configure_cert(context)) as open_gate:
        collector = source(topic, open_gate.brokers, tls={"ca_file": str(path)})
        with pytest.raises(BadAnswer):
            collect_until_told(collector)
        new.cert_pem.write_to_path(str(path))
        wait_for(lambda: collect(collector, {}) == [{"rate": 7}], what="the new authority is trusted", timeout=60)
        collector.close()

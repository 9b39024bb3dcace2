"""A bigquery source over the stub, collected directly, and the fixtures that tests of it share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import servers_bigquery
import tenacity
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from servers_bigquery import Stub

from exporter.collectors import bigquery_session, registry
from exporter.collectors.base import Collection, Collector
from exporter.config import parse
from exporter.environment import Secrets
from exporter.errors import CollectError

SOURCE = """
data_sources:
  - name: Daily.stats
    type: bigquery
    project: risk-test
    endpoint: {url}
    query: |
      SELECT account_id, rate
      FROM shop.payments
    metrics:
      - {{source_field: rate, prometheus_name: sentinel_block_rate, labels: [account_id]}}
"""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with servers_bigquery.stub() as found:
        yield found


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(bigquery_session, "_backoff", tenacity.wait_none())


@pytest.fixture
def make() -> Iterator[Callable[..., Collector]]:
    """A collector for a source with further keys; closed after the test."""
    made = []

    def collector(stub: Stub, more: str = "", credentials: str = "credentials: none") -> Collector:
        text = SOURCE.format(url=stub.url) + "".join(f"    {line}\n" for line in [credentials, *more.splitlines()])
        (source,) = parse(text, "test.yaml").sources
        made.append(registry.collector(source))
        return made[-1]

    yield collector
    for each in made:
        each.close()


def collection(seconds: float = 60, **environment: str) -> Collection:
    return Collection(
        now=datetime(2026, 1, 31, 8, tzinfo=UTC), deadline=time.monotonic() + seconds, secrets=Secrets(environment)
    )


def refused(collector: Collector, run: Collection) -> CollectError:
    with pytest.raises(CollectError) as caught:
        collector.collect(run)
    return caught.value


def figures(run: Collection) -> dict[str, tuple[str, float]]:
    return {measure.name: (measure.kind, measure.value) for measure in run.measures}


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture
def key(stub: Stub, private_key: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "client_email": "sentinel@risk-test.iam.gserviceaccount.com",
        "private_key": private_key,
        "private_key_id": "0123456789abcdef",
        "token_uri": f"{stub.url}/token",
    }

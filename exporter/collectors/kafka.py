"""`type: kafka`: a topic of JSON messages, consumed all the time; latest values, or aggregates over a moving window."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from uuid import uuid4

import polars as pl
from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from exporter.collectors.base import Collection, Collector, Measure, SourceConfig, not_empty
from exporter.collectors.client_tls import ClientTlsConfig
from exporter.collectors.json_rows import PathText
from exporter.collectors.kafka_messages import TOMBSTONE, Decoding
from exporter.collectors.kafka_state import Aggregate, StateSpec
from exporter.environment import references
from exporter.errors import BudgetExceeded, SecretMissing, TimedOut
from exporter.mapping.conversion import PLAIN
from exporter.mapping.spec import MetricConfig, SeriesSpec
from exporter.model import LATE, Duration, OptionalTemplate, SecretTemplate, StrictModel, at_most_one

if TYPE_CHECKING:
    from exporter.collectors.kafka_consumer import ConsumerThread, Reading, Subscription

_MEBIBYTE = 1024 * 1024
_UNCONVERTED: dict[str, object] = {"parse": "number", "unit": None, "format": None, "time_zone": None, "map": {}}
_LATEST_EXPIRE = 300.0
_HEARTBEAT = 3.0
_CONSUMED = "consumed"
_LEAVE_WITHIN = 3.0  # seconds for the client to leave its group


def _joined(value: object) -> object:
    """A list of brokers as the text that the client takes."""
    return ",".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


class SaslConfig(StrictModel):
    """A user name and password, checked by the brokers."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(description="How the password is proved.")
    username: OptionalTemplate = Field(None, description="The user's name.")
    username_env: str | None = Field(None, description="Variable that holds the user's name.")
    password: SecretTemplate = Field(
        None, description="The password, as `${VARIABLE}`: a secret does not stand in the file."
    )
    password_env: str | None = Field(None, description="Variable that holds the password.")
    password_file: str | None = Field(None, description="File that holds the password.")

    @model_validator(mode="after")
    def _complete(self) -> SaslConfig:
        if not at_most_one(self, "username", "username_env"):
            raise ValueError("username is missing: add username_env or username")
        if not at_most_one(self, "password", "password_env", "password_file"):
            raise ValueError("password is missing: add password_env, password_file or password")
        return self

    def settings(self, collection: Collection) -> dict[str, str]:
        secrets = collection.secrets
        username = secrets.variable(self.username_env) if self.username_env else secrets.expand(self.username or "")
        password = secrets.secret(env=self.password_env, file=self.password_file, template=self.password)
        return {
            "sasl.mechanism": self.mechanism,
            "sasl.username": username,
            "sasl.password": password or "",
        }


class TlsConfig(ClientTlsConfig):
    """TLS to the brokers, with the system's authorities or those of `ca_file`, and a client certificate or none."""

    key_password: SecretTemplate = Field(
        None, description="The key's password, as `${VARIABLE}`: a secret does not stand in the file."
    )
    key_password_env: str | None = Field(None, description="Variable that holds the key's password.")
    key_password_file: str | None = Field(None, description="File that holds the key's password.")

    @model_validator(mode="after")
    def _complete(self) -> TlsConfig:
        if at_most_one(self, "key_password", "key_password_env", "key_password_file") and self.key_file is None:
            raise ValueError("key_password has no effect without key_file: add it, or remove the password")
        return self

    def settings(self, collection: Collection) -> dict[str, str]:
        """The files' contents, so that a renewed certificate is noticed."""
        password = collection.secrets.secret(
            env=self.key_password_env, file=self.key_password_file, template=self.key_password
        )
        settings = {
            "ssl.ca.pem": _content(self.ca_file, "ca_file"),
            "ssl.certificate.pem": _content(self.cert_file, "cert_file"),
            "ssl.key.pem": collection.secrets.secret(file=self.key_file),
            "ssl.key.password": password,
        }
        return {name: value for name, value in settings.items() if value}


class KafkaMetricConfig(MetricConfig):
    """A metric of the latest value of its field per label set, or of an aggregate of it over the source's window."""

    aggregate: Aggregate = Field("latest", description="What of the field's values is served.")

    @property
    def reads(self) -> dict[str, tuple[Aggregate, str]]:
        """The frame's columns that this metric reads: what each is of which field."""
        if self.aggregate == "latest":
            return {name: ("latest", name) for name in self.value_columns}
        own = "" if self.conversion == PLAIN else f" as {self.prometheus_name}"
        return {f"{self.aggregate}({name}{own})": (self.aggregate, name) for name in self.value_columns}

    @property
    def mapped(self) -> MetricConfig:
        """The metric as the mapping sees it, with the column of its aggregate, which is a number already."""
        if self.aggregate == "latest":
            return self
        return self.model_copy(update={**_UNCONVERTED, "source_field": next(iter(self.reads))})

    @model_validator(mode="after")
    def _aggregates_numbers(self) -> KafkaMetricConfig:
        if self.aggregate == "latest":
            return self
        if self.type != "gauge":
            raise ValueError(f"aggregate: {self.aggregate} has no meaning for type {self.type}: it gives a gauge")
        given = [key for key in _UNCONVERTED if key in self.model_fields_set]
        if given and self.aggregate == "count":
            raise ValueError(f"{given[0]} has no meaning with aggregate: count, which reads no value: remove it")
        return self


class KafkaConfig(SourceConfig):
    """A topic, and how its messages become label sets with values."""

    type: Literal["kafka"] = Field(description="`kafka`.")
    brokers: Annotated[str, LATE, BeforeValidator(_joined), Field(min_length=1)] = Field(
        description="`host:port` of some brokers, a list or text with commas."
    )
    topic: Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        description="One topic."
    )
    group: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Consumer group; `sentinel-` and the source's name by default."
    )
    instance: OptionalTemplate = Field(
        None, description="A name of each replica that stays over restarts, such as `${HOSTNAME}`."
    )
    start: Literal["latest", "earliest"] = Field("earliest", description="Where a new group begins.")
    rows: PathText | None = Field(None, description="JMESPath to an object or a list of objects in the message.")
    window: Duration | None = Field(None, description="How far back aggregates reach.")
    expire_after: Duration | None = Field(
        None, description="When a label set without messages goes; `window`, else 5m by default."
    )
    event_time: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Field with the time; the message's own timestamp by default."
    )
    event_time_unit: Literal["s", "ms", "us", "ns"] = Field("ms", description="Of a time that is a number, since 1970.")
    session_timeout: Duration = Field(45.0, description="When others take over from a replica that died.")
    max_message_bytes: Annotated[int, Field(ge=1)] = Field(_MEBIBYTE, description="A longer message is left out.")
    sasl: SaslConfig | None = Field(None, description="Who reads.")
    tls: TlsConfig | None = Field(
        None, description="`{}` trusts the system's authorities; without it nothing is encrypted."
    )
    metrics: Annotated[tuple[KafkaMetricConfig, ...], BeforeValidator(not_empty)] = Field(
        description="The metric families that fields become."
    )
    _commits: bool = PrivateAttr(default=True)

    @model_validator(mode="after")
    def _window_fits(self) -> KafkaConfig:
        windowed = [metric for metric in self.metrics if metric.aggregate != "latest"]
        if windowed and self.window is None:
            metric = windowed[0]
            raise ValueError(f"{metric.prometheus_name} is a {metric.aggregate}: add window, such as 5m")
        if self.window is not None and not windowed:
            raise ValueError("window has no effect: set aggregate of a metric, or remove it")
        odd = [each.field for each in self.filters if each.field not in self.label_fields]
        if windowed and odd:
            raise ValueError(
                f"filters has {odd[0]}, which is no label: they choose label sets; choose messages with rows, "
                f"such as rows: \"[@][?{odd[0]}=='card']\""
            )
        if self.window is not None and self.expires < self.window:
            raise ValueError("expire_after is shorter than window: make it at least as long")
        return self

    @model_validator(mode="after")
    def _labels_agree(self) -> KafkaConfig:
        first = self.metrics[0]
        for metric in self.metrics[1:]:
            if self.duplicates == "error" and set(metric.labels.values()) != set(first.labels.values()):
                raise ValueError(
                    f"{first.prometheus_name} and {metric.prometheus_name} have different labels, and a label set is "
                    "one of all of them together: give both the same, make a source with a group of its own of one, or "
                    "say with duplicates (such as sum) what becomes of label sets that differ in a label it lacks"
                )
        return self

    def for_trial(self) -> Self:
        """In a group of its own, so that no partition is taken from a running exporter, and without commits."""
        group = f"{self.group_id}-test-{uuid4().hex[:8]}"
        trial = self.model_copy(update={"group": group, "instance": None})
        trial._commits = False  # noqa: SLF001 - of its own class
        return trial

    @property
    def commits(self) -> bool:
        """Whether the group is to know how far it has read."""
        return self._commits

    @property
    def stale_after(self) -> float:
        """By default long enough to have the partitions of a member that died, and to collect once more."""
        if self.max_staleness is not None:
            return self.max_staleness
        return max(super().stale_after, self.session_timeout + self.longest_gap)

    @property
    def group_id(self) -> str:
        return self.group or f"sentinel-{self.name}"

    @property
    def expires(self) -> float:
        """Seconds after which a label set without messages is not served any more."""
        return self.expire_after or self.window or _LATEST_EXPIRE

    @property
    def label_fields(self) -> tuple[str, ...]:
        """Fields that make a label set, each once."""
        return tuple(dict.fromkeys(name for metric in self.metrics for name in metric.labels.values()))

    @property
    def series(self) -> SeriesSpec:
        """As of any source, but a metric reads the column of its aggregate."""
        return replace(super().series, metrics=tuple(metric.mapped for metric in self.metrics))

    @property
    def state(self) -> StateSpec:
        columns = {name: of for metric in self.metrics for name, of in metric.reads.items()}
        for name in (condition.field for condition in self.filters):
            if name not in self.label_fields:
                columns.setdefault(name, ("latest", name))
        return StateSpec(
            labels=self.label_fields,
            columns=columns,
            expire_after=self.expires,
            conversions={column: metric.conversion for metric in self.metrics for column in metric.reads},
            window=self.window,
            max_label_sets=min(self.max_rows, self.max_series),
        )

    @property
    def decoding(self) -> Decoding:
        state = self.state
        labels = [item for metric in self.metrics for item in metric.labels.items()]
        return Decoding(
            labels=state.labels,
            latest=state.fields("latest"),
            numbers=state.fields("sum", "avg", "max", "min"),
            present=state.fields("count"),
            defaults={column: self.label_defaults[label] for label, column in labels if label in self.label_defaults},
            needs_value=all(metric.value_columns for metric in self.metrics),
            rows=self.rows,
            event_time=self.event_time,
            unit=self.event_time_unit,
            max_bytes=self.max_message_bytes,
        )

    def needs(self) -> tuple[str, ...]:
        names = [*references(self.brokers), *references(self.instance or "")]
        if self.sasl is not None:
            names += [name for name in (self.sasl.username_env, self.sasl.password_env) if name]
            names += [*references(self.sasl.username or ""), *references(self.sasl.password or "")]
        if self.tls is not None:
            names += [self.tls.key_password_env] if self.tls.key_password_env else []
            names += references(self.tls.key_password or "")
        return tuple(names)

    def settings(self, collection: Collection) -> dict[str, str]:
        """The client's settings that say where the brokers are and who asks them. Read anew at every collection."""
        protocol = ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")
        return {
            "bootstrap.servers": collection.secrets.expand(self.brokers),
            "group.id": self.group_id,
            **({"group.instance.id": collection.secrets.expand(self.instance)} if self.instance else {}),
            "session.timeout.ms": str(int(self.session_timeout * 1000)),
            "heartbeat.interval.ms": str(int(min(_HEARTBEAT, self.session_timeout / 3) * 1000)),
            "security.protocol": protocol,
            **(self.sasl.settings(collection) if self.sasl else {}),
            **(self.tls.settings(collection) if self.tls else {}),
        }


class KafkaCollector(Collector):
    """Consumes from the first collection on; a collection takes what the messages add up to now.

    A consumer that failed is replaced at the next collection, as is one whose credentials have changed.
    """

    def __init__(self, config: KafkaConfig, clock: Callable[[], float] = time.time) -> None:
        from exporter.collectors import kafka_consumer  # noqa: PLC0415 - needs the extra, which `check` does without

        self._config = config
        self._clock = clock
        self._make: Callable[..., ConsumerThread] = kafka_consumer.ConsumerThread
        self._subscription: Subscription = kafka_consumer.Subscription(
            config.name, config.topic, config.group_id, config.start, config.decoding, config.state, config.commits
        )
        self._consumer: ConsumerThread | None = None
        self._wanted: Future[Reading] | None = None
        self._given: Reading | None = None
        self._measured: Counter[str] = Counter()
        self._warned: Counter[str] = Counter()

    def collect(self, collection: Collection) -> pl.DataFrame:
        self._given = None
        consumer = self._running(collection)
        self._wanted = wanted = consumer.reading()
        try:
            reading = wanted.result(collection.remaining())
        except CancelledError:
            raise TimedOut("the collection was cancelled") from None
        except TimeoutError:
            raise consumer.why_not() from None
        self._measure(reading, collection)
        self._warn(reading, collection)
        collection.fields = reading.fields
        self._given = reading
        return reading.frame

    def cancel(self) -> None:
        wanted = self._wanted
        if wanted is not None:
            wanted.cancel()

    def published(self) -> None:
        if self._given is not None and self._consumer is not None:
            self._consumer.served(self._given)
            self._warned = self._given.tally.counts

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.stop(_LEAVE_WITHIN)

    def _running(self, collection: Collection) -> ConsumerThread:
        """The consumer that runs with the settings of now."""
        settings = self._config.settings(collection)
        consumer = self._consumer
        if consumer is not None and not consumer.failed and consumer.settings == settings:
            return consumer
        if consumer is not None and not consumer.stop(collection.remaining()):
            raise TimedOut("the consumer before did not leave its group in time")
        consumer = self._make(self._subscription, settings, collection.secrets.redact, self._clock)
        consumer.start()
        self._consumer, self._measured, self._warned = consumer, Counter(), Counter()
        return consumer

    def _measure(self, reading: Reading, collection: Collection) -> None:
        """Lag, and what was consumed and left out since the collection before, whatever becomes of this one."""
        topic = self._config.topic
        for partition, lag in reading.lags.items():
            about = "Messages of the partition that are not consumed yet."
            labels = {"topic": topic, "partition": str(partition)}
            collection.measures.append(Measure("kafka_lag_messages", about, lag, labels=labels))
        totals = Counter({_CONSUMED: reading.consumed, **reading.tally.counts})
        added, self._measured = totals - self._measured, totals
        consumed = Measure("kafka_messages", "Messages consumed.", added.pop(_CONSUMED, 0), "counter")
        collection.measures.append(consumed)
        for reason, count in added.items():
            about = "Messages left out as a whole or in part, by reason."
            measure = Measure("kafka_messages_left_out", about, count, "counter", {"reason": reason})
            collection.measures.append(measure)

    def _warn(self, reading: Reading, collection: Collection) -> None:
        """What no collection that was served has told yet; BudgetExceeded where label sets had to be refused."""
        config = self._config
        if reading.over_budget and config.over_budget == "reject":
            most = min(config.max_rows, config.max_series)
            raise BudgetExceeded(
                f"more than {most} label sets (max_rows, max_series): use fewer labels, or raise these budgets"
            )
        for reason, count in (reading.tally.counts - self._warned).items():
            if reason != TOMBSTONE:
                collection.warn(reason, count, f"{config.topic}, {reading.tally.examples[reason]}")
        shared = "label sets that come from several partitions, of which another consumer has some"
        collection.warn("label_sets_shared", reading.shared, f"{shared}: key the messages by label set")


def _content(path: str | None, key: str) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "no text"
        raise SecretMissing(f"{key} {path} cannot be read: {cause}") from None

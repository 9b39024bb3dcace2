"""What Kafka's client reports, as the errors of a collection."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from confluent_kafka import KafkaError

from exporter.errors import BadAnswer, CollectError, Denied, ServerFailed, TimedOut, Unauthorized, Unreachable

_REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001 - public, by their names
_FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_NO_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - public, by its name
}
_NO_CONNECTION = {
    KafkaError._TRANSPORT,  # noqa: SLF001 - public, by its name
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - public, by its name
    KafkaError._RESOLVE,  # noqa: SLF001 - public, by its name
}
_IN_TIME = {KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError.REQUEST_TIMED_OUT}  # noqa: SLF001 - as above
_FENCED = {KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID}  # noqa: SLF001 - public, by its name
_TLS = {KafkaError._SSL}  # noqa: SLF001 - public, by its name
_MEANINGS: tuple[tuple[set[int], type[CollectError], str], ...] = (
    (_REFUSED, Unauthorized, "the brokers refused the credentials: look at sasl. {said}"),
    (_FORBIDDEN, Denied, "the user needs Read and Describe on topic {topic}, and Read on group {group}. {said}"),
    (_NO_TOPIC, BadAnswer, "the cluster has no topic {topic!r} that the user may see: is topic right?"),
    (_FENCED, BadAnswer, "another consumer of group {group} has the same instance: give each its own. {said}"),
    (_TLS, BadAnswer, "no TLS connection: look at tls, and at the ports in brokers. {said}"),
    (_NO_CONNECTION, Unreachable, "no broker can be reached: {said}"),
    (_IN_TIME, TimedOut, "the brokers did not answer in time: {said}"),
)


def collect_error(error: KafkaError, topic: str, group: str) -> CollectError:
    """The error of a collection that says what happened and what to do."""
    code = error.code()
    for codes, kind, words in _MEANINGS:
        if code in codes:
            return kind(words.format(topic=topic, group=group, said=error.str()))
    unknown = ServerFailed if error.retriable() or error.fatal() else BadAnswer
    return unknown(f"the brokers say {error.name()}: {error.str()}")


def is_final(error: KafkaError) -> bool:
    """Whether waiting cannot help: the client would go on for ever with credentials that may be locked for it."""
    return error.fatal() or error.code() in {*_REFUSED, *_FORBIDDEN, *_NO_TOPIC}


def is_about_connection(error: KafkaError) -> bool:
    """Whether it only says that a connection is not there, which a more exact error may have explained before."""
    return error.code() in _NO_CONNECTION or error.code() in _IN_TIME


def is_unknown_topic(error: KafkaError) -> bool:
    return error.code() in _NO_TOPIC


def unknown_topic(topic: str, known: Iterable[str]) -> BadAnswer:
    """For a topic that is not there, with the nearest one that is."""
    near = difflib.get_close_matches(topic, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "is topic right, and may the user see it?"
    return BadAnswer(f"the cluster has no topic {topic!r}: {hint}")

"""An attack on a Grafana dashboard: one region that begins, rises and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes_grafana import PANEL, UID, Failure, GrafanaStub, login
from notes import NOW, ended_note, make_message, make_note

from webhook.domain.alert import NotifyReason
from webhook.domain.severity import Severity
from webhook.notifiers.grafana import GrafanaAnnotations, GrafanaOptions
from webhook.ports import PermanentDeliveryError, TemporaryDeliveryError

BEGAN = NOW - timedelta(minutes=12, seconds=5)
ANNOTATIONS = "/api/annotations"


def milliseconds(time: object) -> int:
    return int(time.timestamp() * 1000)  # type: ignore[attr-defined]


@pytest.fixture
def grafana() -> Iterator[GrafanaStub]:
    with GrafanaStub() as stub:
        yield stub


@pytest.fixture
def channel(grafana: GrafanaStub) -> Iterator[GrafanaAnnotations]:
    with connected(grafana) as channel:
        yield channel


@contextmanager
def connected(grafana: GrafanaStub, token: str = "", timeout: float = 60) -> Iterator[GrafanaAnnotations]:
    dashboards = {"CARD_TESTING": {"uid": UID, "panel": PANEL}}
    options = {"url": grafana.url, "token": token or grafana.token, "dashboards": dashboards, "timeout": timeout}
    channel = GrafanaAnnotations(GrafanaOptions.model_validate(options))
    yield channel
    channel.close()


def test_a_first_message_begins_a_region_on_the_panel(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    receipt = channel.send(make_message(), {})

    ((number, annotation),) = grafana.annotations.items()
    assert receipt.reference == str(number)
    assert (annotation["dashboardUID"], annotation["panelId"]) == (UID, PANEL)
    assert (annotation["time"], annotation["timeEnd"]) == (milliseconds(BEGAN), milliseconds(NOW))
    assert {"CARD_TESTING", "P1", "acc_017"} <= set(annotation["tags"])
    assert "Card testing attack: Northwind Books" in annotation["text"]


def test_escalation_and_end_change_the_same_region(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    first = channel.send(make_message(make_note(severity=Severity.P2)), {})
    worse = make_note(reason=NotifyReason.ESCALATED, severity=Severity.P0, created_at=NOW + timedelta(minutes=3))
    second = channel.send(make_message(worse), {}, first)
    (annotation,) = grafana.annotations.values()
    assert "P0" in annotation["tags"]
    assert "P2" not in annotation["tags"]
    assert annotation["timeEnd"] == milliseconds(NOW + timedelta(minutes=3))

    channel.send(make_message(ended_note()), {}, second)
    (annotation,) = grafana.annotations.values()
    assert annotation["timeEnd"] == milliseconds(NOW - timedelta(minutes=1))
    assert first.reference == second.reference


def test_an_annotation_that_somebody_deleted_is_written_anew(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    first = channel.send(make_message(), {})
    grafana.annotations.clear()
    again = channel.send(make_message(ended_note()), {}, first)
    assert list(grafana.annotations) == [int(again.reference)]


def test_one_that_was_written_before_a_crash_is_found_again(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    """The receipt of the first try was never recorded."""
    lost = channel.send(make_message(), {})
    other = replace(make_message(), alert_id="33333333-3333-4333-8333-333333333333")
    assert channel.send(make_message(), {}).reference == lost.reference
    assert channel.send(other, {}).reference != lost.reference
    assert len(grafana.annotations) == 2


def test_names_from_outside_are_text_on_the_dashboard(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    channel.send(make_message(make_note(merchant_name='<img src=x onerror="alert(1)">')), {})
    (annotation,) = grafana.annotations.values()
    assert "<img" not in annotation["text"]
    assert "&lt;img" in annotation["text"]


def test_a_type_without_a_dashboard_is_annotated_for_all(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    channel.send(make_message(make_note(alert_type="BLOCK_SURGE")), {})
    (annotation,) = grafana.annotations.values()
    assert annotation.get("dashboardUID") is None


@pytest.mark.parametrize("path", [ANNOTATIONS, f"{ANNOTATIONS}/"])
@pytest.mark.parametrize(
    "failure",
    [
        Failure(500),
        Failure(503, b"<html>", "text/html"),
        Failure(reset=True),
        Failure(200, b"{not json"),
        Failure(200, b'"odd"'),
        login(),
    ],
)
def test_what_may_pass_is_tried_again(
    grafana: GrafanaStub, channel: GrafanaAnnotations, failure: Failure, path: str
) -> None:
    first = None
    if path.endswith("/"):
        first = channel.send(make_message(), {})
        if failure.status == 200 and not failure.reset:
            return  # nothing is read from the answer to a change
    grafana.fail_next(path, failure)
    with pytest.raises(TemporaryDeliveryError):
        channel.send(make_message(), {}, first)


def test_a_slow_grafana_is_given_up_and_asked_again_later(grafana: GrafanaStub) -> None:
    never = threading.Event()
    grafana.fail_next(ANNOTATIONS, Failure(hold=never))
    try:
        with connected(grafana, timeout=0.2) as channel, pytest.raises(TemporaryDeliveryError):
            channel.send(make_message(), {})
    finally:
        never.set()


def test_it_waits_as_long_as_grafana_asks(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    grafana.fail_next(ANNOTATIONS, Failure(429, headers={"Retry-After": "17"}))
    with pytest.raises(TemporaryDeliveryError) as error:
        channel.send(make_message(), {})
    assert error.value.retry_after == 17


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_grafana_refuses_is_final_and_names_no_secret(
    grafana: GrafanaStub, channel: GrafanaAnnotations, status: int
) -> None:
    grafana.fail_next(ANNOTATIONS, Failure(status, b'{"message": "no glsa_secret-token-of-a-service-account"}'))
    with pytest.raises(PermanentDeliveryError) as error:
        channel.send(make_message(), {})
    assert grafana.token not in str(error.value)


def test_the_check_says_where_it_would_write(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    assert channel.check() == "organisation Main Org."
    with connected(grafana, token="glsa_other") as stranger, pytest.raises(PermanentDeliveryError):
        stranger.check()
    assert not grafana.annotations


def test_a_preview_is_what_would_be_sent(grafana: GrafanaStub, channel: GrafanaAnnotations) -> None:
    shown = channel.preview(make_message(), {})
    assert not grafana.calls
    channel.send(make_message(), {})
    (annotation,) = grafana.annotations.values()
    assert shown == annotation

"""A condition that ends and fires again and again, over the store and the sweep."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_shop import MINUTE, START, Shop, by, firing, shop

from webhook.pipeline.sweep import Sweep
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import (
    alert_comment,
    alert_dynamic,
    alert_flapping,
    alert_trigger_log,
    metadata,
    notification,
)

__all__ = ["shop"]


class NothingFires:
    def firing(self) -> frozenset[str]:
        return frozenset()


def sweep(shop: Shop) -> Any:
    sweeping = Sweeping(shop.database, shop.settings.types, shop.settings.channels)
    return Sweep(sweeping, Outbox(shop.database), shop.settings.types, NothingFires()).run_once(shop.now)


def one_round(shop: Shop, *, lasts: timedelta = MINUTE, quiet: timedelta = 15 * MINUTE) -> str:
    """Fires, ends, and is settled by the sweep after a session timeout; what was told of the firing."""
    start = shop.now
    told = shop.deliver(firing(starts_at=start)).entries[0].notify
    shop.deliver(firing(starts_at=start, status="resolved"), after=lasts)
    shop.now += quiet - lasts
    sweep(shop)
    return told


def reasons(shop: Shop) -> list[str]:
    """In order; of one moment the end of what was comes before what begins."""
    rows = sorted(shop.rows(notification), key=lambda row: (row["created_at"], row["reason"] != "resolved"))
    return [row["reason"] for row in rows]


def test_people_are_told_once_that_it_flaps_and_once_that_it_ended(shop: Shop) -> None:
    told = [one_round(shop) for _ in range(8)]

    assert told == ["first"] * 4 + ["flapping"] + ["withheld:flapping"] * 3
    assert reasons(shop) == ["first", "resolved"] * 4 + ["flapping"]
    (state,) = shop.rows(alert_flapping)
    assert state["flapping_since"] == START + 60 * MINUTE
    begun = [row for row in shop.rows(alert_comment) if "Flapping" in row["content"]]
    assert [row["metadata"]["flapping"] for row in begun] == ["begun"]
    logged = [row["notify"] for row in shop.rows(alert_trigger_log) if row["notify"]]
    assert sorted(logged) == sorted(told)

    shop.now += timedelta(hours=1)
    assert sweep(shop).calmed == 1
    assert reasons(shop)[-2:] == ["flapping", "resolved"]
    told_of = {row["reason"]: row["alert_id"] for row in shop.rows(notification)}
    assert told_of["resolved"] == told_of["flapping"]
    assert sum("Flapping is over" in row["content"] for row in shop.rows(alert_comment)) == 2, "the told, and the last"
    assert one_round(shop) == "first"


def test_a_condition_that_fires_steadily_after_flapping_is_told_at_its_next_occurrence(shop: Shop) -> None:
    for _ in range(6):
        one_round(shop)
    start = shop.now
    assert shop.deliver(firing(starts_at=start)).entries[0].notify == "withheld:flapping"
    told = []
    for _ in range(5):
        told.append(shop.deliver(firing(starts_at=start), after=12 * MINUTE).entries[0].notify)
        sweep(shop)
    assert told == ["withheld:flapping"] * 3 + ["first", "withheld:strategy"]
    assert sorted(reasons(shop)[-3:]) == ["first", "flapping", "resolved"], "and the end of what flapped was told"


def test_restarts_within_one_session_count_and_repeats_do_not(shop: Shop) -> None:
    for number in range(5):
        start = START + number * MINUTE
        shop.deliver(firing(starts_at=start))
        if number < 4:
            shop.deliver(firing(starts_at=start), after=5 * MINUTE)
        shop.deliver(firing(starts_at=start, status="resolved"), after=MINUTE)
    assert len(shop.rows(alert_flapping)[0]["restarts"]) == 4
    assert reasons(shop) == ["first", "flapping"]


def test_another_rule_of_a_condition_that_is_still_firing_is_no_restart(shop: Shop) -> None:
    shop.deliver(firing())
    for number in range(6):
        severe = firing(name="Severe", starts_at=START + number * MINUTE)
        shop.deliver(severe, after=MINUTE)
        shop.deliver({**severe, "status": "resolved"}, after=MINUTE)
    assert shop.rows(alert_flapping) == []


def test_an_escalation_passes_while_it_flaps(shop: Shop) -> None:
    for _ in range(6):
        one_round(shop)
    shop.deliver(firing(starts_at=shop.now))
    graver = firing(starts_at=shop.now, name="Severe", severity="P1")
    assert shop.deliver(graver, after=MINUTE).entries[0].notify == "escalated"


def test_what_a_person_ends_while_it_flaps_is_told_at_once_and_once(shop: Shop) -> None:
    for _ in range(4):
        one_round(shop)
    (entry,) = shop.deliver(firing(starts_at=shop.now)).entries
    assert entry.notify == "flapping"
    with shop.database.write() as connection:
        connection.execute(sa.update(notification).values(status="SENT", sent_at=shop.now))
    assert entry.alert_id is not None
    shop.actions.resolve(entry.alert_id, "", by("mia", shop.now))
    assert "resolved" in [row["reason"] for row in shop.rows(notification, alert_id=entry.alert_id)]
    shop.now += timedelta(hours=2)
    sweep(shop)
    assert reasons(shop).count("resolved") == 5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fire", "end", "severe", "end severe", "sweep", "resolve"]), st.sampled_from([0, 1, 6, 16, 40])
    ),
    min_size=10,
    max_size=40,
)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_nobody_who_was_told_that_it_fires_waits_for_its_end_for_ever(shop: Shop, steps: list[tuple[str, int]]) -> None:
    with shop.database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    starts = {"fire": shop.now, "severe": shop.now}
    for what, minutes in steps:
        shop.now += minutes * MINUTE
        name = "Severe" if "severe" in what else "CardTestingDetected"
        alert = {"name": name, "severity": "P1" if name == "Severe" else "P3"}
        key = "severe" if name == "Severe" else "fire"
        if what in ("fire", "severe"):
            starts[key] = shop.now
            shop.deliver(firing(starts_at=shop.now, **alert))
        elif what.startswith("end"):
            shop.deliver(firing(starts_at=starts[key], status="resolved", **alert))
        elif what == "resolve":
            for row in shop.rows(alert_dynamic, status="ACTIVE")[:1]:
                shop.actions.resolve(row["alert_id"], "", by("mia", shop.now))
        else:
            sweep(shop)
    for hours in (1, 2, 30):
        shop.now += timedelta(hours=hours)
        sweep(shop)
    told: dict[str, list[str]] = {}
    for row in shop.rows(notification):
        told.setdefault(row["alert_id"], []).append(row["reason"])
    assert all(heard.count("resolved") == 1 for heard in told.values()), told
    assert shop.rows(alert_dynamic, status="ACTIVE") == []
    assert all(row["flapping_since"] is None for row in shop.rows(alert_flapping))

"""A replay of what was stored: with the present configuration nothing changes, with another exactly what it changes."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from ingest_shop import MINUTE, START, Shop, by, firing, save_configs

from webhook.domain.action import DismissReason
from webhook.domain.comparison import Replayed
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.past import Wanted
from webhook.domain.report import Report, ReportedMetric
from webhook.domain.summary import template_summary
from webhook.pipeline.preview import Preview, PreviewBusy, Previews, PreviewTooLong
from webhook.pipeline.reports import ReportIntake
from webhook.pipeline.sweep import Sweep
from webhook.ports import HistoryUnavailable, Receipt, Series
from webhook.storage.outbox import Outbox
from webhook.storage.replaying import StoredPast, read_only
from webhook.storage.reporting import ReportRuns
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert_dynamic, alert_trigger_log, notification
from webhook.storage.trigger_columns import TriggerLog
from webhook.web.previewing import preview_answer

DAY = timedelta(days=1)
NAMES = (("CardTestingDetected", "P3"), ("CardTestingSevere", "P2"), ("CardTestingCritical", "P1"))


class History:
    """A shop whose worker sweeps and sends each minute, with a platform's reports; people close and ask again."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop, self.random = shop, random.Random(seed)
        types = shop.settings.types
        self.outbox = Outbox(shop.database)
        self.sweep = Sweep(Sweeping(shop.database, types, shop.settings.channels), self.outbox, types)
        self.starts: dict[str, Any] = {}
        runs, clock = ReportRuns(shop.database), lambda: shop.now
        self.intake = ReportIntake(shop.store, runs, shop.settings, shop.metrics, clock)

    def minute(self) -> None:
        self.shop.now += MINUTE
        self.sweep.run_once(self.shop.now)
        for note in self.outbox.claim(20, "test", self.shop.now, MINUTE):
            self.outbox.record_sent(note, Receipt(), template_summary(note), self.shop.now)

    def live(self, minutes: int) -> None:
        for _ in range(minutes):
            self.minute()
            if self.random.random() < 0.3:
                self.shop.deliver(*self._alerts())
            if self.random.random() < 0.2:
                self._report()
            if self.random.random() < 0.03:
                self._act()

    def _report(self) -> None:
        metric = ReportedMetric("block_rate", self.random.uniform(0.2, 0.6), self.random.choice([0.3, 0.4]))
        self.shop.now += timedelta(seconds=20)  # a delivery of its own
        labels = {"region": self.random.choice(["AP", "EU"])}
        self.intake.take(Report("acc_001", "CARD_TESTING", [metric], labels), None, self.shop.now)

    def _alerts(self) -> list[dict[str, Any]]:
        chosen = self.random.sample(NAMES, self.random.randint(1, 3))
        return [self._alert(name, severity) for name, severity in chosen]

    def _alert(self, name: str, severity: str) -> dict[str, Any]:
        resolved = name in self.starts and self.random.random() < 0.3
        starts_at = self.starts.pop(name) if resolved else self.starts.setdefault(name, self.shop.now)
        rate = repr(self.random.uniform(0.2, 0.6))
        status = "resolved" if resolved else "firing"
        return firing(name=name, severity=severity, status=status, starts_at=starts_at, block_rate=rate)

    def _act(self) -> None:
        open_ones = self.shop.rows(alert_dynamic, status="ACTIVE")
        if open_ones:
            doing, alert_id = by("me", self.shop.now), open_ones[0]["alert_id"]
            if self.random.random() < 0.3:
                self.shop.actions.resend(alert_id, [], doing)
            elif self.random.random() < 0.5:
                self.shop.actions.dismiss(alert_id, DismissReason.OTHER, "x", doing)
            else:
                self.shop.actions.resolve(alert_id, "x", doing)


def previewed(shop: Shop, config: MerchantConfig, span: timedelta = DAY, history: Any = None) -> Preview:
    return Previews(StoredPast(shop.database), history, shop.settings).run(config, shop.now + MINUTE, span)


def differences(result: Replayed) -> list[tuple[str, ...]]:
    return [(str(example.at), example.alert_name, example.old, example.new) for example in result.examples]


def present(seed: int) -> MerchantConfig:
    chosen = random.Random(seed)
    settings: dict[str, Any] = {
        "frequency_control": {
            "max_alerts_per_hour": chosen.choice([1, 2, 5]),
            "max_alerts_per_day": chosen.choice([3, 20]),
            "min_interval_minutes": chosen.choice([0, 20]),
        },
        "notification_strategy": {
            "first": chosen.random() < 0.8,
            "thresholds": chosen.choice([[], [3, 8]]),
            "interval_minutes": chosen.choice([0, 30, 60]),
        },
    }
    if chosen.random() < 0.3:
        settings["snooze_until"] = (START + timedelta(hours=1)).isoformat()
    rate = Condition("block_rate", ">", chosen.choice([0.1, 0.35, 0.5]))
    texts = (Condition("region", "in", ["AP"]), Condition("merchant_name", "regex", "^Kahn"))
    if seed == 5:  # with a name that databases do not take as it is
        texts = (*texts, Condition('data "center".$[0]', "in", ["AP"]))
    conditions = ((), (rate,), (rate, *texts, Condition("unheard_of", ">", 3)))[seed % 3]
    return MerchantConfig(
        "acc_001",
        "CARD_TESTING",
        logic="any" if seed % 2 else "all",
        conditions=conditions,
        notification_settings=settings,
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_present_configuration_changes_nothing(store_url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random attacks and reports through the pipeline, sweep and outbox, looked back at from three times."""
    monkeypatch.setattr("webhook.storage.trigger_columns._AT_ONCE", (10_000, 7)[seed % 2])
    shop = Shop(store_url)
    save_configs(shop.database, [present(seed)], START)
    History(shop, seed).live(150)
    logged = len(shop.rows(alert_trigger_log))
    assert logged > 60
    for span in (DAY, timedelta(hours=1.5), timedelta(minutes=50)):
        result = previewed(shop, present(seed), span).replayed
        assert differences(result) == []
        assert result.alerts.stored == result.alerts.proposed == result.alerts.unchanged
        assert result.messages.stored == result.messages.proposed == result.messages.unchanged
        assert all(old == new for old, new in result.outcomes)
        assert result.ends.stored == result.ends.proposed == result.ends.unchanged
        assert result.rises.stored == result.rises.proposed == result.rises.unchanged
        assert (result.triggers == logged) == (span == DAY)
    shop.database.close()


def test_a_report_is_judged_by_its_own_thresholds_where_its_merchant_has_none(store_url: str) -> None:
    shop = Shop(store_url)
    history = History(shop, 0)
    save_configs(
        shop.database, [MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("x", ">", 0),))], START
    )
    for rate in (0.5, 0.2):  # both pass, as x is missing
        metric = ReportedMetric("block_rate", rate, 0.3)
        history.intake.take(Report("acc_001", "CARD_TESTING", [metric], {}), None, shop.now)
        shop.now += 20 * MINUTE
    without = previewed(shop, MerchantConfig("acc_001", "CARD_TESTING")).replayed
    assert without.outcomes == {("created", "created"): 1, ("comment_added", "suppressed"): 1}
    shop.database.close()


def test_what_people_asked_to_be_sent_again_takes_no_place(store_url: str) -> None:
    shop = Shop(store_url)
    twice_a_day = MerchantConfig(
        "acc_001", "CARD_TESTING", notification_settings={"frequency_control": {"max_alerts_per_day": 2}}
    )
    save_configs(shop.database, [twice_a_day], START)
    opened = shop.deliver(firing())
    shop.actions.resend(str(opened.entries[0].alert_id), [], by("me", shop.now + MINUTE))
    shop.deliver(firing(status="resolved"), after=5 * MINUTE)
    types = shop.settings.types
    shop.now += 20 * MINUTE
    Sweep(Sweeping(shop.database, types, {"console": {}}), Outbox(shop.database), types).run_once(shop.now)
    assert shop.deliver(firing(starts_at=shop.now)).entries[0].notify == "first"
    for span in (DAY, timedelta(minutes=5)):
        assert differences(previewed(shop, twice_a_day, span).replayed) == []
    shop.database.close()


@pytest.fixture
def attacks(store_url: str) -> Shop:
    """Ten attacks, four of which stay below a block rate of 0.4; each over before the next."""
    shop = Shop(store_url)
    for number in range(10):
        rate = 0.3 if number % 3 == 0 else 0.5
        starts_at = shop.now
        shop.deliver(firing(starts_at=starts_at, block_rate=str(rate)))
        shop.deliver(firing(starts_at=starts_at, block_rate=str(rate)), after=5 * MINUTE)
        shop.deliver(firing(starts_at=starts_at, block_rate=str(rate), status="resolved"), after=5 * MINUTE)
        shop.now += 20 * MINUTE
        types = shop.settings.types
        Sweep(Sweeping(shop.database, types, {"console": {}}), Outbox(shop.database), types).run_once(shop.now)
    yield shop
    shop.database.close()


def test_a_condition_on_a_number_finds_a_label(store_url: str) -> None:
    shop = Shop(store_url)
    for number, bin_ in enumerate(("412345", "555555")):
        alert = firing(name=f"Rule{number}")
        alert["labels"]["bin"] = bin_
        shop.deliver(alert, after=MINUTE)
    found = previewed(shop, MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("bin", ">", 500_000),)))
    assert (found.replayed.outcomes["created", "suppressed"], found.undetermined.triggers) == (1, 0)
    shop.database.close()


def test_a_higher_threshold_takes_exactly_the_lower_alerts_away(attacks: Shop) -> None:
    higher = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.4),))
    before = attacks.rows(alert_trigger_log), attacks.rows(notification)
    result = previewed(attacks, higher).replayed
    assert (result.alerts.stored, result.alerts.proposed) == (10, 6)
    assert (result.alerts.vanish, result.alerts.unchanged, result.alerts.change, result.alerts.appear) == (4, 6, 0, 0)
    assert (result.messages.stored, result.messages.vanish, result.messages.unchanged) == (10, 4, 6)
    example = result.examples[0]
    assert (example.kind, example.change, example.at, example.old) == ("alert", "vanish", START, "created, first")
    assert (example.new, example.reason) == ("suppressed", "conditions not met: block_rate 0.3 is not > 0.4")
    assert result.outcomes["created", "suppressed"] == 4
    assert (attacks.rows(alert_trigger_log), attacks.rows(notification)) == before


def test_what_was_suppressed_appears_under_a_lower_threshold(store_url: str) -> None:
    shop = Shop(store_url)
    wanted = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.9),))
    save_configs(shop.database, [wanted], START)
    shop.deliver(firing())
    lower = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.1),))
    result = previewed(shop, lower).replayed
    assert (result.alerts.appear, result.messages.appear) == (1, 1)
    assert [(example.old, example.new) for example in result.examples] == [("suppressed", "created, first")] * 2
    shop.database.close()


def test_a_stricter_limit_withholds_messages_and_keeps_the_alerts(attacks: Shop) -> None:
    limited = MerchantConfig(
        "acc_001", "CARD_TESTING", notification_settings={"frequency_control": {"max_alerts_per_day": 4}}
    )
    result = previewed(attacks, limited).replayed
    assert (result.messages.stored, result.messages.proposed, result.messages.vanish) == (10, 4, 6)
    assert (result.alerts.vanish, result.alerts.appear) == (0, 0)
    assert {example.new for example in result.examples if example.kind == "message"} == {"created, withheld:frequency"}


def test_another_channel_is_a_difference_and_none_withholds(attacks: Shop) -> None:
    by_mail = {"email": {"to": ["a@example.com"]}}
    found = previewed(attacks, MerchantConfig("acc_001", "CARD_TESTING", channel_preferences=by_mail)).replayed
    assert (found.messages.change, found.messages.unchanged, found.alerts.change) == (10, 0, 10)
    example = found.examples[0] if found.examples[0].kind == "message" else found.examples[-1]
    assert (example.old_channels, example.new_channels) == (("console",), ("console", "email"))
    off = MerchantConfig("acc_001", "CARD_TESTING", channel_preferences={"console": {"enabled": False}})
    found = previewed(attacks, off).replayed
    assert (found.messages.vanish, found.messages.proposed, found.alerts.proposed) == (10, 0, 10)
    assert {example.new for example in found.examples if example.kind == "message"} == {"created, withheld:no_channel"}
    assert (found.ends.stored, found.ends.vanish) == (10, 10), "who was told of nothing is not told that it ended"


def test_time_ends_and_worsens_an_attack_under_either(store_url: str) -> None:
    """Seven hours in the log, of which a higher threshold leaves the first one."""
    shop = Shop(store_url)
    types = shop.settings.types
    sweep = Sweep(Sweeping(shop.database, types, {"console": {}}), Outbox(shop.database), types)
    for number in range(85):
        shop.now = START + number * 5 * MINUTE
        sweep.run_once(shop.now)
        shop.deliver(firing(starts_at=START, block_rate="0.5" if number < 12 else "0.3"))
    shop.deliver(firing(starts_at=START, status="resolved"), after=MINUTE)
    shop.now += 30 * MINUTE
    sweep.run_once(shop.now)
    same = previewed(shop, MerchantConfig("acc_001", "CARD_TESTING")).replayed
    assert (same.ends.unchanged, same.ends.vanish, same.rises.unchanged, same.rises.vanish) == (1, 0, 2, 0)
    higher = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.4),))
    found = previewed(shop, higher).replayed
    assert (found.ends.unchanged, found.rises.unchanged, found.rises.vanish) == (1, 0, 2)
    shop.database.close()


def test_as_many_examples_are_given_as_asked_for(attacks: Shop) -> None:
    off = MerchantConfig("acc_001", "CARD_TESTING", enabled=False)
    previews = Previews(StoredPast(attacks.database), None, attacks.settings)
    for asked in (1, 8):
        examples = previews.run(off, attacks.now + MINUTE, DAY, examples=asked).replayed.examples
        assert Counter(example.kind for example in examples) == {"alert": asked, "message": asked}


class Recorded:
    """Prometheus, which knows one metric, with gaps."""

    def range(self, metric: str, account_id: str, start: Any, end: Any, step: Any) -> Series:
        assert account_id == "acc_001"
        assert (end - start) / step <= 11_000
        if metric != "failed_auth_rate":
            raise HistoryUnavailable("Prometheus: gone")
        times = [start + number * MINUTE for number in range(int((end - start) / MINUTE))]
        return Series(metric, times, [self.value(time) for time in times])

    def value(self, time: Any) -> float:
        if time > START + timedelta(hours=4):
            return math.nan
        return 0.1 if time < START + timedelta(hours=1) else 0.9


def test_what_lacks_a_metric_passes_as_it_does_live_and_history_is_told_beside(attacks: Shop) -> None:
    wanted = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("failed_auth_rate", ">", 0.5),))
    found = previewed(attacks, wanted, history=Recorded())
    assert (found.replayed.alerts.unchanged, found.replayed.alerts.vanish, found.replayed.messages.vanish) == (10, 0, 0)
    assert found.history == {"failed_auth_rate": ""}
    assert asdict(found.undetermined) == {"triggers": 20, "met": 14, "not_met": 4, "unknown": 2}
    assert "20 triggers lack a metric and pass; by what Prometheus has" in preview_answer(found)["message"]
    both = replace(wanted, conditions=(*wanted.conditions, Condition("unheard_of", ">", 1.0)))
    found = previewed(attacks, both, history=Recorded())
    assert found.history == {"failed_auth_rate": "", "unheard_of": "Prometheus: gone"}
    assert asdict(found.undetermined) == {"triggers": 20, "met": 0, "not_met": 4, "unknown": 16}
    decided = replace(wanted, conditions=(*wanted.conditions, Condition("block_rate", ">", 0.4)))
    assert previewed(attacks, decided, history=Recorded()).undetermined.triggers == 12, "the others are below 0.4"


def test_of_too_many_triggers_the_latest_whole_deliveries_are_told_of(attacks: Shop) -> None:
    """Three triggers an attack, an attack each half hour: of the 17 that are read two lack their attack's first."""
    same = MerchantConfig("acc_001", "CARD_TESTING")
    stored = StoredPast(attacks.database)
    found = Previews(stored, None, attacks.settings, most=17).run(same, attacks.now + MINUTE, DAY)
    assert found.truncated
    assert found.since == START + (4 * 30 + 5) * MINUTE, "the first of the last 17 triggers"
    assert found.left_out == 3, "that attack, and the two within an hour after it"
    assert (found.replayed.triggers, found.replayed.alerts.stored, found.replayed.alerts.unchanged) == (9, 3, 3)
    assert differences(found.replayed) == []
    exact = Previews(stored, None, attacks.settings, most=30).run(same, attacks.now + MINUTE, DAY)
    assert (exact.truncated, exact.left_out, exact.replayed.triggers) == (False, 0, 30)


def test_an_attack_that_began_before_what_is_kept_is_left_out_until_it_is_over(store_url: str) -> None:
    shop = Shop(store_url)
    for number in range(3):
        for minutes in range(0, 60, 5):
            starts_at = START + number * timedelta(hours=4)
            shop.now = starts_at + minutes * MINUTE
            shop.deliver(firing(starts_at=starts_at))
        shop.deliver(firing(starts_at=starts_at, status="resolved"), after=5 * MINUTE)
        shop.now += 20 * MINUTE
        types = shop.settings.types
        Sweep(Sweeping(shop.database, types, {"console": {}}), Outbox(shop.database), types).run_once(shop.now)
    with shop.database.write() as connection:  # as the retention does
        connection.execute(sa.delete(alert_trigger_log).where(alert_trigger_log.c.created_at < START + 30 * MINUTE))
    found = previewed(shop, MerchantConfig("acc_001", "CARD_TESTING"))
    assert differences(found.replayed) == []
    assert (found.left_out, found.replayed.alerts.stored, found.replayed.alerts.unchanged) == (1, 2, 2)
    shop.database.close()


def test_a_preview_ends_and_only_one_runs(attacks: Shop) -> None:
    same = MerchantConfig("acc_001", "CARD_TESTING")
    slow = Previews(StoredPast(attacks.database), None, attacks.settings, seconds=0)
    with pytest.raises(PreviewTooLong, match="takes longer than 0 s"):
        slow.run(same, attacks.now, DAY)

    class Waiting:
        def read(self, wanted: Wanted) -> Any:
            with pytest.raises(PreviewBusy):
                busy.run(same, attacks.now, DAY)
            return StoredPast(attacks.database).read(wanted)

    busy = Previews(Waiting(), None, attacks.settings)
    assert busy.run(same, attacks.now, DAY).replayed.triggers == 30
    assert busy.run(same, attacks.now, DAY).replayed.triggers == 30, "the next one has its turn"


ENDLESS = {
    "postgresql": "SELECT pg_sleep(600)",
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
}


def test_a_preview_that_ends_early_waits_for_no_statement(attacks: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    read = TriggerLog._parts

    def parts(log: Any) -> Any:
        yield next(read(log))
        log._connection.execute(sa.text(ENDLESS[attacks.database.dialect]))

    monkeypatch.setattr(TriggerLog, "_parts", parts)
    hasty = Previews(StoredPast(attacks.database), None, attacks.settings, seconds=0)
    with pytest.raises(PreviewTooLong):
        hasty.run(MerchantConfig("acc_001", "CARD_TESTING"), attacks.now, DAY)
    monkeypatch.undo()
    assert previewed(attacks, MerchantConfig("acc_001", "CARD_TESTING")).replayed.triggers == 30


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite has no such transaction
def test_the_replay_cannot_write(attacks: Shop) -> None:
    with read_only(attacks.database) as connection, pytest.raises(sa.exc.DBAPIError, match="read-only"):
        connection.execute(sa.delete(notification))

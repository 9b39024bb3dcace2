"""`serve` or `worker` with one thing taken from it: the control run of a drill, in which the fault is not handled.

`python -m drills.launch [--without NAME] [--lease SECONDS] COMMAND …` runs `sentinel-webhook COMMAND …`. The product
knows nothing of this: what is taken away is replaced here, in the process that a drill starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import click

_LATE_S = 1.0


def _commit_before_200() -> None:
    """The receiver answers at once and stores a moment later."""
    from webhook.domain.ledger import Changes  # noqa: PLC0415 - each takes the place of what one process uses
    from webhook.pipeline.together import Together  # noqa: PLC0415

    store = Together.ingest

    def answer_first(self: Together, received: Any, now: Any) -> Changes:  # noqa: ANN401 - passed on
        def later() -> None:
            time.sleep(_LATE_S)
            store(self, received, now)

        threading.Thread(target=later, daemon=True).start()
        return Changes()

    _replace(Together, "ingest", answer_first)


def _503() -> None:
    """What could not be stored is answered with 200 all the same."""
    from webhook.domain.ledger import Changes  # noqa: PLC0415
    from webhook.pipeline.together import Together  # noqa: PLC0415
    from webhook.ports import StoreConflict, StoreUnavailable  # noqa: PLC0415

    store = Together.ingest

    def swallow(self: Together, received: Any, now: Any) -> Changes:  # noqa: ANN401 - passed on
        try:
            return store(self, received, now)
        except (StoreConflict, StoreUnavailable):
            return Changes()

    _replace(Together, "ingest", swallow)


def _takeover() -> None:
    """Nobody takes over what a dead worker had claimed."""
    from webhook.storage import claiming  # noqa: PLC0415
    from webhook.storage.outbox import Outbox  # noqa: PLC0415

    _replace(claiming, "MAX_LOST_LEASES", -1_000_000)
    _replace(Outbox, "release_expired", lambda *_: 0)


def _store_for_redis() -> None:
    """Where Redis does not answer, the delivery fails: the store does not decide in its place."""
    from webhook.adapters.frequency import RedisPlaces  # noqa: PLC0415

    def fail(_: RedisPlaces, error: Exception) -> None:
        raise error

    _replace(RedisPlaces, "_failed", fail)


def _text_first() -> None:
    """A message waits until its chart could be drawn."""
    import os  # noqa: PLC0415

    import requests  # noqa: PLC0415

    from webhook.notifiers.slack import Slack  # noqa: PLC0415
    from webhook.ports import TemporaryDeliveryError  # noqa: PLC0415

    send, prometheus = Slack.send, os.environ["SENTINEL_PROMETHEUS_URL"]

    def draw_first(self: Slack, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        try:
            requests.get(f"{prometheus}/api/v1/query?query=1", timeout=5).raise_for_status()
        except requests.RequestException as error:
            raise TemporaryDeliveryError("no chart") from error
        return send(self, *args, **options)

    _replace(Slack, "send", draw_first)


def _doubt() -> None:
    """An Alertmanager that does not answer, or has just started, is taken to hold nothing."""
    from webhook.adapters.alertmanager import AlertmanagerFiring  # noqa: PLC0415
    from webhook.ports import HistoryUnavailable  # noqa: PLC0415

    ask = AlertmanagerFiring.firing

    def believe(self: AlertmanagerFiring) -> frozenset[str]:
        try:
            return ask(self)
        except HistoryUnavailable:
            return frozenset()

    _replace(AlertmanagerFiring, "firing", believe)


def _retries() -> None:
    """A message that Slack did not take is taken for sent."""
    from webhook.notifiers.slack import Slack  # noqa: PLC0415
    from webhook.ports import DeliveryError, Receipt  # noqa: PLC0415

    send = Slack.send

    def swallow(self: Slack, *args: Any, **options: Any) -> Receipt:  # noqa: ANN401 - passed on
        try:
            return send(self, *args, **options)
        except DeliveryError:
            return Receipt("", {})

    _replace(Slack, "send", swallow)


def _own_clock() -> None:
    """It is the time that the payload says."""
    from webhook.pipeline.together import Together  # noqa: PLC0415

    store = Together.ingest

    def believe(self: Together, received: Any, now: Any) -> Any:  # noqa: ANN401 - passed on
        times = [trigger.starts_at for trigger in received if hasattr(trigger, "starts_at")]
        return store(self, received, max(times, default=now))

    _replace(Together, "ingest", believe)


def _reconciliation() -> None:
    """Nobody asks Prometheus what fired while nothing was received."""
    from webhook.pipeline.reconcile import Reconciliation  # noqa: PLC0415

    _replace(Reconciliation, "run_once", lambda *_: 0)


def _prometheus_mark() -> None:
    """Only Alertmanager is asked whether deliveries failed, not Prometheus."""
    from webhook.adapters.fired import PrometheusFired  # noqa: PLC0415

    _replace(PrometheusFired, "mark", lambda _: "")


def _validation() -> None:
    """A configuration file is taken whatever is wrong with it: what it says is not understood, and defaults stand."""
    from webhook import config  # noqa: PLC0415

    read = config._config_file  # noqa: SLF001 - what says what is wrong with it
    _replace(config, "_config_file", lambda path, _: read(path, []))


WITHOUT: Mapping[str, Callable[[], None]] = {
    "commit-before-200": _commit_before_200,
    "503": _503,
    "takeover": _takeover,
    "store-for-redis": _store_for_redis,
    "text-first": _text_first,
    "doubt": _doubt,
    "retries": _retries,
    "own-clock": _own_clock,
    "reconciliation": _reconciliation,
    "prometheus-mark": _prometheus_mark,
    "validation": _validation,
}


def _replace(owner: object, name: str, value: object) -> None:
    """Raise AttributeError where there is nothing to replace: a control that takes nothing away shows nothing."""
    getattr(owner, name)
    setattr(owner, name, value)


def _lease(seconds: float) -> None:
    """Of messages, and of the sweep."""
    from webhook import worker  # noqa: PLC0415
    from webhook.pipeline import dispatch  # noqa: PLC0415

    _replace(dispatch, "LEASE", timedelta(seconds=seconds))
    _replace(worker, "SWEEP_LASTS", timedelta(seconds=seconds))


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--without", type=click.Choice(sorted(WITHOUT)), help="What is taken away.")
@click.option("--lease", type=float, help="Seconds that a dead worker's work stays its own.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(without: str | None, lease: float | None, command: tuple[str, ...]) -> None:
    """Run `sentinel-webhook COMMAND`, one thing taken away."""
    if lease is not None:
        _lease(lease)
    if without is not None:
        WITHOUT[without]()
    from webhook.__main__ import main as product  # noqa: PLC0415

    product(list(command))


if __name__ == "__main__":
    main()

"""Command line of the demo: `python -m demo --help`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
from sqlalchemy.exc import DBAPIError

from demo import attacks
from demo.columns import ROLES, STATUSES
from demo.dataset import Dataset, DatasetOptions, choice_table, load_dataset
from demo.errors import DemoError
from demo.payments import DEFAULT_URL, DEFAULT_WINDOW, PaymentsStore, load_merchants, load_settings
from demo.replay import Replay, ReplayPlan, describe, plan_replay
from demo.simulator import Simulator, SimulatorConfig

Command = TypeVar("Command", bound=Callable[..., Any])

_QUIET = 10.0  # seconds without a sign of life after which the server is taken for stopped


class Seconds(click.ParamType[float]):
    """A length of time such as 90s, 36h, 7d, 1h30m; plain numbers are seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        if isinstance(value, (int, float)):
            return float(value)
        import durationpy  # noqa: PLC0415 - only where one is given

        try:
            days, _, rest = value.rpartition("d")
            seconds = float(days or 0) * 86_400.0
            if rest:
                plain = rest.replace(".", "", 1).isdigit()
                seconds += float(rest) if plain else durationpy.from_str(rest).total_seconds()
        except (ValueError, durationpy.DurationError):
            self.fail(f"{value!r} is not a duration such as 90s, 36h or 7d", param, ctx)
        return seconds


SECONDS = Seconds()


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


database_option = click.option(
    "--database",
    envvar="PAYMENTS_DATABASE_URL",
    default=DEFAULT_URL,
    show_default=True,
    help="SQLAlchemy URL.",
)
simulator_options = options(
    click.option("--merchants", default=50, show_default=True, help="Number of merchants."),
    click.option("--rate", default=8.0, show_default=True, help="Transactions per second over all merchants."),
    click.option("--seed", default=7, show_default=True, help="The same seed gives the same merchants and habits."),
    click.option("--keep", type=SECONDS, default="24h", show_default=True, help="How much history is kept."),
)
window_option = click.option(
    "--window",
    type=SECONDS,
    help=f"Rate window of the metrics (default: PAYMENTS_WINDOW, else {DEFAULT_WINDOW:.0f}s); of a replay in data "
    "time (default: chosen from the data).",
)
dataset_options = options(
    *(
        click.option(f"--{role}", metavar="COLUMN", help=f"{about}; `none`: there is none.")
        for role, about in (
            ("time", "Column of the transaction's time"),
            ("merchant", "Column of the merchant"),
            ("card", "Column of the card or customer"),
            ("amount", "Column of the amount"),
            ("status", "Column that says approved, blocked or declined"),
            ("label", "Column of the fraud label, for scoring only"),
            ("chargeback", "Column that says whether it was charged back"),
        )
    ),
    click.option("--status-value", multiple=True, metavar="VALUE=STATUS", help="e.g. 05=declined; may be repeated."),
    click.option("--merchant-group", type=int, metavar="N", help="The merchant is id // N."),
    click.option("--chargeback-delay", type=SECONDS, default="7d", show_default=True, help="In data time."),
    click.option("--speed", type=float, help="Data seconds per second (default: a day in about 30 s)."),
)


@contextmanager
def opened(url: str, *, existing: bool = True) -> Iterator[PaymentsStore]:
    store = PaymentsStore(url)
    try:
        if existing:
            store.require()
        yield store
    finally:
        store.close()


@click.group(help=__doc__)
def cli() -> None:
    """Subcommands below."""


@cli.command()
@database_option
@simulator_options
@window_option
def history(database: str, window: float | None, **given: Any) -> None:  # noqa: ANN401 - click passes the options on
    """Fill an empty store with a day of ordinary transactions."""
    from demo.history import write_history  # noqa: PLC0415 - not needed by the other commands
    from demo.progress import ProgressLine  # noqa: PLC0415 - as above

    with opened(database, existing=False) as store:
        store.create(window=_wall_window(window))
        write_history(store, _config(given), time.time(), ProgressLine("payment history"))


@cli.command()
@database_option
@click.option("--tsdb", type=click.Path(path_type=Path), default=Path(".run/prometheus"), show_default=True)
@click.option("--job", default="sentinel-exporter", show_default=True)
@click.option("--instance", default="127.0.0.1:8000", show_default=True)
@click.option("--promtool", default="promtool", show_default=True)
def backfill(database: str, tsdb: Path, job: str, instance: str, promtool: str) -> None:
    """Turn the store's history into Prometheus blocks; Prometheus must not be running on that folder."""
    from demo.backfill import backfill as write_blocks  # noqa: PLC0415 - not needed by the other commands
    from demo.backfill import has_blocks  # noqa: PLC0415 - as above

    if has_blocks(tsdb):
        print(f"metric history: {tsdb} has metrics already")
        return
    write_blocks(database, tsdb, job=job, instance=instance, promtool=promtool, until=time.time())


@cli.command()
@database_option
@simulator_options
@window_option
@click.option("--port", default=8100, show_default=True)
@click.option("--attack-merchant", default=None, help="Merchant of the attack that starts by itself.")
@click.option("--attack-type", default="card_testing", show_default=True)
@click.option("--attack-after", type=SECONDS, default="5s", show_default=True)
@click.option("--attack-minutes", default=3.0, show_default=True)
@click.option("--no-attack", is_flag=True, help="Start no attack by itself.")
@click.option("--replay", "file", type=click.Path(path_type=Path), help="Replay FILE instead of simulating.")
@click.option("--replay-after", type=SECONDS, default="5s", show_default=True, help="So that the stack is up by then.")
@click.option("--plan-json", is_flag=True, help="Print what --replay would do, for programs, and stop.")
@dataset_options
def serve(database: str, window: float | None, port: int, file: Path | None, plan_json: bool, **given: Any) -> None:  # noqa: ANN401 - click passes the options on
    """Write payments as time passes, and serve the metric platform API."""
    if file is not None and plan_json:
        dataset, plan = _planned(file, window, given, stream=sys.stderr)
        derived = {"wall_window": plan.wall_window, "wall_seconds": plan.wall_seconds}
        print(json.dumps(asdict(plan) | derived | {"has_status": dataset.has("status")}))
        return
    from demo.server import WriterThread, make_api_server  # noqa: PLC0415 - only the server needs Flask
    from demo.server import serve as run  # noqa: PLC0415 - as above

    token = os.environ.get("METRIC_PLATFORM_TOKEN", "")
    if not token:
        raise DemoError("METRIC_PLATFORM_TOKEN is not set: it is the bearer token that callers of the API present")
    with opened(database, existing=False) as store:
        store.create()
        server = make_api_server(store, token, port)
        try:
            if file is None:
                thread = WriterThread(*_simulation(store, window, given))
            else:
                dataset, plan = _planned(file, window, given)
                replay = Replay(store, dataset, plan, time.time() + given["replay_after"])
                thread = WriterThread(replay, _watch(replay))
        except BaseException:
            server.server_close()
            raise
        print(f"metric platform on http://127.0.0.1:{port}", flush=True)
        run(server, thread)


def _simulation(
    store: PaymentsStore, window: float | None, given: dict[str, Any]
) -> tuple[Simulator, Callable[[float], bool]]:
    now = time.time()
    store.create(window=_wall_window(window))
    simulator = Simulator(store, _config(given), now)
    if not given["no_attack"]:
        wanted = given["attack_merchant"] or simulator.typical_merchant()
        with store.write() as connection:
            # The last run's may go on still; what a person started is left alone.
            attacks.stop_attacks(connection, now, merchant=wanted, kind=given["attack_type"])
            attack = attacks.start_attack(
                connection,
                wanted,
                given["attack_type"],
                now + given["attack_after"],
                minutes=given["attack_minutes"],
            )
        print(f"{attack.type} attack on {attack.account_id} begins in {given['attack_after']:.0f} s", flush=True)
    return simulator, lambda _now: False


def _config(given: dict[str, Any]) -> SimulatorConfig:
    return SimulatorConfig(given["merchants"], given["rate"], given["seed"], given["keep"])


def _wall_window(window: float | None) -> float | None:
    """Of simulated traffic. A replay's window is in data time and never read from the environment."""
    text = os.environ.get("PAYMENTS_WINDOW")
    return window if window is not None or not text else SECONDS.convert(text, None, None)


def _planned(
    file: Path, window: float | None, given: dict[str, Any], stream: TextIO | None = None
) -> tuple[Dataset, ReplayPlan]:
    """Load, plan and tell. Raises DemoError where file or options do not fit."""
    pairs = [item.partition("=") for item in given["status_value"]]
    for value, _, status in pairs:
        if status not in STATUSES:
            raise DemoError(f"--status-value {value}={status}: the status is approved, blocked or declined")
    dataset = load_dataset(
        file,
        DatasetOptions(
            columns={role: given[role] for role in ROLES if given[role]},
            status_values={value: status for value, _, status in pairs},
            merchant_group=given["merchant_group"],
            chargeback_delay=given["chargeback_delay"],
        ),
    )
    plan = plan_replay(dataset, speed=given["speed"], window=window)
    lines = [dataset.name, choice_table(dataset), *describe(dataset, plan)]
    print("\n".join(lines), flush=True, file=stream)
    return dataset, plan


def _watch(replay: Replay) -> Callable[[float], bool]:
    """Show progress after each step; True once all is written."""
    from demo.progress import ProgressLine  # noqa: PLC0415 - not needed by the other commands

    line = ProgressLine("replay")

    def after(now: float) -> bool:
        line.update(*replay.progress(now))
        if replay.finished:
            line.done("all transactions written; `python -m demo report` says what the rules made of them")
        return replay.finished

    return after


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@window_option
@dataset_options
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be done, and stop.")
def replay(file: Path, database: str, window: float | None, only_plan: bool, **given: Any) -> None:  # noqa: ANN401 - click passes the options on
    """Write somebody's own transactions into the store as (faster) time passes."""
    dataset, plan = _planned(file, window, given)
    if only_plan:
        return
    with opened(database, existing=False) as store:
        store.create()
        run = Replay(store, dataset, plan, time.time())
        after = _watch(run)
        while True:
            now = time.time()
            run.step(now)
            if after(now):
                return
            time.sleep(0.25)


@cli.command()
@click.option(
    "--database",
    envvar="PAYMENTS_DATABASE_URL",
    default="sqlite:///.run/replay/payments.sqlite",
    show_default=True,
    help="SQLAlchemy URL of the store that the file was replayed into.",
)
@click.option(
    "--alerts",
    envvar="SENTINEL_DATABASE_URL",
    default="sqlite:///.run/replay/sentinel.sqlite",
    show_default=True,
    help="SQLAlchemy URL of the webhook's database.",
)
def report(database: str, alerts: str) -> None:
    """Say what the rules made of a replay: alerts against fraud labels."""
    from demo.report import load_alerts, load_replayed, render, score  # noqa: PLC0415 - not needed by the others

    with opened(database) as store:
        print(render(score(load_alerts(alerts), *load_replayed(store))))


@cli.command()
@database_option
def merchants(database: str) -> None:
    """List the merchants."""
    with opened(database) as store, store.read() as connection:
        for merchant in load_merchants(connection):
            print(
                f"{merchant['account_id']:<12} {merchant['merchant_name']:<28} {merchant['region']:<8} "
                f"{merchant['tx_per_minute']:6.1f} tx/min"
            )


@cli.group()
def attack() -> None:
    """Start, stop and list attacks."""


@attack.command("start")
@database_option
@click.option("--merchant", required=True, help="Account id, or a part of the name that fits one merchant.")
@click.option("--type", "kind", required=True, help=f"One of: {', '.join(attacks.ATTACK_TYPES)}.")
@click.option("--minutes", type=float, help="Stop after so long (default: until `attack stop`).")
@click.option("--intensity", type=float, help="Transactions (chargebacks) per second.")
def attack_start(database: str, merchant: str, kind: str, minutes: float | None, intensity: float | None) -> None:
    """Start an attack."""
    now = time.time()
    with opened(database) as store, store.write() as connection:
        begun = attacks.start_attack(connection, merchant, kind, now, minutes=minutes, intensity=intensity)
        until = "until `attack stop`" if minutes is None else f"for {minutes:g} min"
        print(f"{kind} attack on {begun.account_id}: {begun.intensity:g} a second {until}")
        if now - float(load_settings(connection).get("heartbeat", 0)) > _QUIET:
            print("the demo's server does not run: the attack is sent once it does")


@attack.command("stop")
@database_option
@click.option("--merchant", help="Only attacks on this merchant.")
@click.option("--type", "kind", help="Only attacks of this type.")
def attack_stop(database: str, merchant: str | None, kind: str | None) -> None:
    """Stop attacks: all of them, or those of a merchant or type."""
    with opened(database) as store, store.write() as connection:
        stopped = attacks.stop_attacks(connection, time.time(), merchant=merchant, kind=kind)
    for ended in stopped:
        print(f"stopped: {ended.type} attack on {ended.account_id}")
    if not stopped:
        print("no such attack is running")


@attack.command("list")
@database_option
def attack_list(database: str) -> None:
    """List the latest attacks, newest first."""
    now = time.time()
    with opened(database) as store, store.read() as connection:
        for entry in attacks.latest(connection):
            if now < entry.started_at:
                state = "about to begin"
            elif entry.ends_at is None:
                state = "running"
            else:
                state = ("running until " if now < entry.ends_at else "ended ") + _clock(entry.ends_at)
            since = _clock(entry.started_at)
            print(f"{entry.account_id:<12} {entry.type:<17} {entry.intensity:g}/s since {since}, {state}")


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}Z"


def main(arguments: Sequence[str] | None = None) -> None:
    """Errors that the caller can put right are one plain line and exit code 2. Always ends in SystemExit."""
    try:
        cli.main(arguments, prog_name="python -m demo")
    except DemoError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except DBAPIError as error:
        print(f"the payments store cannot be used: {' '.join(str(error.orig).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

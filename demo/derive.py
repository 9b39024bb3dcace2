"""The production Prometheus and Alertmanager configuration with shorter times and addresses of this machine.

Derived, not a second copy: rules, routes and inhibition are those of `prometheus/` and `alertmanager/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import yaml

from demo.promql import format_duration, parse_duration, replace_durations, replace_durations_in_template

EXPORTER_JOB = "sentinel-exporter"
OPERATIONS = "OPERATIONS"
DISCOVERY = "_sd_configs"
DEFAULT_SCRAPE_INTERVAL = "1m"  # Prometheus' own, where the file names none
FLOOR_MS = 1000
REPEAT_FLOOR_MS = 950  # below the floor of group_interval: a repeat that is due exactly at a flush misses it

WEBHOOK_PATH = "/api/v1/alerts/prometheus/webhook"
WEBHOOK_URL = f"http://127.0.0.1:8080{WEBHOOK_PATH}"
PAGES = "${SENTINEL_PUBLIC_URL}"

T = TypeVar("T")
Document = dict[str, Any]
Scale = Callable[[str], str]


def scale_duration(text: object, speed: float, floor_ms: int = FLOOR_MS) -> str:
    """`text` divided by `speed`, not below `floor_ms` (nor above what it was); what was 0 stays 0."""
    original = parse_duration(text)
    return format_duration(max(round(original / speed), min(floor_ms, original)))


def derive_prometheus(
    config: Document,
    *,
    speed: float,
    targets: Mapping[str, Sequence[str]],
    alertmanagers: Sequence[str],
    pages: str = "",
) -> tuple[Document, int]:
    """Prometheus' configuration, and the milliseconds between two scrapes of the exporter.

    Of the jobs those in `targets` stay, at these addresses: what else production watches does not run beside the
    demo. Only the exporter is scraped more often, for its data pass faster. `pages`: where runbooks are.
    """
    general = dict(config.get("global") or {})
    jobs = {job.get("job_name"): job for job in config.get("scrape_configs") or ()}
    if missing := {EXPORTER_JOB, *targets} - set(jobs):
        raise ValueError(f"prometheus.yml has no job {', '.join(sorted(missing))}")
    usual = str(general.get("scrape_interval", DEFAULT_SCRAPE_INTERVAL))
    for key in ("scrape_interval", "evaluation_interval"):
        general[key] = scale_duration(general.get(key, DEFAULT_SCRAPE_INTERVAL), speed)
    _shorten_timeout(general, general["scrape_interval"])
    if labels := general.get("external_labels"):
        general["external_labels"] = {name: str(text).replace(PAGES, pages) for name, text in labels.items()}
    derived_jobs = [_derive_job(jobs[name], speed, usual, list(targets[name])) for name in jobs if name in targets]
    scrape_interval = next(job["scrape_interval"] for job in derived_jobs if job["job_name"] == EXPORTER_JOB)
    derived = {
        **config,
        "global": general,
        "rule_files": ["rules/*.yml"],
        "scrape_configs": derived_jobs,
        "alerting": {
            **(config.get("alerting") or {}),
            "alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}],
        },
    }
    return derived, parse_duration(scrape_interval)


def _derive_job(job: Document, speed: float, usual: str, targets: list[str]) -> Document:
    """At fixed addresses, whatever finds them in production."""
    derived = {key: value for key, value in job.items() if not key.endswith(DISCOVERY)}
    interval = str(job.get("scrape_interval", usual))
    derived["scrape_interval"] = scale_duration(interval, speed) if job["job_name"] == EXPORTER_JOB else interval
    _shorten_timeout(derived, derived["scrape_interval"])
    return {**derived, "static_configs": [{"targets": targets}]}


def _shorten_timeout(settings: Document, interval: str) -> None:
    """It is no waiting time: it only gives way to the shorter interval."""
    if "scrape_timeout" in settings:
        shortest = min(parse_duration(settings["scrape_timeout"]), parse_duration(interval))
        settings["scrape_timeout"] = format_duration(shortest)


def derive_rules(
    document: Document, *, speed: float, range_scale: Scale | None, step_scale: Scale | None = None
) -> Document:
    """A rule file with shorter `interval`, `for` and `keep_firing_for`.

    `range_scale` maps each range and offset in expressions, and in the queries of annotations, so that both go on
    meaning the same; None leaves them as they are. `step_scale` maps the steps of subqueries; without it
    `range_scale` does. Groups with rules about our own services stay as they are: these run in real time.
    """
    groups = [
        group
        if _of_services(group)
        else {
            **_scaled(group, ("interval",), speed),
            "rules": [_derive_rule(rule, speed, range_scale, step_scale) for rule in group.get("rules") or ()],
        }
        for group in document.get("groups") or ()
    ]
    return {**document, "groups": groups}


def _of_services(group: Document) -> bool:
    return any((rule.get("labels") or {}).get("alert_type") == OPERATIONS for rule in group.get("rules") or ())


def _derive_rule(rule: Document, speed: float, range_scale: Scale | None, step_scale: Scale | None) -> Document:
    derived = _scaled(rule, ("for", "keep_firing_for"), speed)
    if range_scale is None:
        return derived
    derived["expr"] = replace_durations(str(rule["expr"]), range_scale, step_scale)
    if rule.get("annotations"):
        derived["annotations"] = {
            name: replace_durations_in_template(str(text), range_scale, step_scale)
            for name, text in rule["annotations"].items()
        }
    return derived


def derive_alertmanager(config: Document, *, speed: float, webhook_url: str, credentials_file: str) -> Document:
    """Alertmanager's configuration: routes with shorter times, webhooks at `webhook_url`, each with its own query.

    Receivers of other kinds and webhooks of others are emptied: a demo writes to nobody. So are the intervals in
    which routes are muted: whoever starts it is there. Templates stay behind with those who read them.
    """
    derived = {**config, "route": _derive_route(config["route"], speed)}
    derived.pop("templates", None)
    if config.get("time_intervals"):
        derived["time_intervals"] = [{**each, "time_intervals": []} for each in config["time_intervals"]]
    if config.get("global"):
        derived["global"] = _scaled(config["global"], ("resolve_timeout",), speed)
    derived["receivers"] = [
        _derive_receiver(receiver, webhook_url, credentials_file) for receiver in config.get("receivers") or ()
    ]
    return derived


def _derive_route(route: Document, speed: float) -> Document:
    derived = _scaled(route, ("group_wait",), speed, floor_ms=0)  # nothing waits for it but the first message
    derived = _scaled(derived, ("group_interval",), speed)
    derived = _scaled(derived, ("repeat_interval",), speed, REPEAT_FLOOR_MS)
    if route.get("routes"):
        derived["routes"] = [_derive_route(child, speed) for child in route["routes"]]
    return derived


def _derive_receiver(receiver: Document, webhook_url: str, credentials_file: str) -> Document:
    webhooks = []
    for webhook in receiver.get("webhook_configs") or ():
        address = urlsplit(webhook["url"])
        if address.path != WEBHOOK_PATH:
            continue
        query = address.query
        http = dict(webhook.get("http_config") or {})
        http["authorization"] = {"type": "Bearer", "credentials_file": credentials_file}
        webhooks.append({**webhook, "url": f"{webhook_url}?{query}" if query else webhook_url, "http_config": http})
    return {"name": receiver["name"], "webhook_configs": webhooks}


def _scaled(settings: Mapping[str, Any], keys: Iterable[str], speed: float, floor_ms: int = FLOOR_MS) -> Document:
    scaled = {key: scale_duration(settings[key], speed, floor_ms) for key in keys if key in settings}
    return {**settings, **scaled}


def derive(
    source_dir: Path,
    target_dir: Path,
    *,
    speed: float,
    scale_ranges: bool,
    exporter: str = "127.0.0.1:8000",
    others: Mapping[str, Sequence[str]] | None = None,
    alertmanagers: Sequence[str] = ("127.0.0.1:9093",),
    webhook_url: str = WEBHOOK_URL,
    credentials_file: str | Path,
) -> None:
    """Write `prometheus.yml`, `rules/*.yml` and `alertmanager.yml` into `target_dir`, from the repository `source_dir`.

    `others`: addresses of other jobs that run beside the exporter; those that are not named are not scraped.

    Waiting times are divided by `speed`, with a floor of 1 s. With `scale_ranges` (a replay, whose data pass faster
    too) ranges and offsets inside expressions are divided as well. Their floor is two scrapes, so that a window
    holds two samples; windows and offsets share it, so that an hour and the hour before stay side by side. That of
    a subquery's step is one scrape, so that its window goes on holding two steps.

    Raises ValueError, naming the file, for what is no such configuration, OSError for what cannot be read or written.
    """
    if not 0 < speed < float("inf"):
        raise ValueError(f"speed must be a positive number, not {speed}")
    prometheus_dir = source_dir / "prometheus"
    change = partial(
        derive_prometheus,
        speed=speed,
        targets={EXPORTER_JOB: [exporter], **(others or {})},
        alertmanagers=alertmanagers,
        pages="{0.scheme}://{0.netloc}".format(urlsplit(webhook_url)),
    )
    prometheus, scrape_ms = _derived(prometheus_dir / "prometheus.yml", change)
    rules = _derived_rules(prometheus_dir / "rules", speed, scrape_ms if scale_ranges else None)
    credentials = str(Path(credentials_file).absolute())
    route = partial(derive_alertmanager, speed=speed, webhook_url=webhook_url, credentials_file=credentials)
    alertmanager = _derived(source_dir / "alertmanager" / "alertmanager.yml", route)
    _write(target_dir, {"prometheus.yml": prometheus, "alertmanager.yml": alertmanager}, rules)


def _derived_rules(folder: Path, speed: float, scrape_ms: int | None) -> dict[str, Document]:
    """By file name. `scrape_ms`: where ranges are scaled, too."""
    change = partial(derive_rules, speed=speed, range_scale=None)
    if scrape_ms is not None:
        change = partial(
            derive_rules,
            speed=speed,
            range_scale=partial(scale_duration, speed=speed, floor_ms=2 * scrape_ms),
            step_scale=partial(scale_duration, speed=speed, floor_ms=scrape_ms),
        )
    rules = {path.name: _derived(path, change) for path in sorted(folder.glob("*.yml"))}
    if not rules:
        raise ValueError(f"{folder}: no rule files")
    return rules


def _derived(path: Path, change: Callable[[Document], T]) -> T:
    with path.open(encoding="utf-8") as file:
        document = yaml.safe_load(file)  # of a file, whose errors name it
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a mapping")  # noqa: TRY004 - wrong content of a file, not a wrong call
    try:
        return change(document)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


class _PlainDumper(yaml.SafeDumper):
    """What is derived is read by people too: no anchors, and expressions over several lines stay so."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _PlainDumper.represent_text)


def _write(target_dir: Path, configs: Mapping[str, Document], rules: Mapping[str, Document]) -> None:
    """Replace what an earlier run wrote; a rule file that is gone from the source must not go on alerting."""
    rules_dir = target_dir / "rules"
    rules_dir.mkdir(parents=True, exist_ok=True)
    for leftover in rules_dir.glob("*.yml"):
        leftover.unlink()
    for folder, documents in ((target_dir, configs), (rules_dir, rules)):
        for name, document in documents.items():
            text = yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=115)
            (folder / name).write_text(text, encoding="utf-8")


@click.command()
@click.option(
    "--source",
    "source_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="the repository, this folder unless told",
)
@click.option("--target", "target_dir", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--speed", type=float, required=True, help="what every waiting time is divided by")
@click.option("--scale-ranges/--keep-ranges", default=False, help="divide ranges and offsets in expressions too")
@click.option("--exporter", default="127.0.0.1:8000", show_default=True)
@click.option("--alertmanager", "alertmanagers", multiple=True, default=["127.0.0.1:9093"], show_default=True)
@click.option("--webhook-url", default=WEBHOOK_URL, show_default=True)
@click.option("--credentials-file", type=click.Path(path_type=Path), required=True, help="holds the ingest token")
def main(
    *,
    source_dir: Path,
    target_dir: Path,
    speed: float,
    scale_ranges: bool,
    exporter: str,
    alertmanagers: tuple[str, ...],
    webhook_url: str,
    credentials_file: Path,
) -> None:
    """Write Prometheus' and Alertmanager's configuration with shorter times, derived from the production files."""
    try:
        derive(
            source_dir,
            target_dir,
            speed=speed,
            scale_ranges=scale_ranges,
            exporter=exporter,
            alertmanagers=alertmanagers,
            webhook_url=webhook_url,
            credentials_file=credentials_file,
        )
    except (ValueError, yaml.YAMLError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


if __name__ == "__main__":
    main()

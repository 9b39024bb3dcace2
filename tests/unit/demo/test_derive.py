from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from servers import program

from demo.derive import derive, derive_alertmanager, derive_prometheus, derive_rules, main, scale_duration
from demo.promql import parse_duration

ROOT = Path(__file__).resolve().parents[3]
WEBHOOK = "http://127.0.0.1:8080/api/v1/alerts/prometheus/webhook"


def derived(target: Path, *, speed: float = 60, scale_ranges: bool = False, source: Path = ROOT) -> dict[str, Any]:
    """Every derived document by file name."""
    derive(source, target, speed=speed, scale_ranges=scale_ranges, credentials_file=target / "token")
    return {path.name: yaml.safe_load(path.read_text()) for path in target.rglob("*.yml")}


def production(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def rules_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule.get("alert", rule.get("record")): rule for group in document["groups"] for rule in group["rules"]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the production files that a test may break."""
    for name in ("prometheus", "alertmanager"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name)
    return tmp_path / "source"


@pytest.mark.parametrize(
    ("text", "speed", "expected"),
    [
        ("5m", 60, "5s"),
        ("5m", 7, "42857ms"),
        ("30s", 60, "1s"),
        ("500ms", 60, "500ms"),
        ("0s", 60, "0s"),
        ("1h", 0.5, "2h"),
    ],
)
def test_a_waiting_time_is_divided_with_a_floor_and_nothing_stays_nothing(
    text: str, speed: float, expected: str
) -> None:
    assert scale_duration(text, speed) == expected


@given(st.integers(0, 10**10), st.floats(0.01, 1e6), st.integers(0, 10**5))
def test_a_floor_never_lengthens_a_wait_and_never_makes_one(milliseconds: int, speed: float, floor_ms: int) -> None:
    scaled = parse_duration(scale_duration(f"{milliseconds}ms", speed, floor_ms))
    assert scaled <= max(milliseconds, round(milliseconds / speed))
    assert scaled >= min(milliseconds, floor_ms)


@pytest.mark.parametrize(("speed", "scale_ranges"), [(1, False), (7, True), (60, False), (3600, True)])
def test_what_is_derived_passes_the_checks_of_both_programs(tmp_path: Path, speed: float, scale_ranges: bool) -> None:
    derived(tmp_path, speed=speed, scale_ranges=scale_ranges)
    for command in (["promtool", "check", "config", "prometheus.yml"], ["amtool", "check-config", "alertmanager.yml"]):
        done = subprocess.run([program(command[0]), *command[1:]], cwd=tmp_path, check=False, capture_output=True)
        assert done.returncode == 0, done


def test_prometheus_scrapes_our_exporter_and_what_runs_beside_it_under_their_own_jobs(tmp_path: Path) -> None:
    others = {"sentinel-worker": ["127.0.0.1:9101"], "alertmanager": ["127.0.0.1:9093", "127.0.0.1:9094"]}
    derive(ROOT, tmp_path, speed=60, scale_ranges=False, others=others, credentials_file=tmp_path / "token")
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert config["global"] == {
        "scrape_interval": "1s",
        "evaluation_interval": "1s",
        "external_labels": {"sentinel": "http://127.0.0.1:8080"},
    }
    assert config["scrape_configs"] == [
        {"job_name": name, "scrape_interval": interval, "static_configs": [{"targets": targets}]}
        for name, interval, targets in (
            ("sentinel-exporter", "1s", ["127.0.0.1:8000"]),
            ("sentinel-worker", "15s", ["127.0.0.1:9101"]),
            ("alertmanager", "15s", ["127.0.0.1:9093", "127.0.0.1:9094"]),
        )
    ]
    assert config["alerting"]["alert_relabel_configs"] == [{"action": "labeldrop", "regex": "sentinel"}]
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]


def test_a_timeout_only_gives_way_to_the_shorter_interval() -> None:
    config = {
        "global": {"scrape_interval": "2m", "scrape_timeout": "1m"},
        "scrape_configs": [{"job_name": "sentinel-exporter", "scrape_interval": "10m", "scrape_timeout": "8s"}],
    }
    targets = {"sentinel-exporter": ["e:1"]}
    result, scrape_ms = derive_prometheus(config, speed=60, targets=targets, alertmanagers=["a:1"])
    assert result["global"] == {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    assert result["scrape_configs"][0]["scrape_timeout"] == "8s"
    assert scrape_ms == 10_000


def test_rules_wait_less_and_say_the_same(tmp_path: Path) -> None:
    anomaly = derived(tmp_path)["anomaly.yml"]
    assert [group["interval"] for group in anomaly["groups"]] == ["1s"]
    waits = {name: (rule.pop("for"), rule.pop("keep_firing_for")) for name, rule in rules_of(anomaly).items()}
    assert waits == {"BlockRateAnomaly": ("10s", "3s"), "BlockRateSurge": ("15s", "3s")}
    expected = rules_of(production("prometheus/rules/anomaly.yml"))
    for rule in expected.values():
        del rule["for"], rule["keep_firing_for"]
    assert rules_of(anomaly) == expected


@pytest.mark.parametrize("scale_ranges", [True, False])
def test_rules_about_our_own_services_stay_as_they_are(tmp_path: Path, scale_ranges: bool) -> None:
    """They run in real time: a worker that takes seconds to start is not down."""
    files = derived(tmp_path, scale_ranges=scale_ranges)
    for name in ("exporter.yml", "sources.yml", "webhook.yml", "worker.yml", "delivery.yml"):
        assert files[name] == production(f"prometheus/rules/{name}")


def test_in_a_replay_ranges_pass_faster_too_in_expressions_and_in_the_queries_of_annotations(tmp_path: Path) -> None:
    files = derived(tmp_path, speed=20, scale_ranges=True)
    surge = rules_of(files["anomaly.yml"])["BlockRateSurge"]
    assert "account:sentinel_block_rate:max[3m:3s] offset 3m)" in surge["expr"]
    assert "{account_id=%q}[3m:3s] offset 3m)" in surge["annotations"]["previous_hour_block_rate"]
    assert surge["annotations"]["description"] == production_annotation("BlockRateSurge", "description")
    recorded = rules_of(files["merchants.yml"])
    assert recorded["account:sentinel_block_rate:avg7d"]["expr"].count("[504m]") == 2
    assert "[3m] offset 4230s) > 3" in recorded["account:sentinel_block_rate:unusual"]["expr"]
    assert "[7500ms]" in recorded["account:sentinel_block_rate:max"]["expr"]
    detected = rules_of(files["card_testing.yml"])["CardTestingDetected"]
    assert detected["expr"] == rules_of(production("prometheus/rules/card_testing.yml"))["CardTestingDetected"]["expr"]


def production_annotation(rule: str, name: str) -> str:
    return str(rules_of(production("prometheus/rules/anomaly.yml"))[rule]["annotations"][name])


def test_a_scaled_window_holds_two_scrapes_and_lies_beside_the_one_before(tmp_path: Path) -> None:
    surge = rules_of(derived(tmp_path, speed=36_000, scale_ranges=True)["anomaly.yml"])["BlockRateSurge"]["expr"]
    assert "account:sentinel_block_rate:max[2s:1s])" in surge
    assert "account:sentinel_block_rate:max[2s:1s] offset 2s)" in surge


@pytest.mark.parametrize("speed", [0.5, 7, 3600, 1_000_000])
def test_a_scaled_window_goes_on_holding_two_steps_of_its_subquery(tmp_path: Path, speed: float) -> None:
    files = derived(tmp_path, speed=speed, scale_ranges=True)
    rules = [rule for name in ("merchants.yml", "anomaly.yml") for rule in rules_of(files[name]).values()]
    texts = [text for rule in rules for text in (rule["expr"], *rule.get("annotations", {}).values())]
    windows = [window for text in texts for window in re.findall(r"\[(\w+):(\w+)\]", text)]
    assert len(windows) == 2 + 2  # the surge, in two annotations too
    assert all(parse_duration(span) >= 2 * parse_duration(step) - 1 for span, step in windows)  # 1 ms of rounding


def test_every_wait_of_a_rule_file_is_divided_and_recording_rules_stay() -> None:
    document = {
        "groups": [
            {
                "name": "g",
                "limit": 3,
                "rules": [
                    {"record": "a:b", "expr": "avg_over_time(m[10m])"},
                    {"alert": "A", "expr": "m > 1", "for": "0s", "keep_firing_for": "10m", "labels": {"a": "[5m]"}},
                ],
            }
        ]
    }
    result = derive_rules(document, speed=60, range_scale=None)
    assert result["groups"][0]["rules"] == [
        {"record": "a:b", "expr": "avg_over_time(m[10m])"},
        {"alert": "A", "expr": "m > 1", "for": "0s", "keep_firing_for": "10s", "labels": {"a": "[5m]"}},
    ]
    assert result["groups"][0]["limit"] == 3


def test_alertmanager_keeps_its_routes_and_inhibition_with_shorter_times(tmp_path: Path) -> None:
    config, before = derived(tmp_path)["alertmanager.yml"], production("alertmanager/alertmanager.yml")
    assert config["inhibit_rules"] == before["inhibit_rules"]
    assert config["global"] == {"resolve_timeout": "5s"}
    route, urgent = config["route"], config["route"]["routes"][-1]
    times = ("group_wait", "group_interval", "repeat_interval")
    assert [route[time] for time in times] == ["500ms", "5s", "4750ms"]
    assert [urgent[time] for time in times[:2]] == ["0s", "1s"]
    assert urgent["matchers"] == before["route"]["routes"][-1]["matchers"]


def test_no_hour_is_muted(tmp_path: Path) -> None:
    config, before = derived(tmp_path)["alertmanager.yml"], production("alertmanager/alertmanager.yml")
    assert before["time_intervals"][0]["time_intervals"]
    assert config["time_intervals"] == [{"name": "outside-working-hours", "time_intervals": []}]


@pytest.mark.parametrize("speed", [1, 60, 300, 10_000])
def test_a_repeat_stays_due_before_the_next_flush(tmp_path: Path, speed: float) -> None:
    route = derived(tmp_path, speed=speed)["alertmanager.yml"]["route"]
    assert parse_duration(route["repeat_interval"]) <= 0.95 * parse_duration(route["group_interval"])


def test_webhooks_get_the_address_and_the_token_and_keep_the_rest(tmp_path: Path) -> None:
    receivers = {each["name"]: each["webhook_configs"] for each in derived(tmp_path)["alertmanager.yml"]["receivers"]}
    others = {"nobody", "oncall-direct", "heartbeat", "team-analysts", "team-data", "team-platform"}
    assert [receivers.pop(name) for name in others] == [[]] * len(others)
    for name, (webhook,) in receivers.items():
        assert webhook["url"] == (f"{WEBHOOK}?priority=urgent" if name.endswith("-urgent") else WEBHOOK)
        assert webhook["send_resolved"] is True
        assert webhook["http_config"] == {
            "authorization": {"type": "Bearer", "credentials_file": str(tmp_path / "token")},
            "follow_redirects": False,
        }


def test_a_receiver_that_is_no_webhook_of_ours_goes_nowhere() -> None:
    config = {
        "route": {"receiver": "mail"},
        "receivers": [{"name": "mail", "email_configs": [{"to": "someone@example.com"}]}],
    }
    result = derive_alertmanager(config, speed=60, webhook_url=WEBHOOK, credentials_file="t")
    assert result["receivers"] == [{"name": "mail", "webhook_configs": []}]


def test_a_rule_file_that_is_gone_is_no_longer_derived(source: Path, tmp_path: Path) -> None:
    assert "exporter.yml" in derived(tmp_path / "target", source=source)
    (source / "prometheus" / "rules" / "exporter.yml").unlink()
    assert "exporter.yml" not in derived(tmp_path / "target", source=source)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prometheus/rules/velocity.yml", "groups: [{name: g, rules: [{alert: A, expr: m, for: soon}]}]", "'soon'"),
        ("prometheus/rules/velocity.yml", "groups: 5", "not iterable"),
        ("prometheus/rules/velocity.yml", "- a list", "not a mapping"),
        ("prometheus/rules/velocity.yml", "groups: [", "expected the node content"),
        ("prometheus/prometheus.yml", "scrape_configs: []", "no job sentinel-exporter"),
        ("alertmanager/alertmanager.yml", "receivers: []", "'route' is missing"),
    ],
)
def test_a_broken_file_is_named_in_one_line(source: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    (source / name).write_text(text)
    target = tmp_path / "target"
    arguments = ["--source", str(source), "--target", str(target), "--speed", "60", "--credentials-file", "token"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert name in result.output
    assert len(result.output.splitlines()) == 1
    assert not target.exists()


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_divides_nothing_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be"):
        derive(ROOT, tmp_path, speed=speed, scale_ranges=False, credentials_file="token")


def test_the_command_line_takes_every_address(tmp_path: Path) -> None:
    options = {
        "--target": str(tmp_path), "--speed": "20", "--exporter": "127.0.0.1:18000", "--credentials-file": "token",
        "--alertmanager": "127.0.0.1:19093", "--webhook-url": "http://127.0.0.1:18080/hook",
    }  # fmt: skip
    result = CliRunner().invoke(main, [part for option in options.items() for part in option] + ["--scale-ranges"])
    assert result.exit_code == 0, result.output
    written = {
        name: (tmp_path / name).read_text() for name in ("prometheus.yml", "alertmanager.yml", "rules/merchants.yml")
    }
    assert "127.0.0.1:18000" in written["prometheus.yml"]
    assert "127.0.0.1:19093" in written["prometheus.yml"]
    assert "http://127.0.0.1:18080/hook?priority=urgent" in written["alertmanager.yml"]
    assert "[504m]" in written["rules/merchants.yml"]

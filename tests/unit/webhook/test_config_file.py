from __future__ import annotations

from pathlib import Path

import pytest

from webhook.domain.evaluation import Condition
from webhook.web.config_file import ConfigFileError, read_config_file

GOOD = """\
- account_id: acc_003
  alert_type: CARD_TESTING
  logic: any
  trigger_conditions:
    - {metric_name: block_rate, operator: ">", threshold: 0.3, time_window: 10min, priority: 2}
    - {metric_name: region, operator: in, threshold: [AP, EU], priority: 1}
  channels:
    slack: {enabled: true, channel: "#fraud"}
    console: {enabled: false}
  frequency_control: {max_alerts_per_hour: 3}
- {account_id: acc_004, alert_type: VELOCITY_ATTACK, enabled: false}
"""


def test_a_file_becomes_configurations(tmp_path: Path) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text(GOOD)
    first, second = read_config_file(path)
    assert first.conditions == (
        Condition("region", "in", ["AP", "EU"], 1),
        Condition("block_rate", ">", 0.3, 2, "10min"),
    )
    assert first.logic == "any"
    assert first.channel_preferences["slack"] == {"enabled": True, "channel": "#fraud"}
    assert first.notification_settings["frequency_control"]["max_alerts_per_hour"] == 3
    assert (second.enabled, second.conditions) == (False, ())


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (('operator: ">"', 'operator: "=>"'), 5, "operator '=>' is none of"),
        (("threshold: 0.3", "threshold: much"), 5, "wants a number"),
        (("threshold: 0.3", "threshold: .nan"), 5, "finite"),
        (("threshold: [AP, EU]", "threshold: AP"), 6, "a list as threshold"),
        (("operator: in, threshold: [AP, EU]", 'operator: regex, threshold: "(?=a)"'), 6, "invalid perl operator"),
        (("logic: any", "logic: some"), 3, "logic"),
        (("max_alerts_per_hour: 3", "max_alerts_per_hour: -1"), 10, "greater than or equal to 0"),
        (("max_alerts_per_hour", "max_per_hour"), 10, "max_per_hour"),
        (("acc_004, alert_type: VELOCITY_ATTACK", "acc_003, alert_type: CARD_TESTING"), 11, "already configured"),
        (
            ("console: {enabled", "pigeon: {enabled"),
            9,
            "unknown channel 'pigeon'; there are console, slack",
        ),
        (("account_id: acc_003", "account_id: ''"), 1, "account_id"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, change: tuple[str, str], line: int, told: str) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(ConfigFileError) as caught:
        read_config_file(path)
    assert any(problem.startswith(f"{path}:{line}: ") and told in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "a: 1",
        "- 5",
        "\x00",
        "- &a [*a]",
        "- &a {<<: *a}",
        "[" * 3000,
        "{a: " * 3000,
        "- " * 3000,
        "- ? [a]\n  : b",
    ],
)
def test_what_is_no_list_of_configurations_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        read_config_file(path)
    assert caught.value.problems[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("2025-13-45", "snooze_until: "),
        ("2025-02-30T10:00:00Z", "snooze_until: "),
        ("20250101", "write a time as"),
        ("!!timestamp x", "not a value of the kind timestamp"),
        ("!!int ''", "not a value of the kind int"),
        ("!!bool perhaps", "not a value of the kind bool"),
        ("1" * 5000, "not a value of the kind int"),
        ("[hunter2", "expected"),
        ("\thunter2", "cannot start any token"),
    ],
)
def test_values_that_cannot_be_read_are_told_with_their_line_and_not_quoted(
    tmp_path: Path, value: str, told: str
) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text(f"- account_id: acc_1\n  alert_type: CARD_TESTING\n  snooze_until: {value}\n")
    with pytest.raises(ConfigFileError) as caught:
        read_config_file(path)
    (problem,) = caught.value.problems
    assert told in problem
    assert problem.startswith((f"{path}:3: ", f"{path}:4: "))
    assert "hunter2" not in problem


def test_times_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "merchants.yaml"
    for written in ("2026-01-05T18:00:00Z", "2026-01-05 18:00:00", "'2026-01-05T19:00:00+01:00'"):
        path.write_text(f"- {{account_id: 2026-01-05, alert_type: A, snooze_until: {written}}}")
        (read,) = read_config_file(path)
        assert (read.account_id, read.notification_settings) == (
            "2026-01-05",
            {"snooze_until": "2026-01-05T18:00:00Z"},
        )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="No such file"):
        read_config_file(tmp_path / "absent.yaml")

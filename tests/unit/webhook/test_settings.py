from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from webhook.config import ConfigError, load_settings
from webhook.domain.severity import EscalationStep, Severity


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SENTINEL_")]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "sqlite:///sentinel.db"
    assert (settings.channels, settings.public_url) == (["console"], "http://127.0.0.1:8080")
    assert settings.llm_timeout == timedelta(seconds=5)
    assert settings.alert_types["CARD_TESTING"].session_timeout == timedelta(minutes=15)
    assert settings.alert_types["VELOCITY_ATTACK"].session_timeout == timedelta(minutes=30)
    assert settings.alert_types["OPERATIONS"].fingerprint_fields == (
        "alertname", "source", "instance", "rulename", "channel", "metric",
    )  # fmt: skip


def test_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("SENTINEL_INGEST_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SENTINEL_DATABASE_URL", "postgresql://user:pw@db/sentinel")
    monkeypatch.setenv("SENTINEL_CHANNELS", "console, slack")
    settings = load_settings(require=["ingest_token"])
    assert settings.ingest_token is not None
    assert settings.ingest_token.get_secret_value() == "from-file"
    assert settings.database_url.get_secret_value() == "postgresql+psycopg://user:pw@db/sentinel"
    assert list(settings.ingest.channels) == ["console", "slack"]
    assert "from-file" not in repr(settings)
    assert "pw" not in repr(settings).replace("pwd", "")


@pytest.mark.parametrize("text", ['["console", "slack"]', "console,slack"])
def test_channels_as_json_or_words(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SENTINEL_CHANNELS", text)
    assert load_settings().channels == ["console", "slack"]


def test_alert_types_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "webhook.yaml"
    path.write_text(
        """
alert_types:
  default: {session_timeout: 1m30s, occurrence_interval: 0.5s}
  CARD_TESTING:
    window: 12h
    fingerprint_fields: [region]
    escalation: [{severity: P1, occurrence_count: 3}, {severity: P0, duration: 2h}]
"""
    )
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    types = load_settings().alert_types
    assert types["ANY"].session_timeout == timedelta(seconds=90)
    assert types["VELOCITY_ATTACK"].session_timeout == timedelta(minutes=3)
    card = types["CARD_TESTING"]
    assert (card.session_timeout, card.window, card.fingerprint_fields) == (
        timedelta(seconds=90),
        timedelta(hours=12),
        ("region",),
    )
    assert card.escalation == (
        EscalationStep(Severity.P1, occurrence_count=3),
        EscalationStep(Severity.P0, duration=timedelta(hours=2)),
    )


def test_all_that_is_wrong_is_told_at_once_and_no_value_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "webhook.yaml"
    path.write_text("alert_types: {default: {session_timeout: 15, sesion: 1m}, A: {escalation: [{severity: P1}]}}")
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    monkeypatch.setenv("SENTINEL_DATABASE_URL", "oracle://user:hunter2@db/x")
    monkeypatch.setenv("SENTINEL_PUBLIC_URL", "hunter2")
    monkeypatch.setenv("SENTINEL_CHANNELS", "[hunter2")
    monkeypatch.setenv("SENTINEL_LLM_API_KEY_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("SENTINEL_ADMIN_TOKEN", "hunter2")
    monkeypatch.setenv("SENTINEL_ADMIN_TOKEN_FILE", str(path))
    with pytest.raises(ConfigError) as caught:
        load_settings(require=["ingest_token"])
    told = "\n".join(caught.value.problems)
    for part in (
        "SENTINEL_DATABASE_URL: must be a sqlite or postgresql URL",
        "SENTINEL_PUBLIC_URL: ",
        "SENTINEL_CHANNELS: ",
        "SENTINEL_LLM_API_KEY_FILE: ",
        "SENTINEL_ADMIN_TOKEN: is given directly and by",
        "alert_types.default.session_timeout: must be a duration",
        "alert_types.default.sesion: ",
        "alert_types.A.escalation.0: an escalation step wants",
    ):
        assert part in told
    assert "hunter2" not in told
    assert all("\n" not in problem for problem in caught.value.problems)


def test_a_model_gets_no_longer_than_the_lease_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_LLM_TIMEOUT", "30s")
    assert load_settings().llm_timeout == timedelta(seconds=30)
    monkeypatch.setenv("SENTINEL_LLM_TIMEOUT", "31s")
    with pytest.raises(ConfigError, match="SENTINEL_LLM_TIMEOUT: must be at most 30s"):
        load_settings()


def test_what_is_required_is_named() -> None:
    with pytest.raises(ConfigError, match="SENTINEL_INGEST_TOKEN: must be set"):
        load_settings(require=["ingest_token"])


def test_flapping_and_all_other_settings_of_a_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "webhook.yaml"
    path.write_text("alert_types: {default: {flapping_window: 2h}, VELOCITY_ATTACK: {flapping_restarts: 5}}")
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    types = load_settings().alert_types
    velocity, other = types["VELOCITY_ATTACK"], types["OTHER"]
    assert (velocity.flapping_restarts, velocity.flapping_window) == (5, timedelta(hours=2))
    assert (other.flapping_restarts, other.flapping_window) == (3, timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{window: 10m}", "alert_types.T: window is shorter than session_timeout"),
        ("{occurrence_interval: 20m}", "alert_types.T: occurrence_interval is longer than session_timeout"),
        ("{fingerprint_fields: [region, region]}", "alert_types.T: fingerprint_fields names a label twice"),
        ("{fingerprint_fields: ['']}", "alert_types.T.fingerprint_fields.0: "),
        ("{flapping_window: 10m}", "alert_types.T: flapping_window is shorter than session_timeout"),
        ("{flapping_restarts: 0}", "alert_types.T.flapping_restarts: Input should be greater than or equal to 1"),
    ],
)
def test_settings_of_a_type_that_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "webhook.yaml"
    path.write_text(f"alert_types: {{T: {text}}}")
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {problem}")):
        load_settings()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "default: {session_timeout: 45m}",
            ["alert_types.VELOCITY_ATTACK, from the default: flapping_window is shorter than session_timeout (1 h, "],
        ),
        ("default: {occurrence_interval: 1h}", ["alert_types.default: occurrence_interval is longer"]),
        ("default: {session_timeout: 45m}, VELOCITY_ATTACK: {session_timeout: 45m}", []),
    ],
)
def test_types_that_the_file_does_not_name_are_checked_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problems: list[str]
) -> None:
    path = tmp_path / "webhook.yaml"
    path.write_text(f"alert_types: {{{text}}}")
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    found: list[str] = []
    try:
        load_settings()
    except ConfigError as error:
        found = error.problems
    assert len(found) == len(problems)
    assert all(told.startswith(f"{path}: {wanted}") for told, wanted in zip(found, problems, strict=True))


def test_the_redis_url_is_checked_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_REDIS_URL", "redis://:pw@cache:6379/0")
    assert "pw@" not in repr(load_settings())
    monkeypatch.setenv("SENTINEL_REDIS_URL", "http://cache")
    with pytest.raises(ConfigError, match="SENTINEL_REDIS_URL: must be a redis://"):
        load_settings()


def test_options_of_channels_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("xoxb-from-a-file\n")
    path = tmp_path / "sentinel.yaml"
    path.write_text(
        f"channels: {{slack: {{token_file: {tmp_path / 'token'}, channel: C1}}, pager: {{routing_key_env: PAGER_KEY}}}}"
    )
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))
    monkeypatch.setenv("PAGER_KEY", "R0UT1NG")
    settings = load_settings()
    assert settings.channel_options["slack"]["token"].get_secret_value() == "xoxb-from-a-file"
    assert settings.channel_options["slack"]["channel"] == "C1"
    assert settings.channel_options["pager"]["routing_key"].get_secret_value() == "R0UT1NG"
    assert {"xoxb-from-a-file", "R0UT1NG"} <= set(settings.secrets()), "no log may show them"
    assert "R0UT1NG" not in repr(settings)

    monkeypatch.delenv("PAGER_KEY")
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert refused.value.problems == [
        f"channels.slack.token_file: {tmp_path / 'token'}: No such file or directory",
        "channels.pager.routing_key_env: the variable PAGER_KEY is not set",
    ]


def summaries_file(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sentinel.yaml"
    path.write_text(text)
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(path))


def test_a_chain_of_models_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sk-second\n")
    monkeypatch.setenv("FIRST_KEY", "sk-first")
    text = f"""
summaries:
  budget: 4s
  tokens_per_day: 1000000
  models:
    - name: fast
      model: m-1
      base_url: https://one.example/v1/
      api_key_env: FIRST_KEY
      timeout: 1.5s
      price_in: 0.25
    - {{name: good, model: m-2, api_key_file: {tmp_path}/key, max_tokens: 800}}
"""
    summaries_file(tmp_path, text, monkeypatch)
    settings = load_settings()
    chain = settings.summary_chain
    assert [(model.name, model.base_url) for model in chain.models] == [
        ("fast", "https://one.example/v1"),
        ("good", None),
    ]
    assert (chain.budget, chain.tokens_per_day) == (timedelta(seconds=4), 1_000_000)
    assert {"sk-first", "sk-second"} <= set(settings.secrets())
    assert "sk-first" not in repr(settings)


def test_one_model_by_variables_is_a_chain_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_LLM_MODEL", "m-1")
    monkeypatch.setenv("SENTINEL_LLM_TIMEOUT", "3s")
    chain = load_settings().summary_chain
    assert ([model.model for model in chain.models], chain.budget) == (["m-1"], timedelta(seconds=3))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{budget: 40s}", "summaries.budget: must be at most 30s"),
        ("{models: [{name: a}]}", "summaries.models.0.model: Field required"),
        ("{models: [{name: a, model: m, base_url: nowhere}]}", "summaries.models.0.base_url"),
        ("{models: [{name: a, model: m}, {name: a, model: n}]}", "two models are called a"),
        (
            "{models: [{name: a, model: m, api_key_env: NO_SUCH}]}",
            "summaries.models.0.api_key_env: the variable NO_SUCH",
        ),
        ("{models: [x]}", "summaries.models.0"),
        ("{model: x}", "summaries.model: Extra inputs"),
    ],
)
def test_what_is_wrong_with_a_chain_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    summaries_file(tmp_path, f"summaries: {text}", monkeypatch)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert told in str(refused.value)


def test_two_chains_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summaries_file(tmp_path, "summaries: {models: [{name: a, model: m}]}", monkeypatch)
    monkeypatch.setenv("SENTINEL_LLM_MODEL", "m-1")
    with pytest.raises(ConfigError, match="leave one out"):
        load_settings()

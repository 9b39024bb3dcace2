from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.environment import Secrets, VariableMissing, expand, references
from exporter.errors import SecretMissing
from exporter.model import parse_duration

ENVIRONMENT = {"HOST": "db.example", "EMPTY": "", "TOKEN": "s3cret/+ value", "LONG": "s3cret/+ value and more"}


@pytest.mark.parametrize(
    ("template", "want"),
    [
        ("no reference, $1 and $$", "no reference, $1 and $$"),
        ("https://${HOST}/x", "https://db.example/x"),
        ("${PORT:-3306}${EMPTY:-x}${EMPTY}${NONE:-}", "3306x"),
        ("$${HOST} costs ${HOST}", "${HOST} costs db.example"),
    ],
)
def test_references(template: str, want: str) -> None:
    assert expand(template, ENVIRONMENT) == want


def test_a_variable_without_value_says_what_to_do() -> None:
    with pytest.raises(VariableMissing, match=r"NONE is not set; set it, or write \$\{NONE:-default\}"):
        expand("${NONE}", ENVIRONMENT)
    assert list(references("${A} ${B:-x} ${C} $${D}")) == ["A", "C"]


def test_secrets_come_from_env_file_or_template(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    secrets = Secrets(ENVIRONMENT)
    assert secrets.secret(env="TOKEN") == "s3cret/+ value"
    assert secrets.secret(file=str(file)) == "from-file"
    assert secrets.secret(template="x${HOST}") == "xdb.example"
    assert secrets.secret() is None
    file.write_text("rotated")
    assert secrets.secret(file=str(file)) == "rotated"
    with pytest.raises(SecretMissing, match="NONE"):
        secrets.secret(env="NONE")
    with pytest.raises(SecretMissing, match=r"absent cannot be read: No such file"):
        secrets.secret(file=str(tmp_path / "absent"))


def test_what_was_read_is_hidden_also_as_it_is_written_in_a_url() -> None:
    secrets = Secrets(ENVIRONMENT)
    secrets.secret(env="TOKEN")
    secrets.secret(env="LONG")
    shown = "s3cret/+ value; s3cret%2F%2B%20value; s3cret%2F%2B+value; s3cret/+ value and more; db.example"
    assert secrets.redact(shown) == "***; ***; ***; ***; db.example"


@given(st.text(min_size=3), st.text(), st.text())
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    secrets = Secrets({})
    secrets.hide(secret)
    if not set(secret) <= set("*"):
        assert secret not in secrets.redact(before + secret + after) or secret in "***"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("1d", 86_400), ("500ms", 0.5), (" 2m ", 120)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, "30 has no unit: write 30s"),
        ("30", "30 has no unit: write 30s"),
        ("soon", "'soon' is no duration"),
        ("", "is no duration"),
        ("0s", "out of range"),
        ("-5s", "out of range"),
        ("9999d", "out of range"),
        (True, "is no duration"),
        (None, "is no duration"),
        (["1s"], "is no duration"),
    ],
)
def test_wrong_durations_say_what_to_write(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_duration(value)


@given(st.text())
def test_any_text_is_a_duration_or_a_clear_error(text: str) -> None:
    try:
        assert 0.1 <= parse_duration(text) <= 366 * 86_400
    except ValueError as error:
        assert "duration" in str(error) or "unit" in str(error) or "range" in str(error)  # noqa: PT017 - either is fine

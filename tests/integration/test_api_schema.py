"""The API against its own document: whatever schemathesis asks, the answer is one that the document promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import page_rows as rows
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from page_rows import TOKEN
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from webhook.storage.database import Database

BEARER = {"Authorization": f"Bearer {TOKEN}"}
BETWEEN_FIELDS = {"POST /api/v1/api-keys": [positive_data_acceptance]}
"""A role that needs accounts, a time that must not be past: JSON Schema has no words for that, the answer has."""

MODES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 8}
MODEST = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """One database: the other is another's test."""
    database = rows.open_store(f"sqlite:///{tmp_path}/sentinel.db")
    rows.seed(database)
    return database


@pytest.mark.timeout(300)
def test_every_answer_is_in_the_document(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.web.rates.ATTEMPTS", 10**6)  # wrong keys are tried all the time here
    app, _ = rows.make_app(database, charts=rows.FakeCharts())
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, headers=BEARER)
    failures: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode, examples in MODES.items():
            try:
                _drive(operation, mode, examples)
            except BaseExceptionGroup as group:
                failures += [f"{operation.label} ({mode.value}): {error}" for error in group.exceptions]
            except Exception as error:  # noqa: BLE001 - told below, all at once
                failures.append(f"{operation.label} ({mode.value}): {error!r}")
    assert not failures, "\n\n".join(failures)


def _drive(operation: Any, mode: GenerationMode, examples: int) -> None:
    @settings(max_examples=examples, **MODEST)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(headers=BEARER, excluded_checks=BETWEEN_FIELDS.get(operation.label, []))

    ask()

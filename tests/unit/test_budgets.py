"""How long a file and a function may be, so that each is read at a glance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE, FUNCTION = 400, 40
FOLDERS = ("bench", "demo", "docs", "drills", "exporter", "grafana", "k8s", "tests", "webhook")

TABLES = {
    "bench/stored_questions.py:lists": "a table of queries",
    "demo/metrics.py:definition": "one SQL statement",
    "grafana/attack.py:_types": "a table of panels",
    "webhook/pipeline/delivery_metrics.py:__init__": "a table of metrics",
}
"""Longer than a function may be: nothing is decided in them, and parts of them would only be harder to find."""

STORIES = {
    "tests/integration/test_rules_end_to_end.py:test_card_testing_from_exposition_to_webhook",
    "tests/integration/test_worker_process.py:test_from_a_stored_decision_to_slack_and_a_clean_stop",
    "tests/integration/test_exporter_databases.py:test_connection_as_in_the_owners_example_and_a_refused_password",
}
"""Tests that tell what happens from beginning to end, in order."""

MIGRATIONS = "webhook/storage/migrations/versions/"
"""May be as long as what they change: a migration is not taken apart once it was run, and is a table of columns."""

SOURCES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not {"__pycache__"} & set(path.parts)
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def long_functions(path: Path) -> dict[str, int]:
    """Lines of each that is too long, from `def` to its end."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION:
                found[f"{name_of(path)}:{node.name}"] = length
    return found


def within_budget(path: Path) -> bool:
    return not name_of(path).startswith(MIGRATIONS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_are_short(folder: str) -> None:
    own = [path for path in SOURCES if within_budget(path) and path.is_relative_to(ROOT / folder)]
    assert own
    files = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in own}
    assert {name: lines for name, lines in files.items() if lines > FILE} == {}
    functions = {name: lines for path in own for name, lines in long_functions(path).items()}
    assert {name: lines for name, lines in functions.items() if name not in TABLES.keys() | STORIES} == {}


def test_no_exception_outlives_what_it_excuses() -> None:
    long = {name for path in SOURCES for name in long_functions(path)}
    assert TABLES.keys() | STORIES <= long
    assert any(name.startswith(MIGRATIONS) for name in long)

"""The metric families that our programs serve, by name and type: as their code makes them, and as they are served."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from exporter_parts import running

ROOT = Path(__file__).resolve().parents[1]
_KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Summary": "summary"}
_SOURCES = """
  - name: good
    type: file
    path_pattern: {path}
    metrics: [{{source_field: v, prometheus_name: sentinel_v, labels: [x]}}]
  - name: bad
    type: file
    path_pattern: {path}.away.csv
    metrics: [{{source_field: v, prometheus_name: sentinel_v, labels: [x]}}]
"""


def in_text(exposition: str) -> dict[str, str]:
    lines = (line.split() for line in exposition.splitlines() if line.startswith("# TYPE "))
    return {name: kind for _, _, name, kind in lines if not name.endswith("_created")}


def of_webhook() -> dict[str, str]:
    """Of `serve` and of the worker, with and without models, renderer and Redis."""
    found = {}
    for kind, (name, *_) in _calls(ROOT / "webhook", *_KINDS):
        if name.startswith("sentinel_"):
            found[_family(name, _KINDS[kind])] = _KINDS[kind]
    return found


def of_exporter(folder: Path) -> dict[str, str]:
    (folder / "rows.csv").write_text("x,v\na,1\nb,no number\n")
    with running(_SOURCES.format(path=folder / "rows.csv")) as exporter:
        found = in_text(exporter.tried().text)
    for _, (name, *others) in _calls(ROOT / "exporter" / "collectors", "Measure"):
        kind = "counter" if "counter" in others else "gauge"
        found[_family(f"sentinel_source_{name}", kind)] = kind
    return {name: kind for name, kind in found.items() if name != "sentinel_v"}


def _family(name: str, kind: str) -> str:
    return f"{name.removesuffix('_total')}_total" if kind == "counter" else name


def _calls(folder: Path, *functions: str) -> Iterator[tuple[str, list[str]]]:
    """Function and plain texts among the arguments of each call."""
    for path in folder.rglob("*.py"):
        text = path.read_text()
        tree = ast.parse(text if any(f"{function}(" in text for function in functions) else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
                texts = [
                    each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                if texts:
                    yield node.func.id, texts

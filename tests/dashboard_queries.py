"""What the panels and variables of a dashboard ask Prometheus, with its own variables filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

FILLED = {
    "$__rate_interval": "2m",
    "$__range": "15m",
    "$window": "30d",
    "$account_id": "acc_001",
    "$alert_type": ".*",
    "$channel": ".*",
    "$job": ".*",
    "$source": ".*",
}


@dataclass(frozen=True)
class Query:
    """`name` is the panel's title and the query's legend or letter."""

    name: str
    expression: str

    @property
    def metrics(self) -> set[str]:
        return set(
            re.findall(
                r"\b(?:[a-z]+:)?(?:sentinel|alertmanager|prometheus|process|scrape)_\w+(?::\w+)?|\bup\b|\bALERTS\w*",
                self.expression,
            )
        )


def fill(expression: str) -> str:
    for variable, value in FILLED.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def panel_queries(model: dict[str, Any]) -> list[Query]:
    return [
        Query(f"{panel['title']}: {target.get('legendFormat') or target['refId']}", fill(target["expr"]))
        for panel in model["panels"]
        for target in panel.get("targets", ())
    ]


def variable_queries(model: dict[str, Any]) -> list[Query]:
    """Of each variable an expression that has a series for each of its values."""
    found = []
    for variable in model["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert match, variable["query"]
            found.append(Query(f"variable {variable['name']}", f"count by ({match[2]}) ({fill(match[1])}) > 0"))
    return found

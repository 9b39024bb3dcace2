"""`python -m grafana` writes grafana/dashboards/*.json anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grafana import attack, delivery, exporter, merchants, pipeline, slo

FOLDER = Path(__file__).parent / "dashboards"

DASHBOARDS: dict[str, Callable[[], str]] = {
    "attack": attack.dashboard,
    "delivery": delivery.dashboard,
    "exporter": exporter.dashboard,
    "merchants": merchants.dashboard,
    "pipeline": pipeline.dashboard,
    "slo": slo.dashboard,
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(dashboard(), "utf-8")


if __name__ == "__main__":
    main()

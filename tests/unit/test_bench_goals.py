"""What `make bench-exporter` concludes from its figures."""

from __future__ import annotations

import pytest

from bench.exporter import CPU, GZIP, MEMORY, PLAIN, STATIC, Figures, goals, judge, show


@pytest.fixture
def figures() -> Figures:
    """Three rounds in which every goal holds."""
    found = Figures(300_000)
    for round_ in (1.0, 1.1, 0.9):
        for kind, own, go, query, static in (
            (PLAIN, 20, 900, 9000, 16),
            (GZIP, 5, 1000, None, 3),
            (CPU, 0.5, 2, 18, None),
            (MEMORY, 200, 800, 500, 10),
        ):
            values = {"sentinel": own, "prometheus-sql-exporter": go, "query-exporter": query, STATIC: static}
            for name, value in values.items():
                if value is not None:
                    found.add(kind, name, value * round_)
    return found


def test_all_goals_hold(figures: Figures, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(goals([figures]))
    lines = capsys.readouterr().out.split("\n")
    assert "goal scrape 300k plain, prometheus-sql-exporter: 45.0 (45.0 … 45.0) x (wanted >= 20) ok" in lines
    assert "goal scrape 300k plain, our time by static files: 1.2 (1.2 … 1.2) x (wanted <= 1.5) ok" in lines
    assert sum(line.startswith("goal ") for line in lines) == 6


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        (PLAIN, 60.0, "scrape 300k plain, prometheus-sql-exporter"),
        (CPU, 1.0, "collection CPU 300k, query-exporter"),
        (MEMORY, 270.0, "peak memory 300k, prometheus-sql-exporter"),
    ],
)
def test_one_that_is_short_is_told_and_counts(
    figures: Figures, capsys: pytest.CaptureFixture[str], kind: str, value: float, name: str
) -> None:
    figures.values[kind]["sentinel"] = [value] * 3
    assert not judge(goals([figures]))
    short = [line for line in capsys.readouterr().out.split("\n") if line.endswith("short")]
    assert any(line.startswith(f"goal {name}: ") for line in short)


def test_ratios_are_of_the_same_round(figures: Figures, capsys: pytest.CaptureFixture[str]) -> None:
    figures.values[PLAIN]["sentinel"] = [10, 20, 40]
    figures.values[PLAIN]["query-exporter"] = [1000, 1000, 1000]
    assert figures.ratios(PLAIN, "query-exporter") == [100, 50, 25]
    show(figures)
    assert "50.0 (25.0 … 100.0) x ours" in capsys.readouterr().out

"""What our programs serve, beside what `sentinel-webhook rules check` believes that they serve."""

from __future__ import annotations

from pathlib import Path

from own_families import of_exporter, of_webhook

from webhook.rules.known import own_metrics


def test_all_that_our_programs_serve_is_known(tmp_path: Path) -> None:
    known = {metric.name.removesuffix("_bucket"): metric.type for metric in own_metrics()}
    served = of_webhook() | of_exporter(tmp_path)
    missing = sorted(f"  {name}: {kind}" for name, kind in served.items() if name not in known)
    assert not missing, "add to webhook/rules/known_metrics.yaml:\n" + "\n".join(missing)
    wrong = [name for name, kind in served.items() if kind != "histogram" and known[name] != kind]
    assert not wrong

"""`make k8s`: what kustomize cannot do by itself, written from the files that it is about.

Kustomize takes neither a glob nor a file outside of the folder that it builds. So `prometheus/`, `alertmanager/` and
`grafana/` have a kustomization.yaml of their own that lists what is there, and the rules are written once more in
the form that the Prometheus operator takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTE = "# Written by `make k8s`: change the files that it names, not this one.\n"
CONFIG_MAPS = {  # by folder, the ConfigMap and which files it holds
    "prometheus": {"prometheus-config": "prometheus.yml", "prometheus-rules": "rules/*.yml"},
    "alertmanager": {"alertmanager-config": "alertmanager.yml *.tmpl start.sh"},
    "grafana": {
        "grafana-datasources": "provisioning/datasources/*.y*ml",
        "grafana-providers": "provisioning/dashboards/*.y*ml",
        "grafana-dashboards": "dashboards/*.json",
    },
}
OPERATOR_RULES = Path("k8s/overlays/prometheus-operator/rules.yaml")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def written(root: Path = ROOT) -> dict[Path, str]:
    """All files that this program writes, by their place under the root."""
    files = {
        Path(folder, "kustomization.yaml"): _kustomization(root / folder, maps) for folder, maps in CONFIG_MAPS.items()
    }
    files[OPERATOR_RULES] = _operator_rules(root)
    return files


def _kustomization(folder: Path, maps: dict[str, str]) -> str:
    lines = [NOTE + "configMapGenerator:"]
    for name, pattern in maps.items():
        paths = (path for each in pattern.split() for path in folder.glob(each))
        found = sorted(path.relative_to(folder).as_posix() for path in paths)
        lines.append(f"  - name: {name}")
        lines += ["    files:", *(f"      - {path}" for path in found)] if found else ["    literals: []"]
    return "\n".join(lines) + "\n"


def _operator_rules(root: Path) -> str:
    """A PrometheusRule for each file of rules."""
    documents = [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {
                "name": f"sentinel-{path.stem.replace('_', '-')}",
                "labels": {"app.kubernetes.io/part-of": "sentinel"},
            },
            "spec": {"groups": yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]},
        }
        for path in sorted((root / "prometheus/rules").glob("*.yml"))
    ]
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return NOTE + text


def main() -> None:
    for path, text in written().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()

"""The steps of docs/deployment.md on a cluster, carried out by a shell: a kubectl that remembers what there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import PAGES, carried_out
from manifests import ROOT, Manifests, rendered, required_secrets

KUBECTL = r'''
"""Knows namespaces and secrets; refuses what a cluster would. Writes down what was there at each roll-out."""
import json, os, pathlib, re, sys

file = pathlib.Path(os.environ["CLUSTER"])
there = json.loads(file.read_text()) if file.exists() else {"secrets": {}, "applied": []}
words = sys.argv[1:]
namespace = words[words.index("--namespace") + 1] if "--namespace" in words else None
if "--filename" in words:
    text = pathlib.Path(words[words.index("--filename") + 1]).read_text()
    assert re.search(r"^kind: Namespace$", text, re.MULTILINE)
    there["secrets"].setdefault(re.search(r"^  name: (\S+)$", text, re.MULTILINE)[1], {})
elif "create" in words:
    kind, name, *files = words[words.index("secret") + 1 :]
    if namespace not in there["secrets"]:
        sys.exit(f'Error from server (NotFound): namespaces "{namespace}" not found')
    pairs = [each.partition("=")[2] for each in files]
    paths = [pair.rpartition("=")[2] for pair in pairs]
    missing = [path for path in paths if not pathlib.Path(path).is_file()]
    if missing:
        sys.exit(f"error: {missing}: no such file")
    keys = [pair.partition("=")[0] for pair in pairs] if kind == "generic" else ["tls.crt", "tls.key"]
    there["secrets"][namespace][name] = [pathlib.Path(key).name for key in keys]
elif "--kustomize" in words:
    assert "--server-side" in words
    folder = pathlib.Path(words[words.index("--kustomize") + 1])
    assert (folder / "kustomization.yaml").is_file()
    there["applied"].append([folder.name, json.loads(json.dumps(there["secrets"]))])
elif words[2:4] == ["rollout", "status"]:
    assert len(words) == 5, "one at a time"
    assert namespace in there["secrets"] and there["applied"]
else:
    sys.exit(f"unknown: {words}")
file.write_text(json.dumps(there))
'''


def blocks() -> list[str]:
    """Those of the first installation, in order."""
    (page,) = [page for page in PAGES if str(page) == "docs/deployment.md"]
    found = [text for _, text in page.scripts if "kubectl" in text]
    return found[: next(index for index, text in enumerate(found) if "check-rules" in text)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """With the secrets that were made before, and a certificate."""
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    secrets = tmp_path / "deploy/secrets"
    (tmp_path / "programs").mkdir()
    make = f"#!/bin/sh\n[ $1 = compose-secrets ] && exec sh {ROOT}/deploy/secrets.sh {secrets}\n"
    for name, text in (("kubectl", f"#!{sys.executable}\n{KUBECTL}"), ("make", make)):
        (tmp_path / "programs" / name).write_text(text, encoding="utf-8")
        (tmp_path / "programs" / name).chmod(0o755)
    subprocess.run(["sh", ROOT / "deploy/secrets.sh", secrets], check=True, capture_output=True, timeout=60)
    for name in ("tls.crt", "tls.key"):
        (secrets / name).touch()
    return tmp_path


def test_what_an_overlay_needs_is_there_before_it_is_applied(checkout: Path) -> None:
    environment = {"PATH": f"{checkout}/programs:/usr/bin:/bin", "CLUSTER": str(checkout / "cluster.json")}
    for text in blocks():
        done = carried_out(text, checkout, environment)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
    applied = dict(json.loads((checkout / "cluster.json").read_text())["applied"])
    assert applied.keys() == {"prod", "dev"}
    for overlay, secrets in applied.items():
        manifests = rendered(overlay)
        assert missing(manifests, secrets[namespace_of(manifests)]) == [], overlay


def namespace_of(manifests: Manifests) -> str:
    return str(manifests.of("Namespace")[0]["metadata"]["name"])


def missing(manifests: Manifests, there: dict[str, list[str]]) -> list[str]:
    wanted = required_secrets(manifests)
    wanted |= {(tls["secretName"], "tls.crt") for each in manifests.of("Ingress") for tls in each["spec"]["tls"]}
    return [f"{name}: {key}" for name, key in sorted(wanted) if key not in there.get(name, ())]


def test_one_resource_is_waited_for_at_a_time() -> None:
    """`kubectl rollout status` takes no second one."""
    commands = [text for page in PAGES for _, text in page.commands if "rollout status" in text]
    assert len(commands) >= 4
    assert [text for text in commands if not re.search(r"rollout status \S+$", text)] == []

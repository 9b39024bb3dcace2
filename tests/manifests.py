"""The Kubernetes manifests as kubectl renders them, and what is found in them."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import servers
import yaml

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = ("dev", "prod", "prod-by-backlog", "prometheus-operator")
NAME = "app.kubernetes.io/name"
Document = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """All documents of an overlay."""

    documents: tuple[Document, ...]

    def of(self, *kinds: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] in kinds]

    def one(self, kind: str, name: str) -> Document:
        found = [document for document in self.of(kind) if document["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} x {kind} {name}"
        return found[0]

    def generated(self, kind: str, name: str) -> Document:
        """By the name before kustomize's hash."""
        found = [each for each in self.of(kind) if each["metadata"]["name"].rpartition("-")[0] == name]
        assert len(found) == 1, f"{len(found)} x {kind} {name}"
        return found[0]

    @property
    def workloads(self) -> list[Document]:
        return self.of("Deployment", "StatefulSet", "Job")

    def workload(self, name: str) -> Document:
        return next(each for each in self.workloads if each["metadata"]["name"] == name)

    def containers(self) -> Iterator[tuple[Document, Document]]:
        """Each with the specification of its pod."""
        for workload in self.workloads:
            pod = workload["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                yield pod, container

    def container(self, name: str) -> Document:
        return next(container for _, container in self.containers() if container["name"] == name)

    def pods(self) -> dict[str, dict[str, str]]:
        """Labels of the pods, by the name of their workload."""
        return {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in self.workloads}


@functools.cache
def rendered(overlay: str) -> Manifests:
    command = [servers.program("kubectl"), "kustomize", str(ROOT / "k8s/overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return Manifests(tuple(each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each))


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector finds these labels; an empty one finds all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for wanted in selector.get("matchExpressions") or ():
        assert wanted["operator"] == "In", wanted
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True


def environment(container: Document) -> dict[str, str]:
    """Variables with a value of their own."""
    return {each["name"]: each["value"] for each in container.get("env") or () if "value" in each}


def secrets(pod: Document) -> Iterator[tuple[str, Document, bool]]:
    """Volumes that hold secrets: the volume, where the secret is named, and whether it may be missing."""
    for volume in pod["volumes"]:
        if "secret" in volume:
            source = {**volume["secret"], "name": volume["secret"]["secretName"]}
            yield volume["name"], source, source.get("optional", False)
        for each in volume.get("projected", {}).get("sources", ()):
            yield volume["name"], each["secret"], each["secret"].get("optional", False)


def required_secrets(manifests: Manifests) -> set[tuple[str, str]]:
    """Name and key of each without which a pod does not start."""
    named: set[tuple[str, str]] = set()
    for pod, container in manifests.containers():
        for _, source, may_be_missing in secrets(pod):
            if not may_be_missing:
                named |= {(source["name"], item["key"]) for item in source["items"]}
        values = [each["valueFrom"] for each in container.get("env", ()) if "valueFrom" in each]
        references = [value["secretKeyRef"] for value in values if "secretKeyRef" in value]
        named |= {(reference["name"], reference["key"]) for reference in references}
    return named


def secret_files(pod: Document, container: Document) -> set[str]:
    """Files that a container finds its secrets in, those that may be missing among them."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    return {
        f"{mounts[volume]}/{item['path']}"
        for volume, source, _ in secrets(pod)
        if volume in mounts
        for item in source.get("items", ())
    }

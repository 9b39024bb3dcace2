"""Who may speak to whom in k8s/: the arrows of the data flow, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from manifests import OVERLAYS, Document, Manifests, rendered, selects

from webhook.web.receiver import PATH

FLOW = {
    # metrics and alerts
    ("prometheus", "universal-exporter", 8000),
    ("prometheus", "webhook", 8080),
    ("prometheus", "worker", 9101),
    ("prometheus", "alertmanager", 9093),
    ("alertmanager", "alertmanager", 9094),
    ("alertmanager", "webhook", 8080),
    # charts, and what still fires
    ("webhook", "prometheus", 9090),
    ("worker", "prometheus", 9090),
    ("worker", "alertmanager", 9093),
    # dashboards and their pictures
    ("grafana", "prometheus", 9090),
    ("grafana", "alertmanager", 9093),
    ("worker", "grafana", 3000),
    ("grafana", "renderer", 8081),
    ("renderer", "grafana", 3000),
}
STORE = {
    ("webhook", "postgres", 5432),
    ("worker", "postgres", 5432),
    ("migrate", "postgres", 5432),
    ("webhook", "redis", 6379),
}
OUTWARD = {
    "alertmanager": {443},
    "universal-exporter": {443, 3306, 5432, 8089, 9092, 9093, 9094},
    "webhook": {443, 465, 587, 5432, 6379},
    "worker": {443, 465, 587, 5432},
    "migrate": {5432},
}


def policies(manifests: Manifests, direction: str, labels: dict[str, str]) -> list[Document]:
    found = [each for each in manifests.of("NetworkPolicy") if selects(each["spec"]["podSelector"], labels)]
    return [each for each in found if direction in each["spec"]["policyTypes"]]


def opens(rule: Document, peer: str, labels: dict[str, str], port: int) -> bool:
    """Whether a rule lets a pod of this namespace through. An address range is no pod: those are named."""
    if port not in {each["port"] for each in rule["ports"]}:
        return False
    if peer not in rule:
        return True
    return any(
        "ipBlock" not in each and not each.get("namespaceSelector") and selects(each.get("podSelector", {}), labels)
        for each in rule[peer]
    )


def arrows(manifests: Manifests) -> Iterator[tuple[str, str, int]]:
    """Sender, receiver and port of all that both sides allow."""
    pods = manifests.pods()
    ports = {
        workload["metadata"]["name"]: {
            port["containerPort"]
            for each in workload["spec"]["template"]["spec"]["containers"]
            for port in each.get("ports", ())
        }
        for workload in manifests.workloads
    }
    for (sender, sent), (receiver, received) in product(pods.items(), pods.items()):
        out = [rule for each in policies(manifests, "Egress", sent) for rule in each["spec"].get("egress", ())]
        into = [rule for each in policies(manifests, "Ingress", received) for rule in each["spec"].get("ingress", ())]
        for port in ports[receiver]:
            if any(opens(rule, "to", received, port) for rule in out) and any(
                opens(rule, "from", sent, port) for rule in into
            ):
                yield sender, receiver, port


@pytest.mark.parametrize(("overlay", "expected"), [("dev", FLOW | STORE), ("prod", FLOW)])
def test_the_arrows_of_the_data_flow_and_no_others_are_open(overlay: str, expected: set[tuple[str, str, int]]) -> None:
    assert set(arrows(rendered(overlay))) == expected


def test_with_the_operator_the_clusters_prometheus_takes_the_place_of_ours() -> None:
    manifests = rendered("prometheus-operator")
    assert set(arrows(manifests)) == {arrow for arrow in FLOW if "prometheus" not in arrow[:2]}
    into = manifests.one("NetworkPolicy", "from-prometheus")["spec"]
    ports = {port["port"] for rule in into["ingress"] for port in rule["ports"]}
    assert ports == {port for sender, _, port in FLOW if sender == "prometheus"}
    assert set(into["podSelector"]["matchExpressions"][0]["values"]) == {
        to for sender, to, _ in FLOW if sender == "prometheus"
    }
    out = manifests.one("NetworkPolicy", "to-prometheus")["spec"]
    assert set(out["podSelector"]["matchExpressions"][0]["values"]) == {
        sender for sender, to, _ in FLOW if to == "prometheus"
    }
    peers = [*into["ingress"][0]["from"], *out["egress"][0]["to"]]
    assert all("namespaceSelector" in peer and "podSelector" in peer for peer in peers)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_speaks_to_anybody_unless_it_is_opened(overlay: str) -> None:
    manifests = rendered(overlay)
    closed = manifests.one("NetworkPolicy", "default-deny")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in manifests.of("NetworkPolicy"):
        rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
        assert all(rule.get("ports") for rule in rules), f"{policy['metadata']['name']} opens every port"
        assert policy["metadata"]["name"] == "default-deny" or rules


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_those_who_must_reach_out_of_the_cluster(overlay: str) -> None:
    manifests = rendered(overlay)
    outward: dict[str, set[int]] = {}
    for name, labels in manifests.pods().items():
        for policy in policies(manifests, "Egress", labels):
            for rule in policy["spec"].get("egress", ()):
                ranges = [each["ipBlock"] for each in rule.get("to", ()) if "ipBlock" in each]
                if "to" not in rule or ranges:
                    outward.setdefault(name, set()).update(port["port"] for port in rule["ports"])
                # where a cloud keeps the credentials of its machines
                assert not [
                    each for each in ranges if each["cidr"] == "0.0.0.0/0" and "169.254.0.0/16" not in each["except"]
                ]
    assert outward == OUTWARD


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_sources_are_reached_in_any_namespace_and_anywhere_else(overlay: str) -> None:
    """Pods are named by their namespaces: Cilium, for one, does not find them by an address range."""
    (rule,) = rendered(overlay).one("NetworkPolicy", "universal-exporter")["spec"]["egress"]
    assert {"namespaceSelector": {}} in rule["to"]
    assert {each["ipBlock"]["cidr"] for each in rule["to"] if "ipBlock" in each} == {"0.0.0.0/0", "::/0"}


def leads_to(paths: list[Document], asked: str) -> str:
    """The Service of the longest path that the address begins with, part by part."""
    fitting = [each for each in paths if f"{asked}/".startswith(f"{each['path'].rstrip('/')}/")]
    assert all(each["pathType"] == "Prefix" for each in paths)
    return str(max(fitting, key=lambda each: len(each["path"]))["backend"]["service"]["name"])


def test_what_prometheus_and_alertmanager_ask_for_is_not_published() -> None:
    manifests = rendered("prod")
    (paths,) = [
        rule["http"]["paths"]
        for rule in manifests.one("Ingress", "sentinel")["spec"]["rules"]
        if not rule["host"].startswith("grafana.")
    ]
    for inside in ("/metrics", "/metrics/", PATH):
        assert leads_to(paths, inside) == "nowhere", inside
    for public in ("/", "/alerts", "/metricsandmore", "/api/v1/alerts", "/api/v1/alerts/metrics", "/live/stream"):
        assert leads_to(paths, public) == "webhook", public
    assert "selector" not in manifests.one("Service", "nowhere")["spec"]


def test_people_come_in_by_the_ingress_alone() -> None:
    manifests = rendered("prod")
    policy = manifests.one("NetworkPolicy", "ingress")["spec"]
    named = {
        path["backend"]["service"]["name"]
        for rule in manifests.one("Ingress", "sentinel")["spec"]["rules"]
        for path in rule["http"]["paths"]
    } - {"nowhere"}
    assert {name for name, labels in manifests.pods().items() if selects(policy["podSelector"], labels)} == named
    for name in named:
        assert manifests.one("Service", name)["spec"]["ports"][0]["name"] == "http"
    assert {port["port"] for port in policy["ingress"][0]["ports"]} == {8080, 3000}
    assert rendered("dev").of("Ingress") == []

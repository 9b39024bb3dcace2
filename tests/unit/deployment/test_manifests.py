"""k8s/: every overlay is rendered by the installed kubectl, Debian's old one among them, and fits what it deploys."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate.utils as kubernetes
import pytest
import yaml
from manifests import (
    NAME,
    OVERLAYS,
    ROOT,
    Document,
    environment,
    rendered,
    required_secrets,
    secret_files,
    secrets,
    selects,
)
from prometheus_client import CollectorRegistry

from k8s.generate import CONFIG_MAPS, written
from webhook.pipeline.delivery_metrics import DeliveryMetrics

NEWEST = kubernetes.latest_version()
CUSTOM = "monitoring.coreos.com/v1"
overlays = pytest.mark.parametrize("overlay", OVERLAYS)
OURS = {
    "exporter": "sentinel-exporter",
    "webhook": "sentinel-webhook",
    "worker": "sentinel-webhook",
    "migrate": "sentinel-webhook",
}
DOCUMENTED = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")


@functools.cache
def validator(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """With unknown keys refused, which Kubernetes would drop with a warning at most."""
    if api_version == CUSTOM:
        text = (Path(__file__).parent / "prometheus_operator.yaml").read_text(encoding="utf-8")
        return jsonschema.Draft202012Validator(yaml.safe_load(text)[kind])
    folder = f"kubernetes-json-schema/v{NEWEST}-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = kubernetes.schema_contents(f"{folder}/{kind.lower()}-{group}.json", NEWEST)
    registry = kubernetes.Resource.from_contents(schema) @ (definitions(folder) @ kubernetes.Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def definitions(folder: str) -> kubernetes.Resource:
    return kubernetes.Resource.from_contents(kubernetes.schema_contents(f"{folder}/_definitions.json", NEWEST))


def told(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


@overlays
def test_every_document_is_what_kubernetes_takes(overlay: str) -> None:
    problems = [
        f"{told(document)}: {'.'.join(map(str, error.path))}: {error.message[:200]}"
        for document in rendered(overlay).documents
        for error in validator(document["apiVersion"], document["kind"]).iter_errors(document)
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("ServiceMonitor", "interval: 15s", "intervall: 15s"),
        ("ServiceMonitor", "interval: 15s", "interval: 15"),
        ("ServiceMonitor", "targetLabel: job", "target_label: job"),
        ("ServiceMonitor", "action: replace", "action: set"),
        ("PrometheusRule", "severity: P3", "severity: 3"),
        ("PrometheusRule", "for: 10m", "for: ten"),
        ("PrometheusRule", "expr: ", "query: "),
    ],
)
def test_what_the_operator_would_refuse_is_found(kind: str, old: str, new: str) -> None:
    found = []
    for document in rendered("prometheus-operator").of(kind):
        text = yaml.safe_dump(document, width=10_000)
        assert not list(validator(CUSTOM, kind).iter_errors(document))
        if old in text:
            found += list(validator(CUSTOM, kind).iter_errors(yaml.safe_load(text.replace(old, new))))
    assert found


def test_groups_of_one_prometheus_rule_have_names_of_their_own() -> None:
    """The operator takes them as a map by name."""
    for document in rendered("prometheus-operator").of("PrometheusRule"):
        names = [group["name"] for group in document["spec"]["groups"]]
        assert len(names) == len(set(names)), told(document)


def test_the_validator_refuses_what_kubernetes_would() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIp": "None"}}
    assert "clusterIp" in str(next(validator("v1", "Service").iter_errors(service)).message)


@overlays
def test_there_is_one_of_each_and_all_in_one_namespace(overlay: str) -> None:
    manifests = rendered(overlay)
    names = [told(document) for document in manifests.documents]
    assert len(names) == len(set(names))
    namespace = manifests.of("Namespace")[0]["metadata"]["name"]
    spaces = {
        document["metadata"].get("namespace") for document in manifests.documents if document["kind"] != "Namespace"
    }
    assert spaces == {namespace}


def test_what_is_written_by_a_program_is_up_to_date() -> None:
    stale = [str(path) for path, text in written().items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make k8s`"


@overlays
def test_each_image_has_a_tag_and_ours_that_of_this_version(overlay: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for _, container in rendered(overlay).containers():
        name, _, tag = container["image"].rpartition(":")
        assert name, f"{container['image']} has no tag"
        assert tag != "latest"
        if container["name"] in OURS:
            assert name.rpartition("/")[2] == OURS[container["name"]]
            assert tag == version


def test_compose_and_kubernetes_run_the_same_images() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    manifests = rendered("dev")
    assert {each["image"] for each in services} == {each["image"] for _, each in manifests.containers()}


@overlays
def test_pods_may_do_no_more_than_they_need(overlay: str) -> None:
    for pod, container in rendered(overlay).containers():
        name = container["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        # Kubernetes would set UNIVERSAL_EXPORTER_PORT and the like, which are settings of somebody
        assert pod["enableServiceLinks"] is False, name
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}, name


@overlays
def test_accounts_exist_and_have_no_token(overlay: str) -> None:
    manifests = rendered(overlay)
    accounts = {each["metadata"]["name"]: each for each in manifests.of("ServiceAccount")}
    assert {pod["serviceAccountName"] for pod, _ in manifests.containers()} == set(accounts)
    assert not [name for name, each in accounts.items() if each["automountServiceAccountToken"] is not False]


@overlays
def test_what_runs_for_long_is_probed_for_life_and_for_readiness_apart(overlay: str) -> None:
    for workload in rendered(overlay).of("Deployment", "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert container["livenessProbe"] != container["readinessProbe"], told(workload)
            named = {port["name"]: port["containerPort"] for port in container["ports"]}
            for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
                probe = container.get(kind, {})
                action = probe.get("httpGet") or probe.get("tcpSocket")
                assert action is None or action["port"] in named, told(workload)


@overlays
def test_volumes_that_are_mounted_are_there(overlay: str) -> None:
    for workload in rendered(overlay).workloads:
        pod = workload["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
        volumes = {*claims, *(volume["name"] for volume in pod["volumes"])}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == volumes, told(workload)


@overlays
def test_config_maps_that_are_named_are_there_and_fit_into_one(overlay: str) -> None:
    manifests = rendered(overlay)
    maps = {each["metadata"]["name"]: each.get("data") or {} for each in manifests.of("ConfigMap")}
    named: set[str] = set()
    for pod, container in manifests.containers():
        named |= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        named |= {source["configMapRef"]["name"] for source in container.get("envFrom", ())}
    assert named == set(maps)
    assert not [name for name, data in maps.items() if len(json.dumps(data)) > 1024 * 1024]


@overlays
def test_secrets_are_named_alone_and_all_told_to_the_operator(overlay: str) -> None:
    manifests = rendered(overlay)
    assert manifests.of("Secret") == []
    for pod, _ in manifests.containers():
        assert [each["name"] for _, each, _ in secrets(pod) if f"`{each['name']}`" not in DOCUMENTED] == []
    rows = dict(re.findall(r"^\| `(sentinel-[a-z]+)` \| (.+?) \|", DOCUMENTED, re.MULTILINE))
    missing = [
        f"{name}: {key}" for name, key in sorted(required_secrets(manifests)) if f"`{key}`" not in rows.get(name, "")
    ]
    assert missing == []


@overlays
def test_files_that_variables_name_are_mounted(overlay: str) -> None:
    for pod, container in rendered(overlay).containers():
        wanted = {value for name, value in environment(container).items() if name.endswith("_FILE")}
        assert wanted <= secret_files(pod, container), container["name"]


@overlays
def test_services_disruption_budgets_and_scalers_find_their_pods(overlay: str) -> None:
    manifests = rendered(overlay)
    pods = manifests.pods()
    for service in manifests.of("Service"):
        if service["spec"].get("type") == "ExternalName" or service["metadata"]["name"] == "nowhere":
            continue
        found = [name for name, labels in pods.items() if selects({"matchLabels": service["spec"]["selector"]}, labels)]
        assert len(found) == 1, told(service)
        containers = manifests.workload(found[0])["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for container in containers for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, told(service)
    for workload in manifests.of("Deployment", "StatefulSet"):
        assert selects(workload["spec"]["selector"], workload["spec"]["template"]["metadata"]["labels"])
        if workload["kind"] == "StatefulSet":
            manifests.one("Service", workload["spec"]["serviceName"])
    for budget in manifests.of("PodDisruptionBudget"):
        assert [name for name, labels in pods.items() if selects(budget["spec"]["selector"], labels)], told(budget)
    scaled = manifests.of("HorizontalPodAutoscaler")
    for scaler in scaled:
        target = manifests.one("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "each change of the manifests would undo what was scaled"
    assert {each["metadata"]["name"] for each in scaled} == {"webhook"} | (
        {"worker"} if overlay == "prod-by-backlog" else set()
    )


def in_order(document: Document) -> str:
    return json.dumps(document, sort_keys=True)


def test_production_is_as_large_as_the_design_says() -> None:
    manifests = rendered("prod")
    limits = {each["name"]: each["resources"]["limits"] for _, each in manifests.containers()}
    assert limits["webhook"] == {"cpu": "4", "memory": "8Gi"}
    assert limits["worker"] == {"cpu": "2", "memory": "4Gi"}
    scaler = manifests.one("HorizontalPodAutoscaler", "webhook")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 5)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    replicas = {each["metadata"]["name"]: each["spec"].get("replicas") for each in manifests.workloads}
    assert replicas["alertmanager"] == 3
    assert replicas["universal-exporter"] == 3
    assert replicas["worker"] == 3


def test_workers_are_scaled_by_what_waits_for_them() -> None:
    """By CPU they never would be: they wait for others."""
    scaler = rendered("prod-by-backlog").one("HorizontalPodAutoscaler", "worker")["spec"]
    (metric,) = [each["external"]["metric"]["name"] for each in scaler["metrics"]]
    registry = CollectorRegistry()
    DeliveryMetrics(registry)
    assert metric in {sample.name for family in registry.collect() for sample in family.samples}
    pages = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    (adapter,) = [
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", pages, re.DOTALL)
        if "externalRules" in block
    ]
    (rule,) = adapter["externalRules"]
    assert rule["name"]["as"] == metric
    assert metric in rule["seriesQuery"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)


@overlays
def test_every_part_of_the_repository_that_is_deployed_is_in_it_whole(overlay: str) -> None:
    manifests = rendered(overlay)
    for folder, maps in CONFIG_MAPS.items():
        if folder == "prometheus" and overlay == "prometheus-operator":
            continue
        for name, pattern in maps.items():
            paths = (path for each in pattern.split() for path in (ROOT / folder).glob(each))
            files = {path.name: path.read_text(encoding="utf-8") for path in paths}
            assert (manifests.generated("ConfigMap", name).get("data") or {}) == files, name


@overlays
def test_a_change_of_configuration_rolls_the_pods(overlay: str) -> None:
    for document in rendered(overlay).of("ConfigMap"):
        assert re.search(r"-[a-z0-9]{10}$", document["metadata"]["name"]), document["metadata"]["name"]


def test_the_operators_rules_are_ours_and_its_targets_have_the_jobs_that_rules_name() -> None:
    manifests = rendered("prometheus-operator")
    groups = [group for rule in manifests.of("PrometheusRule") for group in rule["spec"]["groups"]]
    files = sorted((ROOT / "prometheus/rules").glob("*.yml"))
    expected = [group for path in files for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    assert sorted(map(in_order, groups)) == sorted(map(in_order, expected))
    prometheus = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {
        job["job_name"]: job.get("scrape_interval", prometheus["global"]["scrape_interval"])
        for job in prometheus["scrape_configs"]
    }
    services = manifests.of("Service")
    found = {}
    for monitor in manifests.of("ServiceMonitor"):
        matching = [
            each for each in services if selects(monitor["spec"]["selector"], each["metadata"].get("labels", {}))
        ]
        assert len(matching) == 1, told(monitor)
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in matching[0]["spec"]["ports"]}
        (job,) = [each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job"]
        found[job] = endpoint["interval"]
    assert found == {job: interval for job, interval in jobs.items() if job != "prometheus"}
    assert manifests.pods().keys() == rendered("prod").pods().keys() - {"prometheus"}
    assert NAME in next(iter(manifests.pods().values()))

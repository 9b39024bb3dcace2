"""What compose.yaml and k8s/ say about our programs, Prometheus and Alertmanager is what these are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from manifests import OVERLAYS, ROOT, Document, environment, rendered, secret_files

from exporter import routes as exporter_routes
from exporter.__main__ import main as exporter
from exporter.config import load
from exporter.shard import Shard
from webhook import server, worker
from webhook.__main__ import main as webhook
from webhook.config import SECRETS, Settings
from webhook.worker_options import WorkerOptions

COMPOSE: Document = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
COMMANDS = {"sentinel-exporter": exporter, "sentinel-webhook": webhook}
PROMETHEUS: Document = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
ALERTMANAGER: Document = yaml.safe_load((ROOT / "alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def known_variables() -> set[str]:
    names = set(Settings.model_fields) - {
        "alert_types",
        "channel_options",
        "operations_channels",
        "canary",
        "summaries",
        "grafana",
    }
    options = {f"SENTINEL_WORKER_{name.upper()}" for name in WorkerOptions.model_fields}
    shared = {f"SENTINEL_{name.upper()}" for name in names}
    files = {f"SENTINEL_{name.upper()}_FILE" for name in SECRETS}
    of_exporter = {str(parameter.envvar) for parameter in exporter.params if getattr(parameter, "envvar", None)}
    return shared | files | options | of_exporter


def ours(image: str) -> str | None:
    """The program of which an image of ours has its name."""
    name, _, version = image.rpartition("/")[2].partition(":")
    if name not in COMMANDS:
        assert "sentinel" not in image
        return None
    assert version == VERSION, image
    return name


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in COMPOSE["services"].items():
        if program := ours(service["image"]):
            assert service["command"][0] == program, name
            assert service["build"] == {"context": ".", "target": program.removeprefix("sentinel-")}, name
            yield f"compose {name}", service["command"]
    for overlay in OVERLAYS:
        for _, container in rendered(overlay).containers():
            if program := ours(container["image"]):
                assert container["args"][0] == program, container["name"]
                yield f"{overlay} {container['name']}", container["args"]


def variables() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, service in COMPOSE["services"].items():
        yield f"compose {name}", service.get("environment", {})
    for overlay in OVERLAYS:
        manifests = rendered(overlay)
        yield f"{overlay} settings", manifests.generated("ConfigMap", "webhook-settings")["data"]
        for _, container in manifests.containers():
            yield f"{overlay} {container['name']}", {each["name"]: "" for each in container.get("env", ())}


def test_every_setting_is_one_that_the_programs_know() -> None:
    known = known_variables()
    unknown = [
        f"{where}: {name}"
        for where, names in variables()
        for name in names
        if name.startswith("SENTINEL_") and name not in known
    ]
    assert unknown == []
    assert "SENTINEL_WORKER_METRICS_PORT" in known


def test_every_command_and_flag_is_one_that_the_programs_know() -> None:
    found = list(commands())
    assert len(found) == 4 * (1 + len(OVERLAYS))
    for where, (program, *words) in found:
        command: Any = COMMANDS[program]
        if program == "sentinel-webhook":
            command = webhook.commands[words.pop(0)]
        with command.make_context(program, list(words)) as context:  # raises for what it does not know
            assert not context.args, where


def test_settings_of_kubernetes_are_valid_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for overlay in OVERLAYS:
        with monkeypatch.context() as patch:
            data = rendered(overlay).generated("ConfigMap", "webhook-settings")["data"]
            for name, value in data.items():
                patch.setenv(name, value)
            settings = Settings()
            assert settings.public_url == data["SENTINEL_PUBLIC_URL"]


@overlays
def test_probes_ask_routes_that_there_are(overlay: str) -> None:
    manifests = rendered(overlay)
    for name, routes in (
        ("exporter", set(exporter_routes._ROUTES)),
        ("webhook", {"/-/healthy", "/-/ready"}),
        ("worker", {"/-/healthy", "/-/ready"}),
    ):
        container = manifests.container(name)
        assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
        assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
        assert {"/-/healthy", "/-/ready"} <= routes


@overlays
def test_ports_are_those_that_the_programs_listen_on(overlay: str) -> None:
    manifests = rendered(overlay)
    ports = {
        each["name"]: {port["containerPort"] for port in each.get("ports", ())} for _, each in manifests.containers()
    }
    assert ports["exporter"] == {exporter_config().server.port}
    arguments = manifests.container("webhook")["args"]
    assert ports["webhook"] == {int(arguments[arguments.index("--port") + 1])}
    assert ports["worker"] == {int(environment(manifests.container("worker"))["SENTINEL_WORKER_METRICS_PORT"])}


def exporter_config() -> Any:
    return load(ROOT / "deploy/exporter-config.yaml")


def test_what_the_exporter_starts_with_is_reachable_and_writes_where_it_may() -> None:
    config = exporter_config()
    assert config.server.host == "0.0.0.0"
    folder = config.server.warm_start
    assert any(mount["mountPath"] == folder for mount in rendered("prod").container("exporter")["volumeMounts"])
    assert any(volume.endswith(f":{folder}") for volume in COMPOSE["services"]["universal-exporter"]["volumes"])
    assert folder in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@overlays
def test_each_source_has_its_shard(overlay: str) -> None:
    manifests = rendered(overlay)
    replicas = manifests.one("StatefulSet", "universal-exporter")["spec"]["replicas"]
    listed = manifests.container("exporter")["env"]
    values = environment(manifests.container("exporter"))
    assert values["SHARDS"] == str(replicas), "as many shards as pods"
    # Kubernetes puts in what stands further up in the list
    names = [each["name"] for each in listed]
    assert names.index("SENTINEL_EXPORTER_SHARD") > max(names.index("SHARD"), names.index("SHARDS"))
    (index,) = [each["valueFrom"]["fieldRef"]["fieldPath"] for each in listed if each["name"] == "SHARD"]
    assert index == "metadata.labels['apps.kubernetes.io/pod-index']"
    told = values["SENTINEL_EXPORTER_SHARD"].replace("$(SHARDS)", values["SHARDS"])
    shards = [Shard.parse(told.replace("$(SHARD)", str(ordinal))) for ordinal in range(replicas)]
    assert {(shard.index, shard.count) for shard in shards} == {(ordinal, replicas) for ordinal in range(replicas)}


def scraped() -> Iterator[tuple[str, str, int]]:
    for job in PROMETHEUS["scrape_configs"]:
        for discovery in job.get("dns_sd_configs", ()):
            for name in discovery["names"]:
                yield job["job_name"], name, discovery["port"]
    for alertmanagers in PROMETHEUS["alerting"]["alertmanagers"]:
        for discovery in alertmanagers["dns_sd_configs"]:
            for name in discovery["names"]:
                yield "alerting", name, discovery["port"]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_what_prometheus_asks_for_is_every_pod_behind_a_service(overlay: str) -> None:
    manifests = rendered(overlay)
    for job, name, port in scraped():
        service = manifests.one("Service", name)
        assert service["spec"]["clusterIP"] == "None", (
            f"{job}: behind an address of the Service, each scrape would find another pod"
        )
        assert port in {each["port"] for each in service["spec"]["ports"]}, job
    for job in PROMETHEUS["scrape_configs"]:
        for static in job.get("static_configs", ()):
            assert static["targets"] == ["localhost:9090"], "an address that is not everywhere"


def test_what_prometheus_asks_for_is_a_service_of_compose() -> None:
    names = {}
    for service, body in COMPOSE["services"].items():
        networks = body.get("networks", {"default": None})
        aliases = (networks.get("default") or {}).get("aliases", ()) if isinstance(networks, dict) else ()
        if "default" in networks:
            names |= dict.fromkeys((service, *aliases), body)
    for job, name, port in scraped():
        assert name in names, job
        if ours(names[name]["image"]):
            assert f":{port}/" in names[name]["environment"]["HEALTH_URL"], job


def files_named(config: object) -> Iterator[str]:
    """All files that a configuration names by `…_file`."""
    if isinstance(config, dict):
        for key, value in config.items():
            if str(key).endswith("_file") and isinstance(value, str):
                yield value
            else:
                yield from files_named(value)
    elif isinstance(config, list):
        for each in config:
            yield from files_named(each)


@overlays
def test_alertmanager_delivers_to_the_webhook_with_its_token(overlay: str) -> None:
    manifests = rendered(overlay)
    receivers = [each for each in ALERTMANAGER["receivers"] if each["name"].startswith("sentinel-")]
    hooks = [hook for receiver in receivers for hook in receiver["webhook_configs"]]
    assert hooks
    for hook in hooks:
        url = urlsplit(hook["url"])
        service = manifests.one("Service", str(url.hostname))
        assert url.port in {port["port"] for port in service["spec"]["ports"]}
        assert url.hostname in COMPOSE["services"]
        assert url.path == "/api/v1/alerts/prometheus/webhook"
    wanted = {*files_named(ALERTMANAGER), "/etc/alertmanager/secrets/heartbeat_url"}  # which start.sh reads
    assert "/etc/alertmanager/secrets/ingest_token" in wanted
    (found,) = [secret_files(pod, each) for pod, each in manifests.containers() if each["name"] == "alertmanager"]
    assert wanted <= found
    assert wanted <= {each["target"] for each in COMPOSE["services"]["alertmanager"]["secrets"]}
    (config,) = [pod["volumes"] for pod, each in manifests.containers() if each["name"] == "alertmanager"]
    (name,) = [each["configMap"]["name"] for each in config if "configMap" in each]
    assert {"start.sh", "oncall.tmpl"} <= set(manifests.one("ConfigMap", name)["data"])


@overlays
def test_prometheus_and_alertmanager_read_what_is_mounted(overlay: str) -> None:
    manifests = rendered(overlay)
    containers = {each["name"]: each for _, each in manifests.containers()}
    for name, file in (("prometheus", "prometheus.yml"), ("alertmanager", "alertmanager.yml")):
        if name not in containers:
            continue
        (config,) = [word.partition("=")[2] for word in containers[name]["args"] if word.startswith("--config.file=")]
        assert Path(config).name == file
        assert str(Path(config).parent) in {mount["mountPath"] for mount in containers[name]["volumeMounts"]}
    assert PROMETHEUS["rule_files"] == ["rules/*.yml"]
    mounted = {mount["mountPath"] for mount in manifests.container("grafana")["volumeMounts"]}
    for folder in (path for path in (ROOT / "grafana/provisioning").glob("*") if path.is_dir()):
        assert f"/etc/grafana/provisioning/{folder.name}" in mounted
    assert "/var/lib/grafana/dashboards" in mounted


@overlays
def test_links_of_prometheus_and_alertmanager_lead_where_people_reach_them(overlay: str) -> None:
    manifests = rendered(overlay)
    names = {each["name"] for _, each in manifests.containers()} & {"prometheus", "alertmanager"}
    for name in names:
        container = manifests.container(name)
        (told,) = [word.partition("=")[2] for word in container["args"] if word.startswith("--web.external-url=")]
        assert told == "$(PUBLIC_URL)"
        url = urlsplit(environment(container)["PUBLIC_URL"])
        assert url.hostname == (f"{name}.sentinel.example.com" if overlay.startswith("prod") else "localhost"), (
            "one for each"
        )
        # or a path of that address would be wanted by whoever asks inside
        assert "--web.route-prefix=/" in container["args"]
    if "prometheus" in names:
        (runbooks,) = [each for each in manifests.container("prometheus")["env"] if "valueFrom" in each]
        reference = runbooks["valueFrom"]["configMapKeyRef"]
        assert (runbooks["name"], reference["key"]) == ("SENTINEL_PUBLIC_URL", "SENTINEL_PUBLIC_URL")
        assert reference["name"] == manifests.generated("ConfigMap", "webhook-settings")["metadata"]["name"]


def test_what_start_sh_writes_is_what_alertmanager_reads() -> None:
    written = "/run/alertmanager"
    assert f"WRITTEN:-{written}" in (ROOT / "alertmanager/start.sh").read_text(encoding="utf-8")
    service, container = COMPOSE["services"]["alertmanager"], rendered("prod").container("alertmanager")
    assert service["tmpfs"] == [written]
    assert service["entrypoint"] == container["command"] == ["/bin/sh", "/etc/alertmanager/config/start.sh"]
    for words in (service["command"], container["args"]):
        assert f"--config.file={written}/alertmanager.yml" in words
        # or reconciliation would take a heartbeat that fails for alerts that were not delivered
        assert "--enable-feature=receiver-name-in-metrics" in words


def test_links_of_compose_have_one_setting_each() -> None:
    for name, port in (("prometheus", 9090), ("alertmanager", 9093)):
        command = COMPOSE["services"][name]["command"]
        (told,) = [word.partition("=")[2] for word in command if word.startswith("--web.external-url=")]
        assert told == f"${{{name.upper()}_PUBLIC_URL:-http://127.0.0.1:{port}}}"
        assert "--web.route-prefix=/" in command
        assert told.strip("${}").partition(":-")[0] in (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    settings = {COMPOSE["services"][name]["environment"]["SENTINEL_PUBLIC_URL"] for name in ("prometheus", "webhook")}
    assert len(settings) == 1


@overlays
def test_everybody_gets_the_time_that_a_clean_stop_takes(overlay: str) -> None:
    manifests = rendered(overlay)
    pods = {container["name"]: pod for pod, container in manifests.containers()}
    (_, pause) = manifests.container("webhook")["lifecycle"]["preStop"]["exec"]["command"]
    needed = {"webhook": int(pause) + server.STOP_WITHIN_S, "worker": worker.STOP_WITHIN, "exporter": 2}
    for name, seconds in needed.items():
        assert pods[name]["terminationGracePeriodSeconds"] >= 1.5 * seconds, name
    compose = {"webhook": "webhook", "worker": "worker", "exporter": "universal-exporter"}
    for name, seconds in needed.items():
        given = COMPOSE["services"][compose[name]]["stop_grace_period"]
        assert int(re.fullmatch(r"(\d+)s", given)[1]) >= 1.5 * seconds, name  # type: ignore[index]


@overlays
def test_the_worker_asks_each_alertmanager_by_its_own_name(overlay: str) -> None:
    """By one name over several pods it would hear of another one at each look: of another count, of fewer alerts."""
    manifests = rendered(overlay)
    (asked,) = manifests.generated("ConfigMap", "webhook-settings")["data"]["SENTINEL_ALERTMANAGER_URL"].split(",")
    body = manifests.one("StatefulSet", "alertmanager")["spec"]
    service = manifests.one("Service", body["serviceName"])["metadata"]["name"]
    names = [f"alertmanager-{ordinal}.{service}" for ordinal in range(body["replicas"])]
    port = manifests.container("alertmanager")["ports"][0]["containerPort"]
    assert asked.split("|") == [f"http://{name}:{port}" for name in (names if len(names) > 1 else [service])]


@overlays
def test_peers_of_alertmanager_find_each_other(overlay: str) -> None:
    arguments = rendered(overlay).container("alertmanager")["args"]
    (peer,) = [word.partition("=")[2] for word in arguments if word.startswith("--cluster.peer=")]
    host, _, port = peer.partition(":")
    service = rendered(overlay).one("Service", host)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    gossip = {each.get("protocol", "TCP") for each in service["spec"]["ports"] if each["port"] == int(port)}
    assert gossip == {"TCP", "UDP"}

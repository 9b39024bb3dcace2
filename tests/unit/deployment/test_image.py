"""Dockerfile, its lock files and compose.yaml: checked without an engine."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import servers
import yaml
from cryptography.fernet import Fernet
from manifests import ROOT, Document
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: Document = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
IMAGES = {
    "exporter": ("exporter", "bigquery", "duckdb", "gcs", "kafka", "s3"),
    "webhook": ("webhook", "apprise", "grafana", "oidc", "push"),
}
NOT_IN = {
    "exporter": {"alembic", "flask", "matplotlib", "numpy", "openai", "sqlalchemy"},
    "webhook": {"boto3", "confluent-kafka", "duckdb", "google-cloud-bigquery", "polars", "pyarrow"},
}
OPTIONAL = ("google.cloud.bigquery_storage",)  # asked for by a setting that says what to install


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.demo"])
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", ROOT / name], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")


def stages() -> dict[str, tuple[str, str]]:
    """Base and text of each stage of the Dockerfile, by its name."""
    _, *parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return {name: (base, text) for base, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_run_by_a_user_with_a_fixed_number_and_by_nobody_else(image: str) -> None:
    base, text = stages()[image]
    assert base == "base"
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]
    assert "RUN" not in text.partition("USER")[2]
    assert "HEALTHCHECK" in text
    assert f'CMD ["sentinel-{image}", ' in text


def test_every_stage_begins_with_the_python_that_the_lock_files_are_made_for() -> None:
    (base,) = re.findall(r"^ARG PYTHON=python:(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base.startswith("3.11.")
    assert {name: base for name, (base, _) in stages().items() if name not in IMAGES} == {
        "build-exporter": "${PYTHON}",
        "build-webhook": "${PYTHON}",
        "base": "${PYTHON}",
    }
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == len(stages())
    assert f"ARG VERSION={PROJECT['version']}\n" in DOCKERFILE
    base = stages()["base"][1]
    assert 'image.base.name="docker.io/library/${PYTHON}"' in base, "also where another one was given"
    assert "\nARG PYTHON\n" in base.partition("LABEL")[0], "empty in a stage that does not declare it"


def test_what_the_image_is_made_of_reaches_the_build_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word for words in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in words.split()
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)
    links = [path for package in ("exporter", "webhook") for path in (ROOT / package).rglob("*") if path.is_symlink()]
    astray = [link for link in links if str(link.resolve().relative_to(ROOT)) not in allowed]
    assert astray == [], "they would lead nowhere in the image"


def locked(name: str) -> dict[str, set[str]]:
    """Versions by package; several where they depend on the machine."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_what_is_tested_and_all_that_a_source_or_channel_may_need(image: str) -> None:
    lock = f"requirements-{image}-image.lock"
    found, tested = locked(lock), locked("requirements-dev.lock")
    assert {name: versions for name, versions in found.items() if not versions <= tested.get(name, set())} == {}
    wanted = [*PROJECT["dependencies"], *(line for extra in IMAGES[image] for line in EXTRAS[extra])]
    missing = {name for line in wanted if (name := canonicalize_name(Requirement(line).name)) not in found}
    assert missing == set(), "run `make lock`"
    assert {"pytest", "mypy", "honcho", "uv", *NOT_IN[image]} & found.keys() == set()
    every = (ROOT / lock).read_text(encoding="utf-8")
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", every.strip()))


def test_an_extra_that_no_image_has_is_one_for_work_on_the_project() -> None:
    assert EXTRAS.keys() - {extra for extras in IMAGES.values() for extra in extras} == {
        *("demo", "dev", "exporter-image", "sources", "webhook-image")
    }


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports when it runs."""
    checked_only: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            checked_only.update(inner for statement in node.body for inner in ast.walk(statement))
        if node in checked_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distributions(name: str, candidates: set[str]) -> set[str]:
    """Which of several distributions that share a folder, as Google's do, has the module."""
    if len(candidates) == 1:
        return candidates
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        places = {"/".join(parts[:count]) + end for end in (".py", "/__init__.py")}
        if found := {each for each in candidates if places & files(each)}:
            return found
    return set()


@functools.cache
def files(distribution: str) -> frozenset[str]:
    return frozenset(str(file) for file in metadata.files(distribution) or ())


@pytest.mark.parametrize("image", IMAGES)
def test_a_package_imports_nothing_that_its_image_does_not_have(image: str) -> None:
    installed = metadata.packages_distributions()
    lock = locked(f"requirements-{image}-image.lock")
    names = {(name, path.relative_to(ROOT)) for path in sorted((ROOT / image).rglob("*.py")) for name in imports(path)}
    astray = []
    for name, path in sorted(names):
        top = name.partition(".")[0]
        if top in {image, "__future__"} | sys.stdlib_module_names or name.startswith(OPTIONAL):
            continue
        found = {canonicalize_name(each) for each in distributions(name, set(installed.get(top, ())))}
        if not found & lock.keys():
            astray.append(f"{path}: {name} of {found or 'nothing installed'}")
    assert astray == []
    assert len({name.partition(".")[0] for name, _ in names}) > 20


@pytest.mark.parametrize(("program", "library"), [("exporter", "cronsim"), ("webhook", "pydantic_settings")])
def test_without_its_extra_a_program_says_in_one_line_what_to_install(program: str, library: str) -> None:
    assert PROJECT["scripts"][f"sentinel-{program}"] == f"{program}.start:main"
    code = f"import sys; sys.modules['{library}'] = None; from {program}.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )
    told = f"sentinel-{program} needs {library}, which is not installed: pip install 'sentinel[{program}]'\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after `make compose-secrets`."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "compose.yaml", folder)
    for _ in range(2):
        command = ["sh", str(ROOT / "deploy/secrets.sh"), str(folder / "deploy/secrets")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=folder)
        assert "secrets written" in done.stdout
    assert done.stdout.startswith("0 secrets written"), "what is there stays"
    return folder


def test_secrets_are_random_whole_and_closed_to_others(project: Path) -> None:
    folder = project / "deploy/secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    text = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}
    assert {name for name, content in text.items() if len(content) < 30} == {
        "oncall_slack_url",
        "team_analysts_slack_url",
        "team_data_slack_url",
        "team_platform_slack_url",
        "heartbeat_url",
    }
    assert text["renderer.env"] == f"AUTH_TOKEN={text['grafana_renderer_token']}"
    Fernet(text["encryption_keys"])
    assert text["database_url"] == f"postgresql://sentinel:{text['postgres_password']}@postgres:5432/sentinel"
    assert text["redis_url"] == f"redis://:{text['redis_password']}@redis:6379/0"
    assert f"requirepass {text['redis_password']}\n" in text["redis.conf"]
    random = [content for content in text.values() if content]
    assert len(set(random)) == len(random)
    # each is mounted alone, into a container that runs as another user
    assert all(path.stat().st_mode & stat.S_IROTH for path in folder.iterdir())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_compose_understands_its_file_and_finds_each_secret(project: Path) -> None:
    command = [servers.program("docker-compose"), "--file", str(project / "compose.yaml"), "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(project)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert "is not set" not in done.stderr
    whole = yaml.safe_load(done.stdout)
    assert set(whole["services"]) == set(COMPOSE["services"])
    token = (project / "deploy/secrets/grafana_renderer_token").read_text(encoding="utf-8")
    assert whole["services"]["renderer"]["environment"]["AUTH_TOKEN"] == token
    files = {name: Path(each["file"]) for name, each in whole["secrets"].items()}
    assert not [name for name, file in files.items() if not file.is_file()]
    used = {
        each if isinstance(each, str) else each["source"]
        for service in COMPOSE["services"].values()
        for each in service.get("secrets", ())
    }
    assert used == set(files)


def test_files_that_compose_mounts_are_in_the_repository() -> None:
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./") and "/secrets/" not in source and source != "./grafana/provisioning":
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name}: {source}"
            elif not source.startswith("./"):
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_every_container_is_confined_limited_and_watched() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert re.search(r":[^:/]*\d[^:/]*$", service["image"]), f"{name}: an image without a version"
        watched = service.get("healthcheck") or "HEALTH_URL" in service.get("environment", {})
        assert watched, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        secret = [key for key in service.get("environment", {}) if re.search(r"TOKEN|PASSWORD|KEY|DATABASE_URL", key)]
        assert all(key.endswith("_FILE") for key in secret), name


def test_no_container_can_end_prometheus_or_make_it_reload() -> None:
    flags = [flag.partition("=")[0] for flag in COMPOSE["services"]["prometheus"]["command"]]
    assert not {"--web.enable-lifecycle", "--web.enable-admin-api"} & set(flags)


def test_grafana_shows_its_renderer_the_token_that_this_one_wants() -> None:
    grafana, renderer = COMPOSE["services"]["grafana"], COMPOSE["services"]["renderer"]
    assert grafana["environment"]["GF_RENDERING_RENDERER_TOKEN__FILE"] == "/run/secrets/grafana_renderer_token"
    assert "grafana_renderer_token" in grafana["secrets"]
    assert renderer["env_file"] == ["deploy/secrets/renderer.env"]


def test_what_needs_the_database_waits_until_it_has_been_migrated() -> None:
    services = COMPOSE["services"]
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    for name in ("webhook", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    store = {name for name, service in services.items() if "store" in service.get("networks", ())}
    assert store == {"postgres", "redis", "migrate", "webhook", "worker"}
    assert services["postgres"]["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}

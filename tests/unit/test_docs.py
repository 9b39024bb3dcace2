"""What the documentation says is so: links lead somewhere; commands, options, files, settings, routes, metrics exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from doc_pages import PAGES, ROOT, Page
from pydantic import BaseModel

from demo.__main__ import main as demo
from docs import generate
from exporter.__main__ import main as exporter
from exporter.config import parse
from exporter.routes import _ROUTES
from webhook.__main__ import main as webhook
from webhook.alert_type_settings import ConfigFile
from webhook.config import PREFIX, SECRETS, Settings
from webhook.notifiers.registry import CHANNELS
from webhook.notifiers.settings import Channels
from webhook.web.config_file import read_config_file
from webhook.worker import PREFIX as WORKER_PREFIX
from webhook.worker import WorkerOptions

PROGRAMS = {"sentinel-webhook": webhook, "sentinel-exporter": exporter, "python -m demo": demo}
FOLDERS = "alertmanager|bench|demo|deploy|docs|exporter|grafana|k8s|prometheus|tests|webhook"
MADE_LATER = ("deploy/secrets", "grafana/foundation")
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=str)


@cache
def page_of(path: Path) -> Page | None:
    return next((page for page in PAGES if page.path == path), None)


def told(page: Page, problems: list[tuple[int, str]]) -> None:
    assert not problems, "\n".join(f"{page}:{line}: {what}" for line, what in problems)


def dead(page: Page, target: str) -> str | None:
    """Why a link leads nowhere."""
    if re.match(r"[a-z]+:", target):
        return None
    name, _, anchor = target.partition("#")
    path = (page.path.parent / name).resolve() if name else page.path
    if not path.exists():
        return f"{target}: there is no such file"
    other = page_of(path)
    return f"{target}: there is no such heading" if anchor and (other is None or anchor not in other.anchors) else None


@BY_PAGE
def test_every_link_and_picture_leads_somewhere(page: Page) -> None:
    told(page, [(line, why) for line, target in page.links if (why := dead(page, target))])


def test_every_page_is_found_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        page = page_of(path)
        targets = [target for _, target in page.links if ":" not in target] if page else []
        reached = [(path.parent / target.partition("#")[0]).resolve() for target in targets]
        waiting += [found for each in reached for found in ([*each.glob("*.md")] if each.is_dir() else [each])]
    assert {str(page) for page in PAGES if page.path not in seen} == set()


@BY_PAGE
def test_every_make_target_exists(page: Page) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = (
        (line, name) for line, text in page.code for name in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", text.strip())
    )
    told(page, [(line, f"make {name}: there is no such target") for line, name in used if name not in targets])


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each program of ours in a line, with its words."""
    for name in PROGRAMS:
        for found in re.finditer(rf"(?<![\w/-]){name}(?![\w:-])([^|;&#`]*)|/{name}(?![\w:-])([^|;&#`]*)", text):
            rest = (found[1] or found[2] or "").replace("…", " … ")
            try:
                yield name, shlex.split(rest)
            except ValueError:  # a quote that a line of a block leaves open
                yield name, rest.split()


def unknown(command: click.Command, words: list[str]) -> str | None:
    """The first word that the program would not take."""
    for word in words:
        if word in (">", "<", "2>", ">>"):
            return None
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        if word.startswith("--") and word.partition("=")[0] not in known:
            return f"{command.name} has no option {word}"
        if isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            inner = command.commands.get(word)
            if inner is not None:
                command = inner
            elif not command.params:
                return f"{command.name} has no command {word}"
    return None


@BY_PAGE
def test_every_command_and_option_exists(page: Page) -> None:
    problems = [
        (line, f"{name} {' '.join(words)}: {why}")
        for line, text in page.code
        if " " in text
        for name, words in commands(text)
        if (why := unknown(PROGRAMS[name], words))
    ]
    told(page, problems)


@BY_PAGE
def test_every_file_named_exists(page: Page) -> None:
    problems = []
    for line, text in page.code:
        for name in re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./*-]*\w)(?![\w/*<…{{-])", text):
            if not name.startswith(MADE_LATER) and not any(ROOT.glob(name)) and not any(ROOT.glob(f"{name}.py")):
                problems.append((line, f"{name}: there is no such file"))
        for name in re.findall(r"^(?:domain|pipeline|storage|adapters|notifiers|web)/\w+$", text):
            if not any(ROOT.glob(f"webhook/{name}*")):
                problems.append((line, f"{name}: there is no such module"))
        for name in re.findall(r"(?:python|pytest) -m ([a-z_]+\.[a-z_.]+)", text):
            if not any(ROOT.glob(f"{name.replace('.', '/')}*")):
                problems.append((line, f"{name}: there is no such module"))
    told(page, problems)


@cache
def variables() -> set[str]:
    names = {PREFIX + name.upper() for name, info in Settings.model_fields.items() if not info.exclude}
    names |= {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}
    names |= {WORKER_PREFIX + name.upper() for name in WorkerOptions.model_fields}
    return names | {str(each.envvar) for each in exporter.params if isinstance(each, click.Option) and each.envvar}


@BY_PAGE
def test_every_variable_exists(page: Page) -> None:
    problems = []
    for number, text in enumerate(page.path.read_text(encoding="utf-8").splitlines(), 1):
        for name, rest in re.findall(r"\b(SENTINEL_[A-Z_]*[A-Z])(_?\*?)", text):
            known = any(each.startswith(name) for each in variables()) if rest else name in variables()
            if not known:
                problems.append((number, f"{name}: no process reads it"))
    told(page, problems)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, re.Pattern[str]]]:
    """Method and form of each; anything may stand for a parameter."""
    from webhook.app import create_app

    folder = tmp_path_factory.mktemp("routes")
    given = {"database_url": f"sqlite:///{folder / 's.db'}", "ingest_token": "i", "admin_token": "a", "secret_key": "s"}
    slack = {"slack": {"token": "xoxb", "channel": "C1", "signing_secret": "s" * 32}}
    app = create_app(Settings.model_validate({**given, "channel_options": slack}))
    found = []
    for rule in app.url_map.iter_rules():
        form = re.compile(re.sub(r"<[^>]+>", "[^/]+", rule.rule.replace(".", r"\.")))
        found += [(method, form) for method in rule.methods or ()]
    return found + [("POST" if path == "/-/reload" else "GET", re.compile(re.escape(path))) for path in _ROUTES]


OTHERS = ("/api/v1/metrics/aggregated", "/api/v1/push", "/api/v2/")
"""Routes of the demo's platform, Mimir and Alertmanager."""


@BY_PAGE
def test_every_route_exists(page: Page, routes: list[tuple[str, re.Pattern[str]]]) -> None:
    problems = []
    for line, text in page.code:
        for method, path in re.findall(
            r"(?:(GET|POST|PUT|DELETE|PATCH) |(?<![\w.:}])|\$(?:SENTINEL|URL))(/(?:api/v1|live)/[\w/{}<>$.-]+)", text
        ):
            path = re.sub(r"\$?\{?[A-Z_]{2,}\}?$|\$[A-Z]+", "x", path).rstrip(".")
            path = re.sub(r"[{<][^}>]*[}>]", "x", path)
            if path.startswith(OTHERS) and "subscriptions" not in path and not path.endswith("/key"):
                continue
            if not any(form.fullmatch(path) and method in ("", known) for known, form in routes):
                problems.append((line, f"{method} {path}: there is no such route"))
    told(page, problems)


@cache
def source() -> str:
    """Everything that names metrics."""
    kinds = (
        "exporter/**/*.py",
        "webhook/**/*.py",
        "demo/**/*.py",
        "demo/*.yaml",
        "prometheus/**/*.yml",
        "webhook/rules/*.yaml",
    )
    return "\n".join(path.read_text(encoding="utf-8") for kind in kinds for path in ROOT.glob(kind))


def is_metric(name: str, page: Page) -> bool:
    base = re.sub(r"_(bucket|sum|count|total)$", "", name)
    measure = base.removeprefix("sentinel_source_")
    own = re.findall(r"prometheus_name: (\w+)", page.path.read_text(encoding="utf-8"))
    words = rf'\b{base}\b|\b{name}\b|"{measure}"|"{measure}_total"|"{base.removeprefix("sentinel_")}"'
    return name in own or base in own or bool(re.search(words, source()))


@BY_PAGE
def test_every_metric_exists(page: Page) -> None:
    not_metrics = {"sentinel_message", "sentinel_fraud_baselines"}
    found = (
        (line, name)
        for line, text in page.code
        for name in re.findall(r"(?<![\w./:-])(sentinel_[a-z0-9_]*[a-z0-9])(?![\w*<…-])", text)
    )
    told(
        page,
        [
            (n, f"{name}: nothing exports it")
            for n, name in found
            if name not in not_metrics and not is_metric(name, page)
        ],
    )


@BY_PAGE
def test_every_example_of_a_configuration_is_valid(page: Page, tmp_path: Path) -> None:
    for line, block in page.blocks:
        data = yaml.safe_load(block)
        if isinstance(data, dict) and "data_sources" in data:
            parse(block, f"{page}:{line}")
        elif isinstance(data, dict) and data and data.keys() <= ConfigFile.model_fields.keys():
            ConfigFile.model_validate(data).types()
        elif isinstance(data, list) and isinstance(data[0], dict) and "account_id" in data[0]:
            file = tmp_path / "merchants.yaml"
            file.write_text(block)
            assert read_config_file(file, allow_http=False)


@pytest.mark.parametrize("name", generate.pages())
def test_the_reference_is_what_the_models_say(name: str) -> None:
    assert (generate.FOLDER / name).read_text(encoding="utf-8") == generate.pages()[name], "run make docs"


def test_the_reference_has_every_channel_and_every_option_says_what_it_means() -> None:
    assert generate.OPTIONS.keys() == CHANNELS.keys()
    for name, text in generate.pages().items():
        silent = re.findall(r"^\| (`[^|]+`) \|.*\|  \|$", text, re.MULTILINE)
        assert silent == [], f"{name}: give them a description in their model"
    settings: list[type[BaseModel]] = [info.annotation.__args__[0] for info in Channels.model_fields.values()]  # type: ignore[union-attr]
    assert all(info.description for model in settings for info in model.model_fields.values())

"""What the documentation names is there: links, commands, options, files, settings, routes, metrics."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from doc_pages import PAGES, ROOT, Page

from demo.__main__ import cli as demo
from docs import generate
from exporter.__main__ import main as exporter
from exporter.config import parse
from exporter.routes import _ROUTES
from webhook.__main__ import main as webhook
from webhook.alert_type_settings import ConfigFile
from webhook.config import PREFIX, SECRETS, Settings
from webhook.notifiers.registry import CHANNELS
from webhook.web.config_file import read_config_file
from webhook.worker_options import PREFIX as WORKER_PREFIX
from webhook.worker_options import WorkerOptions

Problems = Iterator[tuple[int, str]]
"""Line and what is wrong in it."""

PROGRAMS = {"sentinel-webhook": webhook, "sentinel-exporter": exporter, "python -m demo": demo}
FOLDERS = "alertmanager|bench|demo|deploy|docs|exporter|grafana|k8s|prometheus|tests|webhook"
NOT_THERE = ("deploy/secrets", "docs/runbooks/ChargebackWave.md")
"""What is made later, and what the reader of an example is to write."""

OTHERS = ("/api/v1/metrics/aggregated", "/api/v1/push")
"""Routes of the demo's platform and of Mimir."""

NO_METRICS = {"sentinel_message", "sentinel_fraud_baselines"}


@cache
def by_path() -> dict[Path, Page]:
    return {page.path: page for page in PAGES}


def links(page: Page) -> Problems:
    for line, target in page.links:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            yield line, f"{target}: there is no such file"
        elif anchor and anchor not in getattr(by_path().get(path), "anchors", ()):
            yield line, f"{target}: there is no such heading"


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def targets(page: Page) -> Problems:
    for line, text in page.code:
        for name in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", text.strip()):
            if name not in make_targets():
                yield line, f"make {name}: there is no such target"


def commands(page: Page) -> Problems:
    for line, text in page.code:
        for name, program in PROGRAMS.items():
            for found in re.findall(rf"(?<![\w-])(?<!generic ){name}(?![\w:.-])([^|;&#`]*)", text):
                if why := unknown(program, found):
                    yield line, f"{name}{found}: {why}"


def unknown(command: click.Command, text: str) -> str | None:
    """The first word that the program would not take."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that the line leaves open
        words = text.split()
    for word in words:
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        if word.startswith("--") and word.partition("=")[0] not in options:
            return f"{command.name} has no option {word}"
        if isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in command.commands:
                return None if command.params else f"{command.name} has no command {word}"
            command = command.commands[word]
    return None


@cache
def extras() -> set[str]:
    return {*tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]}


def files(page: Page) -> Problems:
    for line, text in page.code:
        for name in re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./*-]*\w)(?![\w/*<…{{-])", text):
            if not name.startswith(NOT_THERE) and not any(ROOT.glob(name)) and not any(ROOT.glob(f"{name}.py")):
                yield line, f"{name}: there is no such file"
        for name in re.findall(
            r"(?<![\w./-])(requirements[\w-]*\.lock|compose[\w.]*\.yaml|Dockerfile[\w.]*|pyproject\.toml)", text
        ):
            if not (ROOT / name.rstrip(".")).exists():
                yield line, f"{name}: there is no such file"
        for extra in (each for found in re.findall(r"sentinel\[([\w,-]+)\]", text) for each in found.split(",")):
            if extra not in extras():
                yield line, f"sentinel[{extra}]: there is no such extra"
        modules = re.findall(r"^(?:domain|pipeline|storage|adapters|notifiers|web)/\w+$", text)
        places = [f"webhook/{name}" for name in modules]
        places += [name.replace(".", "/") for name in re.findall(r"python -m ([a-z_]+\.[a-z_.]+)", text)]
        yield from ((line, f"{name}: there is no such module") for name in places if not any(ROOT.glob(f"{name}*")))


@cache
def known_variables() -> set[str]:
    names = {PREFIX + name.upper() for name, info in Settings.model_fields.items() if not info.exclude}
    names |= {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}
    names |= {WORKER_PREFIX + name.upper() for name in WorkerOptions.model_fields}
    return names | {str(each.envvar) for each in exporter.params if isinstance(each, click.Option) and each.envvar}


def variables(page: Page) -> Problems:
    for number, text in enumerate(page.path.read_text(encoding="utf-8").splitlines(), 1):
        for name, more in re.findall(r"\b(SENTINEL_[A-Z_]*[A-Z])(_?\*)?", text):
            if not (any(each.startswith(name) for each in known_variables()) if more else name in known_variables()):
                yield number, f"{name}: no process reads it"


@cache
def known_routes() -> list[tuple[str, re.Pattern[str]]]:
    """Method and form of each; anything may stand for a parameter."""
    from webhook.app import create_app

    given = {"database_url": "sqlite://", "ingest_token": "i", "admin_token": "a", "secret_key": "s"}
    slack = {"token": "xoxb", "channel": "C1", "signing_secret": "s" * 32}
    app = create_app(Settings.model_validate({**given, "channel_options": {"slack": slack}}))
    rules = [(rule, re.sub(r"<[^>]+>", "[^/]+", rule.rule.replace(".", r"\."))) for rule in app.url_map.iter_rules()]
    ours = [(method, re.compile(form)) for rule, form in rules for method in rule.methods or ()]
    return ours + [("POST" if path == "/-/reload" else "GET", re.compile(re.escape(path))) for path in _ROUTES]


ROUTE = re.compile(
    r"(?:(GET|POST|PUT|DELETE|PATCH) |(?<![\w.:}])|\$(?:SENTINEL|URL))(/(?:api/v1|live|runbooks)/[\w/{}<>$.-]+)"
)


def routes(page: Page) -> Problems:
    for line, text in page.code:
        for method, path in ROUTE.findall(text):
            plain = re.sub(r"[{<][^}>]*[}>]|\$[A-Z]+", "x", path).rstrip(".")
            there = any(form.fullmatch(plain) and method in ("", known) for known, form in known_routes())
            if not there and plain not in OTHERS:
                yield line, f"{method} {path}: there is no such route"


@cache
def known_names() -> frozenset[str]:
    """All words of what defines metrics that begin like ours, and the texts that are one word: the rest of a name."""
    kinds = ("exporter/**/*.py", "webhook/**/*.py", "demo/**/*.py", "demo/*.yaml", "prometheus/**/*.yml")
    texts = (path.read_text(encoding="utf-8") for kind in kinds for path in ROOT.glob(kind))
    return frozenset(
        word for text in texts for word in re.findall(r"\bsentinel_\w+|(?<=[\"'])[a-z0-9_]+(?=[\"'])", text)
    )


def metrics(page: Page) -> Problems:
    """A name may lack what Prometheus and its client put around it, or be an example's own."""
    own = set(re.findall(r"prometheus_name: (\w+)", page.path.read_text(encoding="utf-8"))) | NO_METRICS
    for line, text in page.code:
        for name in re.findall(r"(?<![\w./:-])(sentinel_[a-z0-9_]*[a-z0-9])(?![\w*<…-])", text):
            base = re.sub(r"_(bucket|sum|count|total)$", "", name)
            bare = {re.sub("^sentinel_(source_|exporter_)?", "", each) for each in (name, base)}
            if not {name, base} & own and not {name, base, *bare} & known_names():
                yield line, f"{name}: nothing exports it"


@pytest.mark.parametrize("check", [links, targets, commands, files, variables, routes, metrics])
def test_what_pages_name_is_there(check: Callable[[Page], Problems]) -> None:
    found = [f"{page}:{line}: {what}" for page in PAGES for line, what in check(page)]
    assert not found, "\n".join(["", *found])


def test_every_page_is_found_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        page = by_path().get(path)
        names = [target.partition("#")[0] for _, target in page.links if ":" not in target] if page else []
        reached = [(path.parent / name).resolve() for name in names if name]
        pages = [found for each in reached for found in (each.glob("*.md") if each.is_dir() else [each])]
        waiting += {*pages} - seen
    assert {str(page) for page in PAGES if page.path not in seen} == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.blocks], ids=str)
def test_every_example_of_a_configuration_is_valid(page: Page, tmp_path: Path) -> None:
    for line, block in page.blocks:
        data = yaml.safe_load(block)
        if isinstance(data, dict) and "data_sources" in data:
            parse(block, f"{page}:{line}")
        elif isinstance(data, dict) and data and data.keys() <= ConfigFile.model_fields.keys():
            ConfigFile.model_validate(data).types()
        elif isinstance(data, list) and isinstance(data[0], dict) and "account_id" in data[0]:
            file = tmp_path / "merchants.yaml"
            file.write_text(block, encoding="utf-8")
            assert read_config_file(file, allow_http=False)


def test_the_reference_is_what_the_models_say() -> None:
    pages = generate.pages()
    stale = [name for name, text in pages.items() if (generate.FOLDER / name).read_text(encoding="utf-8") != text]
    assert not stale, "run `make docs`"
    assert {path.name for path in generate.FOLDER.iterdir()} == pages.keys()


def test_the_reference_has_every_channel_and_says_what_each_option_means() -> None:
    assert generate.OPTIONS.keys() == CHANNELS.keys()
    for name, text in generate.pages().items():
        silent = re.findall(r"^\| (`[^|]+`) \|.*\|  \|$", text, re.MULTILINE)
        assert not silent, f"{name}: give them a description in their model"

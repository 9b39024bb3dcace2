"""Merchant configurations from and to YAML: a list, checked as a whole, every error with its line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from webhook.domain.configuration import document_of
from webhook.domain.evaluation import MerchantConfig
from webhook.web.config_document import MerchantEntry, message_of


class ConfigFileError(ValueError):
    """A file that cannot be taken; `problems` has one line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_FILE = TypeAdapter(list[MerchantEntry])
_TIME = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Times stay texts, and what is no value of its kind says so: their mistakes are told with their lines."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401 - PyYAML's
        try:
            return super().construct_object(node, deep=deep)
        except (AttributeError, LookupError, ValueError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"not a value of the kind {kind}", node.start_mark
            ) from None


def read_config_file(path: Path, *, allow_http: bool = False) -> list[MerchantConfig]:
    """The configurations of a file; raise ConfigFileError with all that is wrong."""
    node, document = _read(path)
    try:
        entries = _FILE.validate_python(document or [], context={"allow_http": allow_http})
    except ValidationError as error:
        raise ConfigFileError([_problem(path, node, detail) for detail in error.errors()]) from error
    if problems := _repeated(path, node, entries):
        raise ConfigFileError(problems)
    return [entry.config() for entry in entries]


def _read(path: Path) -> tuple[yaml.Node | None, Any]:
    """The nodes of a file, which know their lines, and what they say. No problem quotes it: it may hold secrets."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{path}: is not text in UTF-8"
    except RecursionError:
        problem = f"{path}: nested too deeply"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"{path}:{mark.line + 1 if mark else 1}: {error.problem or error.context}"
    except yaml.YAMLError as error:
        problem = f"{path}: {' '.join(str(error).split())}"
    raise ConfigFileError([problem])


def write_config_file(configs: Iterable[MerchantConfig]) -> str:
    """YAML that `read_config_file` reads back as the same configurations."""
    entries = [{"account_id": config.account_id, **document_of(config)} for config in configs]
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)


def _repeated(path: Path, node: yaml.Node | None, entries: list[MerchantEntry]) -> list[str]:
    seen: dict[tuple[str, str], int] = {}
    problems = []
    for number, entry in enumerate(entries):
        first = seen.setdefault((entry.account_id, entry.alert_type), number)
        if first != number:
            where = f"{path}:{_line(node, (number,))}"
            problems.append(f"{where}: {entry.account_id} {entry.alert_type} is already configured above")
    return problems


def _problem(path: Path, node: yaml.Node | None, detail: ErrorDetails) -> str:
    """`file:line: place: what is wrong`, without the value, which may be a secret."""
    place = ".".join(str(part) for part in detail["loc"])
    return f"{path}:{_line(node, detail['loc'])}: {place + ': ' if place else ''}{message_of(detail)}"


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `place` that the file holds, counted from 1."""
    for part in place:
        child = _child(node, part)
        if child is None:
            break
        node = child
    return node.start_mark.line + 1 if node is not None else 1


def _child(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    return None

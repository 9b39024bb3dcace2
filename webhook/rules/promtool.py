"""Prometheus' own tool: its opinion of a rule file, and its unit tests, as findings."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from webhook.rules.finding import Finding, Level, Place

_AT = re.compile(r".*?: (?P<line>\d+):(?P<column>\d+): (?P<what>.*)")
_LINE = re.compile(r"\s*line (?P<line>\d+): (?P<what>.*)")
_NOISE = re.compile(r"Checking |Unit Testing:|\s*FAILED:?$|\s*SUCCESS|.*: yaml: unmarshal errors:$")
_HINT = "see what `promtool check rules` says of it"


class PromtoolMissingError(Exception):
    """It is not installed."""


def checked(path: Path) -> list[Finding]:
    """Raise PromtoolMissingError."""
    done = _run("check", "rules", "--lint=none", str(path))
    return list(_failures(path, done)) if done.returncode else []


def tested(path: Path) -> list[Finding]:
    """The unit tests of a file; raise PromtoolMissingError."""
    done = _run("test", "rules", path.name, folder=path.parent)
    if done.returncode == 0:
        return []
    text = "\n".join(_said(done)) or "promtool gave no reason"
    return [
        Finding(
            Place(str(path)),
            "",
            "promtool-test",
            f"unit tests fail:\n{text}",
            "correct the rule, or what the test expects",
        )
    ]


def tests_of(rules: Path, folder: Path | None) -> list[Path]:
    """Files of unit tests that load these rules."""
    folder = tests_folder(rules, folder)
    return [path for path in sorted(folder.glob("*.yml")) if rules.resolve() in _loaded(path)]


def tests_folder(rules: Path, folder: Path | None) -> Path:
    """Where unit tests stand: `folder`, or `tests` beside the rules' folder."""
    return folder or rules.resolve().parent.parent / "tests"


def _loaded(test_file: Path) -> set[Path]:
    try:
        document = yaml.safe_load(test_file.read_text("utf-8"))
        patterns = [str(each) for each in document["rule_files"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return set()
    return {found.resolve() for pattern in patterns for found in test_file.parent.glob(pattern)}


def _run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        raise PromtoolMissingError
    return subprocess.run(  # noqa: S603 - the program is Prometheus' own, the arguments are names of files
        [program, *arguments], cwd=folder, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def _said(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    lines = f"{done.stdout}\n{done.stderr}".splitlines()
    return [line for line in lines if line.strip() and not _NOISE.match(line)]


def _failures(path: Path, done: subprocess.CompletedProcess[str]) -> Iterator[Finding]:
    for line in _said(done):
        found = _AT.match(line) or _LINE.match(line)
        if found is None:
            yield Finding(Place(str(path)), "", "promtool", line.strip().removeprefix(f"{path}: "), _HINT)
            continue
        column = int(found.groupdict().get("column") or 1)
        yield Finding(Place(str(path), int(found["line"]), column), "", "promtool", found["what"], _HINT, Level.ERROR)

"""All checks of rule files: Prometheus' own, and ours. What they find is returned, for the command line and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import promql_parser

from webhook.rules import promtool
from webhook.rules.checks.duplicates import duplicates
from webhook.rules.checks.expression import comparison, functions, metrics
from webhook.rules.checks.matching import account, matching
from webhook.rules.checks.required import required
from webhook.rules.checks.template import template
from webhook.rules.checks.values import values
from webhook.rules.context import Check, Context
from webhook.rules.document import Rule, RuleFile, read
from webhook.rules.finding import Finding, Level
from webhook.rules.known import Metrics

CHECKS: Mapping[str, Check] = {
    "required": required,
    "comparison": comparison,
    "functions": functions,
    "metrics": metrics,
    "matching": matching,
    "account": account,
    "template": template,
    "values": values,
    "duplicates": duplicates,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to check with. `beside` are files that Prometheus reads too; `tests` None takes those beside the rules."""

    metrics: Metrics
    beside: Sequence[Path] = ()
    tests: Path | None = None
    promtool: bool = True


def check_paths(paths: Sequence[Path], wanted: Wanted) -> list[Finding]:
    """Of all files together, in the order of their lines; raise PromtoolMissingError."""
    files, beside = [read(path) for path in paths], [read(path) for path in wanted.beside]
    found = check_files(files, wanted.metrics, beside)
    if wanted.promtool:
        found = _with_promtool(paths, found, wanted.tests)
    return sorted(found, key=lambda each: (each.place.file, each.place.line, each.place.column, each.check))


def check_files(files: Sequence[RuleFile], metrics: Metrics, beside: Sequence[RuleFile] = ()) -> list[Finding]:
    """Our own checks, without a look at anything else."""
    rules = [rule for file in (*beside, *files) for rule in file.rules]
    context = Context(metrics, rules)
    found = [problem for file in files for problem in file.problems]
    for file in files:
        for rule in file.rules:
            found.extend(_of_rule(rule, context))
    return found


def errors(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.ERROR]


def _of_rule(rule: Rule, context: Context) -> Iterator[Finding]:
    if rule.parsed is None:
        try:
            promql_parser.parse(rule.expr.text)
        except ValueError as error:
            hint = "try it on Prometheus' own page"
            yield rule.finding("syntax", rule.expr.place, f"the expression cannot be read: {error}", hint)
    for check in CHECKS.values():
        yield from check(rule, context)


def _with_promtool(paths: Sequence[Path], found: Sequence[Finding], tests: Path | None) -> list[Finding]:
    """An expression that only we cannot read is a warning: Prometheus may be newer than what we read it with."""
    every = list(found)
    for path in paths:
        if not path.is_file():
            continue
        said = promtool.checked(path)
        if not said:
            every = [_doubted(each) if each.place.file == str(path) else each for each in every]
        told = {each.place.line for each in errors(every) if each.place.file == str(path)}
        every += [each for each in said if each.place.line not in told]
    if errors([each for each in every if each.check in ("yaml", "structure", "syntax", "promtool")]):
        return every
    files = dict.fromkeys(test for path in paths for test in promtool.tests_of(path, tests))
    return every + [finding for file in files for finding in promtool.tested(file)]


def _doubted(finding: Finding) -> Finding:
    return replace(finding, level=Level.WARNING) if finding.check == "syntax" else finding


def summary(findings: Sequence[Finding], files: int) -> str:
    wrong = len(errors(findings))
    rest = len(findings) - wrong
    told = [
        f"{count} {word}{'s' if count != 1 else ''}" for count, word in ((wrong, "error"), (rest, "warning")) if count
    ]
    return f"{files} file{'s' if files != 1 else ''}: {', '.join(told) or 'no findings'}"

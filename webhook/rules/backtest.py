"""What rules would have done over a past that Prometheus remembers, beside what its own rules did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import promql_parser as pq

from webhook.adapters.prometheus_api import MOST_POINTS, Points, PrometheusApi, PrometheusError, TooMuchError, chunks
from webhook.domain.rule_state import Episode, Hold, episodes, firing, settled, spans
from webhook.rules import templates
from webhook.rules.alignment import offset_ms
from webhook.rules.document import Group, Rule, RuleFile
from webhook.rules.promql import text_of, walk
from webhook.rules.recordings import CannotComputeError, Recordings
from webhook.rules.running import default_interval

DAY = 86_400_000
_FEWEST_POINTS = 10
_FURTHER_BACK = 10
"""How often the time before the period is doubled for what is kept firing: of half an hour two weeks."""
_OWN_LABELS = ("__name__", "alertname", "alertstate")

Labels = frozenset[tuple[str, str]]
Span = tuple[int, int]
Progress = Callable[[str, int, int], None]
"""Told what is asked for, and how much of how much of the period (milliseconds) is done."""


@dataclass(frozen=True, slots=True)
class Period:
    """Milliseconds since 1970."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one series, nearly always one merchant: `labels` are those that the rule does not set itself.

    `now` is when the rule that runs under this name fired. Spans end with the period at the latest.
    """

    labels: Labels
    history: Sequence[Episode]
    fired: Sequence[Span]
    now: Sequence[Span]


@dataclass(frozen=True, slots=True)
class BacktestedRule:
    """A rule over a period. With a `problem` there is no more than what runs now."""

    rule: Rule
    interval: int
    first: int
    outcomes: Sequence[Outcome] = ()
    problem: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Backtest:
    period: Period
    tested: Sequence[BacktestedRule] = field(default_factory=list)


class Backtester:
    """Asks one Prometheus. `step` in milliseconds takes the place of the groups' intervals."""

    def __init__(self, api: PrometheusApi, period: Period, *, step: int | None = None, progress: Progress) -> None:
        self._api = api
        self._period = period
        self._step = step
        self._progress = progress
        self._running = api.groups()
        self._default = default_interval(api)

    def run(self, file: RuleFile, beside: Sequence[RuleFile] = ()) -> Backtest:
        """Raise PrometheusError where it cannot be asked at all; what is wrong with one rule is that rule's problem."""
        recorded = {rule.name.text: rule for each in (*beside, file) for rule in each.rules if not rule.is_alert}
        recordings = Recordings(recorded, self._kept, self._default)
        return Backtest(self._period, [self._tested(rule, recordings) for rule in file.rules if rule.is_alert])

    def _tested(self, rule: Rule, recordings: Recordings) -> BacktestedRule:
        interval, first = self._grid(rule.group)
        recordings.computed.clear()
        try:
            expr = recordings.substituted(_testable(rule))
            hold = Hold(_ms(rule.duration("for")), _ms(rule.duration("keep_firing_for")), rule.group.limit)
            history, known = self._history(rule, expr, hold, interval, first)
        except (CannotComputeError, TooMuchError) as error:
            return BacktestedRule(rule, interval, first, problem=str(error))
        except PrometheusError as error:
            if type(error) is not PrometheusError:
                raise
            return BacktestedRule(rule, interval, first, problem=f"Prometheus cannot evaluate it: {error}")
        notes = [f"{name} is not recorded as in the file: computed from its expression" for name in recordings.computed]
        if not known:
            notes.append("what keep_firing_for held at the start of the period began too long before to be known")
        now = self._now(rule, interval, first)
        outcomes = [self._outcome(key, history.get(key, ()), now.get(key, ())) for key in {*history, *now}]
        outcomes.sort(key=lambda each: (-sum(end - start for start, end in each.fired), sorted(each.labels)))
        return BacktestedRule(
            rule, interval, first, [each for each in outcomes if each.history or each.now], notes=notes
        )

    def _history(
        self, rule: Rule, expr: pq.Expr, hold: Hold, interval: int, first: int
    ) -> tuple[dict[Labels, list[Episode]], bool]:
        """Begins early enough for what fired at the start of the period to fire there; False where that is too far."""
        early = -(-(hold.wait + hold.keep) // interval) + 1
        begin, end = first - early * interval, self._period.end
        at = self._found(rule, expr, begin, end, interval)
        for _ in range(_FURTHER_BACK):
            before = [(time, at.get(time, ())) for time in range(begin, first, interval)]
            if known := not hold.keep or settled(before, hold):
                break
            begin, end, early = begin - early * interval, begin - interval, 2 * early
            at |= self._found(rule, expr, begin, end, interval)
        times = range(begin, self._period.end + 1, interval)
        return episodes(((time, at.get(time, ())) for time in times), hold), known

    def _found(self, rule: Rule, expr: pq.Expr, begin: int, end: int, interval: int) -> dict[int, set[Labels]]:
        """Series of the expression at each evaluation that finds any."""
        at: dict[int, set[Labels]] = {}
        own = {*_OWN_LABELS, *rule.labels}
        for labels, points in self._points(rule.name.text, expr.prettify(), begin, interval, end):
            key = frozenset(item for item in labels.items() if item[0] not in own)
            for time, _ in points:
                if key in at.setdefault(time, set()):
                    raise CannotComputeError(f"two series become one alert at {time / 1000:.3f}: {dict(key)}")
                at[time].add(key)
        return at

    def _outcome(self, key: Labels, history: Sequence[Episode], now: Sequence[Span]) -> Outcome:
        start, end = self._period.start, self._period.end
        kept = [each for each in history if each.ended is None or each.ended > start]
        return Outcome(key, kept, firing(kept, start, end), now)

    def _now(self, rule: Rule, interval: int, first: int) -> dict[Labels, list[Span]]:
        """When the rules of this name fired that Prometheus ran itself."""
        own = {*_OWN_LABELS, *rule.labels}
        for group in self._running:
            own |= {label for each in group.rules if each.name == rule.name.text for label in each.labels}
        times: dict[Labels, set[int]] = {}
        query = f'ALERTS{{alertname="{rule.name.text}",alertstate="firing"}}'
        for labels, points in self._points(f"{rule.name.text}, as it ran", query, first, interval, self._period.end):
            key = frozenset(item for item in labels.items() if item[0] not in own)
            times.setdefault(key, set()).update(time for time, _ in points)
        return {key: spans(sorted(found), interval, self._period.end) for key, found in times.items()}

    def _points(
        self, name: str, query: str, start: int, interval: int, end: int
    ) -> Iterator[tuple[dict[str, str], Points]]:
        """A day at a time, or what Prometheus can answer at once; raise TooMuchError where that is next to nothing."""
        most = min(MOST_POINTS, max(DAY // interval, _FEWEST_POINTS))
        whole = end - start
        while start <= end:
            _, last = next(chunks(start, end, interval, most))
            try:
                yield from self._api.range(query, start, last, interval)
            except TooMuchError as error:
                most = min(most, (last - start) // interval + 1) // 2
                if most < _FEWEST_POINTS:
                    hint = "ask for fewer days, a longer --step, or raise --query.max-samples or --query.timeout"
                    raise TooMuchError(f"{error}; {hint}") from None
                continue
            start = last + interval
            self._progress(name, min(whole, whole - (end - start)), whole)

    def _grid(self, group: Group) -> tuple[int, int]:
        """Interval, and the first evaluation in the period."""
        whole = group.interval or self._default
        interval = self._step or _ms(whole)
        offset = offset_ms(group.name.text, group.file, whole, self._running) % interval
        start = self._period.start
        return interval, start + (offset - start) % interval

    def _kept(self, rule: Rule) -> bool:
        """Whether Prometheus has recorded what this rule records, from the start of the period on."""
        queries = [each.query for group in self._running for each in group.rules if each.name == rule.name.text]
        if rule.parsed is None or text_of(rule.parsed) not in map(_normal, queries):
            return False
        at = self._period.start + 2 * _ms(rule.group.interval or self._default)
        return bool(self._api.samples(f"count({rule.name.text})", at))


def _testable(rule: Rule) -> pq.Expr:
    if rule.parsed is None:
        raise CannotComputeError("its expression cannot be read: `sentinel-webhook rules check` says more")
    for label, value in rule.labels.items():
        if templates.reads_value(value.text):
            raise CannotComputeError(f"its label {label} holds the value: every value would be another alert")
    for part in walk(rule.parsed):
        at = getattr(part, "at", None)
        if at is not None and at.type != pq.AtModifierType.At:
            raise CannotComputeError(
                "@ start() and @ end() are the moment in a rule, and the whole period in a backtest"
            )
    return rule.parsed


def _normal(query: str) -> str:
    try:
        return text_of(pq.parse(query))
    except ValueError:
        return query


def _ms(duration: float) -> int:
    return round(duration * 1000)

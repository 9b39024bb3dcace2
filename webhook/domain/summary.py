"""Words for an alert that need no model: the template that always works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from webhook.domain.alert import OPERATIONS_ACCOUNT, NotifyReason
from webhook.domain.message import (
    TITLE_LENGTH,
    Note,
    Summary,
    duration_of,
    ended_at,
    limit_of,
    merchant_of,
    metric_names,
    one_line,
    printable,
)
from webhook.domain.metric import format_duration, format_time, format_value, metric_words

COMMENT_LENGTH = 1000
_DESCRIPTION_LENGTH = 600


class SummaryRefused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """No model gave an answer that can be used: slow, malformed, or with a number that the metrics do not hold."""


@dataclass(frozen=True, slots=True)
class Story:
    """One alert type in plain words: its name, what it usually means, what to do about it."""

    name: str
    meaning: str
    action: str


STORIES: Mapping[str, Story] = {
    "CARD_TESTING": Story(
        "Card testing attack",
        "Someone is probably trying out stolen card numbers: far more payments than usual are blocked or fail "
        "authorisation.",
        "Block the sources of these attempts, ask for 3-D Secure on cards you have not seen before, and limit "
        "attempts per card and device.",
    ),
    "VELOCITY_ATTACK": Story(
        "Velocity attack",
        "Payments arrive much faster than this business normally sees them, which points to an automated attack.",
        "Limit payments per card, device and address, and hold orders from this time until they are reviewed.",
    ),
    "ACCOUNT_TAKEOVER": Story(
        "Account takeover",
        "Cards are used far outside their owners' habits, as happens when customer accounts have been taken over.",
        "Ask the affected customers to confirm their payments, reset their sessions and passwords, and hold "
        "unusually large orders.",
    ),
    "CHARGEBACK_FRAUD": Story(
        "Chargeback fraud",
        "Customers dispute far more payments than usual, so fraudulent orders have probably been going through.",
        "Hold deliveries to the disputed customers, collect the evidence for these payments, and refund those you "
        "know to be fraudulent.",
    ),
    "ANOMALY_DETECTION": Story(
        "Unusual payment pattern",
        "Payments differ strongly from this business's own past without matching a known kind of attack.",
        "Look at the latest payments for what they have in common, and tighten checks there until it is explained.",
    ),
    "BLOCK_SURGE": Story(
        "Surge of blocked payments",
        "A much larger part of the payments than usual is being blocked.",
        "Check whether an attack or a rule of your own blocks these payments, and adjust the rule if customers are "
        "hit.",
    ),
    "OPERATIONS": Story(
        "Operations alert",
        "Part of the monitoring itself needs attention; while it lasts, alerts to merchants may be incomplete.",
        "Open the alert, check the component it names, and tell the merchants concerned if data was missed.",
    ),
}

_ENDED_ACTION = (
    "Nothing is urgent any more. Review the payments of this time, refund what was fraudulent, and keep the "
    "measures that helped."
)

_OPERATIONS_ENDED_ACTION = (
    "Nothing is urgent any more. Check what was missed meanwhile, and tell the merchants concerned if data was."
)

_TITLES = {
    NotifyReason.FIRST: "{name}: {merchant}",
    NotifyReason.ESCALATED: "{name} now {severity}: {merchant}",
    NotifyReason.THRESHOLD: "{name} goes on: {merchant}",
    NotifyReason.INTERVAL: "{name} goes on: {merchant}",
    NotifyReason.FLAPPING: "{name} comes and goes: {merchant}",
    NotifyReason.RESOLVED: "{name} has ended: {merchant}",
    NotifyReason.RESEND: "{name}: {merchant}",
    NotifyReason.DIGEST: "{name}: {merchant}",
    NotifyReason.MENTION: "{by} on {name}: {merchant}",
}

# Of operations alerts the rule's own words say what is wrong.
_OPERATIONS_TITLES = {
    NotifyReason.FIRST: "{rule}",
    NotifyReason.ESCALATED: "Now {severity}: {rule}",
    NotifyReason.THRESHOLD: "Still: {rule}",
    NotifyReason.INTERVAL: "Still: {rule}",
    NotifyReason.FLAPPING: "Comes and goes: {rule}",
    NotifyReason.RESOLVED: "Over: {rule}",
    NotifyReason.RESEND: "{rule}",
    NotifyReason.DIGEST: "{rule}",
    NotifyReason.MENTION: "{by} on: {rule}",
}


def template_summary(note: Note) -> Summary:
    """What is happening, the numbers against their thresholds, since when, and what to do."""
    story = story_of(note.alert_type)
    of_operations = note.account_id == OPERATIONS_ACCOUNT
    titles = _OPERATIONS_TITLES if of_operations and note.rule_summary.strip() else _TITLES
    title = titles[note.reason].format(
        name=story.name,
        merchant=merchant_of(note),
        rule=note.rule_summary,
        severity=note.severity,
        by=note.comment_by,
    )
    if note.reason is NotifyReason.MENTION:
        return Summary(one_line(title, TITLE_LENGTH), _cut(note.comment), "Open the alert to answer.", "comment")
    ended = note.reason is NotifyReason.RESOLVED
    if of_operations and note.rule_description.strip():
        story = replace(story, meaning=one_line(note.rule_description, _DESCRIPTION_LENGTH))
    opening = _opening(note, story)
    parts = [opening, *([_peaks(note)] if ended else [_numbers(note), _since(note)])]
    return Summary(
        title=one_line(title, TITLE_LENGTH),
        text=" ".join(part for part in parts if part),
        suggested_action=_action(story, ended=ended, of_operations=of_operations),
        source="template",
    )


def _action(story: Story, *, ended: bool, of_operations: bool) -> str:
    if not ended:
        return story.action
    return _OPERATIONS_ENDED_ACTION if of_operations else _ENDED_ACTION


def _cut(text: str) -> str:
    """Of a comment what a message has room for."""
    text = printable(text.strip())
    return text if len(text) <= COMMENT_LENGTH else f"{text[: COMMENT_LENGTH - 1].rstrip()}…"


def story_of(alert_type: str) -> Story:
    """The words for a type; of a type that nobody described, its own name in people's spelling."""
    if alert_type in STORIES:
        return STORIES[alert_type]
    name = one_line(alert_type.replace("_", " ").lower(), 60) or "alert"
    return Story(
        name[:1].upper() + name[1:],
        "The numbers of this business crossed what was set as normal.",
        "Open the alert, compare the numbers with what you expect today, and act if you cannot explain them.",
    )


def _opening(note: Note, story: Story) -> str:
    rule = one_line(note.rule_summary, 300)
    if note.reason is NotifyReason.RESOLVED:
        lasted = format_duration(duration_of(note))
        return (
            f"It is over. It lasted {lasted}, from {format_time(note.first_triggered_at)} to "
            f"{format_time(ended_at(note))}."
        )
    if note.reason is NotifyReason.ESCALATED:
        return f"This has become graver and is now {note.severity}. {story.meaning}"
    if note.reason is NotifyReason.FLAPPING:
        return (
            "This ends and begins again, over and over. Until it settles you hear only if it becomes graver. "
            f"{story.meaning}"
        )
    if note.reason is not NotifyReason.FIRST:
        return f"This is still going on, {note.occurrence_count:,} triggers so far. {story.meaning}"
    if rule and not note.metrics and note.account_id != OPERATIONS_ACCOUNT:
        return f"{story.meaning} {rule if rule.endswith('.') else rule + '.'}"
    return story.meaning


def _numbers(note: Note) -> str:
    phrases = [_number(note, name) for name in metric_names(note)[:4]]
    if not phrases:
        return ""
    listed = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    return f"Right now {listed}."


def _number(note: Note, name: str) -> str:
    text = f"{metric_words(name).phrase} is {format_value(name, note.metrics[name], digits=1)}"
    if name in note.thresholds:
        text += f" ({limit_of(note, name)})"
    return text


def _since(note: Note) -> str:
    started = f"It began at {format_time(note.first_triggered_at)}"
    lasting = duration_of(note)
    return f"{started} and has lasted {format_duration(lasting)}." if lasting.total_seconds() >= 1 else f"{started}."


def _peaks(note: Note) -> str:
    sentences = []
    for name in metric_names(note)[:3]:
        words, last = metric_words(name).phrase, format_value(name, note.metrics[name], digits=1)
        words = words[:1].upper() + words[1:]
        limit = f" ({limit_of(note, name)})" if name in note.thresholds else ""
        if name in note.peaks:
            peak = format_value(name, max(note.peaks[name], note.metrics[name]), digits=1)
            sentences.append(f"{words} peaked at {peak}{limit} and was last {last}.")
        else:
            sentences.append(f"{words} was last {last}{limit}.")
    return " ".join(sentences)

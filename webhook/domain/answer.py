"""What a model answered, believed only as far as it has the shape that was asked for and its numbers are ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from webhook.domain.circumstances import NOTHING_KNOWN, Circumstances
from webhook.domain.message import TEXT_WORDS, TITLE_LENGTH, Note, Summary, one_line, printable
from webhook.domain.numbers import invented_numbers
from webhook.domain.prompt import VARIABLES, Prompt
from webhook.domain.severity import Severity
from webhook.domain.summary import SummaryRefused

LEAK_WORDS = 8
"""So many words in a row of our own instructions in an answer are no chance."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(min_length=1, max_length=TITLE_LENGTH)
    summary: str = Field(min_length=1, max_length=4000)
    severity: str = Field(pattern=r"^P[0-3]$")  # an opinion: severity comes from the rules
    suggested_action: str = Field(min_length=1, max_length=1000)


class NumberedAnswer(Answer):
    alert: int


class _Answers(BaseModel):
    """Each is checked by itself, so that a bad one takes none along."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answers: list[dict[str, Any]]


_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)
_LINK = re.compile(r"https?:|www\.|<[@!#]|\]\(", re.IGNORECASE)
_KEYS = [*(name for name in VARIABLES if "_" in name), "told_because", "rule_says", "as_text"]
# Keys of the data block, and its tags in any spelling.
_DATA = re.compile(
    rf"alert_data|\b(?:{'|'.join(_KEYS)})\b|[\"'\u2019\u201d]\w+[\"'\u2019\u201d]\s*:|[{{}}]{{2}}",
    re.IGNORECASE,
)


def answer_schema(number: int) -> dict[str, Any]:
    """JSON Schema of the answer about `number` alerts, in the part of it that strict providers take."""
    one = _strict((Answer if number == 1 else NumberedAnswer).model_json_schema())
    if number == 1:
        return one
    answers = {"type": "array", "items": one}
    return {
        "type": "object",
        "properties": {"answers": answers},
        "required": ["answers"],
        "additionalProperties": False,
    }


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without what they refuse; lengths are checked here."""
    properties = {
        name: {key: value for key, value in of.items() if key in ("type", "pattern")}
        for name, of in schema["properties"].items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def check_summary(
    answer: str, note: Note, source: str, around: Circumstances = NOTHING_KNOWN, prompt: Prompt | None = None
) -> Summary:
    """The model's `answer` as a Summary, or SummaryRefused: wrong schema, too long, a link, an invented number."""
    try:
        parsed = Answer.model_validate_json(_unwrapped(answer))
    except ValidationError as error:
        raise SummaryRefused(_schema(error)) from None
    return _checked(parsed, note, source, around, prompt)


def check_summaries(
    answer: str, asked: Sequence[tuple[Note, Circumstances]], source: str, prompt: Prompt
) -> list[Summary | SummaryRefused]:
    """One for each alert that was asked about; raise SummaryRefused where nothing of it can be used."""
    if len(asked) == 1:
        return [check_summary(answer, asked[0][0], source, asked[0][1], prompt)]
    try:
        entries = _Answers.model_validate_json(_unwrapped(answer)).answers
    except ValidationError as error:
        raise SummaryRefused(_schema(error)) from None
    return [_numbered(number, entries, one, source, prompt) for number, one in enumerate(asked, 1)]


def _numbered(
    number: int, entries: Sequence[Mapping[str, Any]], asked: tuple[Note, Circumstances], source: str, prompt: Prompt
) -> Summary | SummaryRefused:
    ours = [entry for entry in entries if entry.get("alert") == number and entry.get("alert") is not True]
    if len(ours) != 1:
        return SummaryRefused(f"{len(ours)} answers about this alert among those about several")
    try:
        return _checked(NumberedAnswer.model_validate(ours[0]), asked[0], source, asked[1], prompt)
    except ValidationError as error:
        return SummaryRefused(_schema(error))
    except SummaryRefused as refusal:
        return refusal


def _checked(parsed: Answer, note: Note, source: str, around: Circumstances, prompt: Prompt | None) -> Summary:
    if len(parsed.summary.split()) > TEXT_WORDS:
        raise SummaryRefused(f"summary longer than {TEXT_WORDS} words")
    summary = Summary(
        title=one_line(parsed.title, TITLE_LENGTH),
        text=printable(parsed.summary.strip()),
        suggested_action=printable(parsed.suggested_action.strip()),
        source=source,
        opinion=Severity(parsed.severity),
        template_id=(around.template.id or None) if around.template is not None else None,
    )
    if not (summary.title and summary.text and summary.suggested_action):
        raise SummaryRefused("holds nothing that can be shown")
    if prompt is not None and _leaks(words_of(summary), prompt, note):
        raise SummaryRefused("repeats its instructions or the data block")
    check_words(summary, note, around)
    return summary


def words_of(summary: Summary) -> str:
    return f"{summary.title}\n{summary.text}\n{summary.suggested_action}"


def check_words(summary: Summary, note: Note, around: Circumstances) -> None:
    """Raise SummaryRefused where the text is not true for this alert."""
    text = words_of(summary)
    if _LINK.search(text):
        raise SummaryRefused("names a link or mentions somebody")
    invented = invented_numbers(text, note, around)
    if invented:
        raise SummaryRefused(f"numbers that the metrics do not hold: {', '.join(invented[:5])}")


def _leaks(text: str, prompt: Prompt, note: Note) -> bool:
    """Whether it repeats our rules, the template's own words, or the data as data. Names are no leak."""
    for name in (note.merchant_name, note.account_id):
        if name:
            text = text.replace(name, " ")
    if _DATA.search(text):
        return True
    instructions = prompt.system + re.sub(r"<alert_data>.*?</alert_data>", "\n", prompt.user, flags=re.DOTALL)
    return not _runs(instructions).isdisjoint(_runs(text))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + LEAK_WORDS]) for at in range(len(words) - LEAK_WORDS + 1)}


def _unwrapped(answer: str) -> str:
    fenced = _FENCE.match(answer)
    return fenced[1] if fenced else answer


def _schema(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"schema: {'.'.join(map(str, first['loc'])) or 'answer'}: {first['msg']}"

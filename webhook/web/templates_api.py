"""/api/v1/alert-templates: what models are asked, by alert type. For staff; each change is a version and is audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from webhook.domain.alert import NotifyReason
from webhook.domain.circumstances import Circumstances, Template
from webhook.domain.message import Note, Summary
from webhook.domain.prompt import (
    DEFAULT_TEMPLATE,
    VARIABLES,
    BadTemplate,
    build_prompt,
    check_template,
)
from webhook.domain.severity import Severity
from webhook.domain.summary import SummaryRefused
from webhook.pipeline.summaries import Summaries
from webhook.pipeline.surroundings import Surroundings
from webhook.ports import StoreConflict, TemplateNotFound, VersionConflict
from webhook.storage.audit import record_audit
from webhook.storage.database import Database
from webhook.storage.records import AlertRecord
from webhook.storage.summary_facts import ANY_TYPE
from webhook.storage.templates import StoredTemplate, TemplateStore
from webhook.storage.transactions import transaction
from webhook.web.access import principal
from webhook.web.answers import Time
from webhook.web.api import answer, if_match_given, named_versions, seen
from webhook.web.api_parameters import Query
from webhook.web.config_document import AlertType, Version
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import SAID, Parameters
from webhook.web.problems import problem

ERRORS = problems(404, 409, 412)
Text = Annotated[str, Field(min_length=1, pattern=SAID)]  # how long it may be `check_template` says


class TemplatePath(BaseModel):
    """`default` is the template of the types that have none of their own."""

    alert_type: AlertType


class TemplateMatch(Query):
    """Read by `named_versions`; here for the document."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    if_match: str | None = Field(
        None, alias="If-Match", json_schema_extra={"example": '"3"'}, description="The version that was seen: else 412."
    )


class TemplateBody(Parameters):
    """`version` is the active one that was seen, 0 for none."""

    prompt_template: Text = Field(json_schema_extra={"example": DEFAULT_TEMPLATE})
    template_name: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")] = ""
    version: Version | None = None


class TemplateRestore(Parameters):
    restore_version: Annotated[Version, Field(ge=1)]
    version: Version | None = None


class TemplateTestBody(Parameters):
    """Without `prompt_template` the one that holds. `ask`: a model too, which costs tokens."""

    alert_id: UUID
    prompt_template: Text | None = None
    ask: bool = False


class TemplateEntry(BaseModel):
    alert_type: str
    template_name: str
    prompt_template: str
    version: int = Field(description="0 for the one that is built in.")
    is_active: bool
    created_by: str
    created_at: Time | None


class TemplateList(BaseModel):
    variables: list[str]
    data: list[TemplateEntry]


class TemplateVersions(BaseModel):
    alert_type: str
    data: list[TemplateEntry]


class ModelWords(BaseModel):
    """`severity` is the model's opinion, which changes nothing."""

    title: str
    summary: str
    suggested_action: str
    severity: Severity | None
    model: str


class TemplateTested(BaseModel):
    """`answer` is what would have been used; `refused` says why there is none."""

    system: str
    user: str
    estimated_tokens: int
    language: str
    answer: ModelWords | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateSite:
    """What the views share. Without `summaries` no model can be asked."""

    database: Database
    clock: Callable[[], datetime]
    surroundings: Surroundings
    summaries: Summaries | None
    budget: timedelta

    @property
    def store(self) -> TemplateStore:
        return TemplateStore(self.database)


def templates_blueprint(site: TemplateSite) -> APIBlueprint:
    routes = blueprint("alert_templates", "Prompt templates")
    _add_reading(routes, site)
    _add_changes(routes, site)
    _add_test(routes, site)
    routes.register_error_handler(BadTemplate, _bad)
    routes.register_error_handler(VersionConflict, _conflict)
    routes.register_error_handler(
        TemplateNotFound,
        lambda _: problem(
            HTTPStatus.NOT_FOUND, "There is no such template, or no such version: the built-in one holds."
        ),
    )
    routes.register_error_handler(
        StoreConflict, lambda _: problem(HTTPStatus.CONFLICT, "Somebody else changes the same template just now.")
    )
    return routes


def _add_reading(routes: APIBlueprint, site: TemplateSite) -> None:
    @routes.get("/alert-templates", responses={200: TemplateList})
    def list_templates() -> Response:
        """The templates that hold; first the built-in one, for whatever has none."""
        found = [_entry(item) for item in site.store.active()]
        return answer(TemplateList(variables=list(VARIABLES), data=[_built_in(), *found]))

    @routes.get("/alert-templates/<alert_type>", responses={200: TemplateVersions, **problems(404)})
    def read_template(path: TemplatePath) -> Response:
        """All versions of one, newest first."""
        found = site.store.versions(path.alert_type)
        if not found:
            raise TemplateNotFound(path.alert_type)
        return answer(TemplateVersions(alert_type=path.alert_type, data=[_entry(item) for item in found]))


def _add_changes(routes: APIBlueprint, site: TemplateSite) -> None:
    @routes.put("/alert-templates/<alert_type>", responses={200: TemplateEntry, **ERRORS, **problems(413, 415)})
    def write_template(header: TemplateMatch, path: TemplatePath, body: TemplateBody) -> Response:  # noqa: ARG001 - see TemplateMatch
        """The next version of a template, which holds from now on."""
        check_template(body.prompt_template)
        saved = site.store.save(
            path.alert_type,
            body.prompt_template,
            body.template_name,
            principal(),
            site.clock(),
            versions=named_versions(body.version),
        )
        return answer(_entry(saved), version=saved.version)

    @routes.delete("/alert-templates/<alert_type>", responses={200: TemplateEntry, **ERRORS})
    def delete_template(header: TemplateMatch, path: TemplatePath) -> Response:  # noqa: ARG001 - see TemplateMatch
        """From then on the built-in one holds; the versions stay and can be restored."""
        gone = site.store.delete(path.alert_type, principal(), site.clock(), versions=named_versions(None))
        return answer(_entry(replace(gone, is_active=False)))

    @routes.post(
        "/alert-templates/<alert_type>/restore", responses={200: TemplateEntry, **ERRORS, **problems(413, 415)}
    )
    def restore_template(header: TemplateMatch, path: TemplatePath, body: TemplateRestore) -> Response:  # noqa: ARG001 - see TemplateMatch
        """An old version becomes the next one."""
        versions = named_versions(body.version)
        saved = site.store.restore(path.alert_type, body.restore_version, principal(), site.clock(), versions=versions)
        return answer(_entry(saved), version=saved.version)


def _add_test(routes: APIBlueprint, site: TemplateSite) -> None:
    @routes.post("/alert-templates/<alert_type>/test", responses={200: TemplateTested, **problems(404, 413, 415)})
    def test_template(path: TemplatePath, body: TemplateTestBody) -> Response:
        """What a model would be asked about a stored alert; with `ask`, what it answers. Nothing is sent."""
        if body.prompt_template is not None:
            check_template(body.prompt_template)
        now = site.clock()
        with transaction(site.database) as connection:
            note = note_of(seen(connection, body.alert_id), now)
            record_audit(
                connection,
                principal(),
                "alert_template_tested",
                now=now,
                account_id=note.account_id,
                alert_id=note.alert_id,
                subject=f"alert_template/{path.alert_type}",
                details={"asked": body.ask},
            )
        return answer(_tested(site, replace(note, alert_type=_type(path, note)), body))


def _type(path: TemplatePath, note: Note) -> str:
    return note.alert_type if path.alert_type == ANY_TYPE else path.alert_type


def _tested(site: TemplateSite, note: Note, body: TemplateTestBody) -> TemplateTested:
    (around,) = site.surroundings.of([note], site.budget.total_seconds())
    if body.prompt_template is not None:
        around = replace(around, template=Template(body.prompt_template))
    prompt = build_prompt(note, around)
    words, refused = None, None
    if body.ask:
        words, refused = _asked(site, note, around)
    return TemplateTested(
        system=prompt.system,
        user=prompt.user,
        estimated_tokens=prompt.tokens(),
        language=around.language,
        answer=words,
        refused=refused,
    )


def _asked(site: TemplateSite, note: Note, around: Circumstances) -> tuple[ModelWords | None, str | None]:
    if site.summaries is None:
        return None, "no model is configured"
    try:
        return _words(site.summaries.trial(note, around, site.budget)), None
    except SummaryRefused as refusal:
        return None, str(refusal)


def note_of(record: AlertRecord, now: datetime) -> Note:
    """A message about a stored alert as it stands, on no channel."""
    metadata = record.metadata
    return Note(
        notification_id=record.id,
        alert_id=record.id,
        account_id=record.account_id,
        merchant_name=record.merchant_name,
        alert_type=record.alert_type,
        severity=record.severity,
        status=record.status,
        reason=NotifyReason.FIRST if record.resolved_at is None else NotifyReason.RESOLVED,
        rule_summary=str(metadata.get("rule_summary") or ""),
        metrics=_numbers(record.metrics),
        thresholds=_numbers(metadata.get("thresholds")),
        occurrence_count=record.occurrence_count,
        first_triggered_at=record.first_triggered_at,
        last_triggered_at=record.last_triggered_at,
        resolved_at=record.resolved_at,
        channel_type="",
        channel_settings={},
        retry_count=0,
        created_at=now,
    )


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (values or {}).items() if value is not None}


def _words(summary: Summary) -> ModelWords:
    return ModelWords(
        title=summary.title,
        summary=summary.text,
        suggested_action=summary.suggested_action,
        severity=summary.opinion,
        model=summary.source,
    )


def _entry(item: StoredTemplate) -> TemplateEntry:
    return TemplateEntry(
        alert_type=item.alert_type,
        template_name=item.template_name,
        prompt_template=item.prompt_template,
        version=item.version,
        is_active=item.is_active,
        created_by=item.created_by,
        created_at=item.created_at,
    )


def _built_in() -> TemplateEntry:
    return TemplateEntry(
        alert_type="",
        template_name="built in",
        prompt_template=DEFAULT_TEMPLATE,
        version=0,
        is_active=True,
        created_by="system",
        created_at=None,
    )


def _bad(error: BadTemplate) -> Response:
    errors = [{"field": "prompt_template", "message": message} for message in error.problems]
    return problem(HTTPStatus.BAD_REQUEST, f"prompt_template: {error}", {"errors": errors})


def _conflict(error: VersionConflict) -> Response:
    """412 where If-Match named the version, 409 where the request did."""
    status = HTTPStatus.PRECONDITION_FAILED if if_match_given() else HTTPStatus.CONFLICT
    words = f"Somebody else has changed this template. The present version is {error.present}."
    return problem(status, words, {"version": error.present}, ETag=f'"{error.present}"')

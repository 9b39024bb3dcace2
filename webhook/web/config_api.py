"""The API of merchant configurations: read, change, versions, restore, and what a change would have meant.

A merchant sees its own accounts alone: another's does not exist for it, and what staff set of it stays as it is. A
change applies to whatever there is, unless it names the version that was seen, in the request or as `If-Match`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import ConfigDict, Field
from werkzeug.exceptions import NotFound

from webhook.domain.comparison import EXAMPLES
from webhook.domain.configuration import difference
from webhook.domain.evaluation import MerchantConfig
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.pipeline.preview import PreviewBusy, PreviewTooLong
from webhook.ports import ConfigNotFound, SecretUnreadable, StaffOnly, StoreConflict, UnknownMasks, VersionConflict
from webhook.storage.config_rows import StoredConfig
from webhook.storage.configs import ConfigStore, Saved
from webhook.web.access import principal
from webhook.web.api import answer, if_match_given, named_versions
from webhook.web.api_parameters import Query
from webhook.web.config_answers import (
    ConfigDeleted,
    ConfigList,
    ConfigSaved,
    PreviewAnswer,
    SavedOrDryRun,
    VersionList,
    config_entry,
    dry_run_answer,
    version_entry,
)
from webhook.web.config_document import AccountId, AlertType, ConfigBody, Settings, Version, warnings_of
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import Parameters
from webhook.web.problems import problem

_STAFF = "is set by staff alone: ask for it, or set a webhook_url of your own"
ERRORS = problems(404, 409, 412)


class ConfigQuery(Query):
    merchant_id: AccountId
    alert_type: AlertType | None = None


class OneConfig(Query):
    merchant_id: AccountId
    alert_type: AlertType
    version: Version | None = None


class VersionsQuery(Query):
    merchant_id: AccountId
    alert_type: AlertType
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class DryRun(Query):
    dry_run: bool = False


class ConfigMatch(Query):
    """Read by `named_versions`; here for the document."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    if_match: str | None = Field(
        None, alias="If-Match", json_schema_extra={"example": '"3"'}, description="The version that was seen: else 412."
    )


class RestoreBody(Parameters):
    """`restore_version` is the old one, `version` the present one that was seen."""

    merchant_id: AccountId
    alert_type: AlertType
    version: Version | None = None
    restore_version: Annotated[Version, Field(ge=1)]


class WebhookSecretBody(Parameters):
    """`version` is the present one that was seen."""

    merchant_id: AccountId
    alert_type: AlertType
    version: Version | None = None


class PreviewBody(Settings):
    merchant_id: AccountId
    days: Annotated[float, Field(gt=0, le=30)] = 7
    examples: Annotated[int, Field(ge=1, le=50, description="Of each kind of change.")] = EXAMPLES


@dataclass(frozen=True, slots=True)
class ConfigSite:
    """What the views share. `preview` answers with what the API shows, and so many examples of each kind.

    `check_urls` compares with what is stored, and raises ForbiddenAddress. `set_up`: the channels that can send.
    """

    store: ConfigStore
    clock: Callable[[], datetime]
    preview: Callable[[MerchantConfig, timedelta, datetime, int], dict[str, Any]]
    check_urls: Callable[[MerchantConfig, StoredConfig | None], None]
    set_up: Collection[str]


def config_blueprint(site: ConfigSite) -> APIBlueprint:
    routes = blueprint("config", "Configuration")
    _add_reading(routes, site)
    _add_writing(routes, site)
    _add_taking_back(routes, site)
    _add_rotation(routes, site)
    _add_preview(routes, site)
    _add_errors(routes)
    return routes


def _add_reading(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.get("/alerts/config", responses={200: ConfigList, **problems(404)})
    def read_config(query: ConfigQuery) -> Response:
        """The configurations of one merchant, secrets masked."""
        _own(query.merchant_id)
        found = site.store.stored(accounts=[query.merchant_id], alert_type=query.alert_type)
        return answer(ConfigList(merchant_id=query.merchant_id, alert_configs=[config_entry(item) for item in found]))

    @routes.get("/alerts/config/versions", responses={200: VersionList, **problems(404)})
    def read_versions(query: VersionsQuery) -> Response:
        """What a configuration was, newest first; empty documents are deletions."""
        _own(query.merchant_id)
        found = site.store.versions(query.merchant_id, query.alert_type, limit=query.limit)
        data = [version_entry(item) for item in found]
        return answer(VersionList(merchant_id=query.merchant_id, alert_type=query.alert_type, data=data))


def _add_writing(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.put("/alerts/config", responses={200: SavedOrDryRun, **ERRORS, **problems(413, 415)})
    def write_config(header: ConfigMatch, query: DryRun, body: ConfigBody) -> Response:  # noqa: ARG001 - see ConfigMatch
        """Replace the configuration of one alert type; a masked secret keeps the stored one."""
        _own(body.merchant_id)
        config, known = site.store.completed(body.config(), principal())
        site.check_urls(config, known)
        if query.dry_run:
            changes = difference(known.config if known else None, config)
            return answer(dry_run_answer(known, changes, warnings_of(config, site.set_up)))
        (saved,) = site.store.save([config], principal(), site.clock(), versions=named_versions(body.version))
        return _saved(saved, warnings_of(config, site.set_up))


def _add_taking_back(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.delete("/alerts/config", responses={200: ConfigDeleted, **ERRORS})
    def delete_config(header: ConfigMatch, query: OneConfig) -> Response:  # noqa: ARG001 - see ConfigMatch
        """From then on the rule alone decides; its versions stay."""
        _own(query.merchant_id)
        now, versions = site.clock(), named_versions(query.version)
        version = site.store.delete(query.merchant_id, query.alert_type, principal(), now, versions=versions)
        return answer(ConfigDeleted(message="Alert configuration deleted", updated_at=now, version=version))

    @routes.post("/alerts/config/restore", responses={200: ConfigSaved, **ERRORS, **problems(413, 415)})
    def restore_config(header: ConfigMatch, body: RestoreBody) -> Response:  # noqa: ARG001 - see ConfigMatch
        """An old version becomes the next one."""
        _own(body.merchant_id)
        saved = site.store.restore(
            body.merchant_id,
            body.alert_type,
            body.restore_version,
            principal(),
            site.clock(),
            versions=named_versions(body.version),
        )
        return _saved(saved, [])


def _add_rotation(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.post("/alerts/config/webhook-secret", responses={200: ConfigSaved, **ERRORS, **problems(413, 415)})
    def rotate_webhook_secret(header: ConfigMatch, body: WebhookSecretBody) -> Response:  # noqa: ARG001 - see ConfigMatch
        """Another secret signs messages to the merchant's webhook from the next one on; it is shown here alone."""
        _own(body.merchant_id)
        saved = site.store.rotate_webhook_secret(
            body.merchant_id, body.alert_type, principal(), site.clock(), versions=named_versions(body.version)
        )
        return _saved(saved, [])


def _add_preview(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.post("/alerts/config/preview", responses={200: PreviewAnswer, **problems(404, 413, 415, 422)})
    def preview_config(body: PreviewBody) -> Response:
        """What the last days would have looked like with this configuration; nothing is written."""
        _own(body.merchant_id)
        config, _ = site.store.completed(body.config_for(body.merchant_id), principal())
        return jsonify(site.preview(config, timedelta(days=body.days), site.clock(), body.examples))


def _add_errors(routes: APIBlueprint) -> None:
    routes.register_error_handler(UnknownMasks, _unclear_masks)
    routes.register_error_handler(VersionConflict, _conflict)
    routes.register_error_handler(ForbiddenAddress, _forbidden_address)
    routes.register_error_handler(StaffOnly, _staff_only)
    routes.register_error_handler(PreviewBusy, _preview_busy)
    routes.register_error_handler(PreviewTooLong, _preview_too_long)
    routes.register_error_handler(
        ConfigNotFound, lambda _: problem(HTTPStatus.NOT_FOUND, "There is no such configuration, or no such version.")
    )
    routes.register_error_handler(
        StoreConflict, lambda _: problem(HTTPStatus.CONFLICT, "Somebody else changes the same configuration just now.")
    )
    routes.register_error_handler(
        SecretUnreadable,
        lambda error: problem(HTTPStatus.SERVICE_UNAVAILABLE, f"Secrets cannot be stored: {error}.", Retry_After="60"),
    )


def _preview_busy(_: PreviewBusy) -> Response:
    detail = "Another preview is running here; one runs at a time."
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, Retry_After="5")


def _preview_too_long(error: PreviewTooLong) -> Response:
    detail = f"The preview {error}: ask for fewer days, or propose fewer conditions."
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _own(account_id: str) -> None:
    if not principal().may_see(account_id):
        raise NotFound("There is no such merchant.")


def _conflict(error: VersionConflict) -> Response:
    """412 where If-Match named the version, 409 where the request did."""
    status = HTTPStatus.PRECONDITION_FAILED if if_match_given() else HTTPStatus.CONFLICT
    detail = "Somebody else has changed this configuration." if error.present else "There is no configuration yet."
    words = f"{detail} The present version is {error.present}."
    return problem(status, words, {"version": error.present}, ETag=f'"{error.present}"')


def _forbidden_address(error: ForbiddenAddress) -> Response:
    field, _, message = str(error).partition(": ")
    return _refused(HTTPStatus.BAD_REQUEST, {field: message})


def _unclear_masks(error: UnknownMasks) -> Response:
    return _refused(HTTPStatus.BAD_REQUEST, error.problems)


def _staff_only(error: StaffOnly) -> Response:
    return _refused(HTTPStatus.FORBIDDEN, dict.fromkeys(error.places, _STAFF))


def _refused(status: HTTPStatus, messages: dict[str, str]) -> Response:
    """With each field by itself, as for what is wrong in form."""
    errors = [{"field": field, "message": message} for field, message in messages.items()]
    detail = "; ".join(f"{field}: {message}" for field, message in messages.items())
    return problem(status, detail, {"errors": errors})


def _saved(saved: Saved, warnings: list[str]) -> Response:
    words = "is as it was" if saved.change == "unchanged" else f"{saved.change} successfully"
    told = ConfigSaved(
        config_id=saved.id,
        message=f"Alert configuration {words}",
        updated_at=saved.updated_at,
        version=saved.version,
        warnings=warnings,
        webhook_secret=saved.webhook_secret or None,
    )
    return answer(told, version=saved.version)

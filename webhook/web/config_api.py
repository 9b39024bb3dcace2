"""The API of merchant configurations: read, change, versions, restore, and what a change would have meant.

A merchant sees its own accounts alone: another's does not exist for it. What exists is changed only by whoever names
the version that they saw, in the body or as `If-Match`; `If-Match: *` overwrites whatever there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from flask import Response, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import BadRequest, NotFound

from webhook.domain.configuration import difference, document_of, masked_document
from webhook.domain.evaluation import MerchantConfig
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.ports import ConfigNotFound, SecretUnreadable, StoreConflict, UnknownMasks, VersionConflict
from webhook.storage.config_rows import StoredConfig
from webhook.storage.configs import ANY_VERSION, ConfigStore, Saved
from webhook.web.access import principal
from webhook.web.config_document import AccountId, ConfigBody, Settings, warnings_of, with_defaults
from webhook.web.openapi import blueprint
from webhook.web.problems import problem

MAX_BODY = 64 * 1024

AlertType = Annotated[str, Field(min_length=1, max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConfigQuery(_Strict):
    merchant_id: AccountId
    alert_type: AlertType | None = None


class OneConfig(_Strict):
    merchant_id: AccountId
    alert_type: AlertType
    version: Annotated[int, Field(ge=0)] | None = None


class VersionsQuery(_Strict):
    merchant_id: AccountId
    alert_type: AlertType
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class DryRun(_Strict):
    dry_run: bool = False


class RestoreBody(OneConfig):
    """`restore_version` is the old one, `version` the present one that was seen."""

    restore_version: Annotated[int, Field(ge=1)]


class PreviewBody(Settings):
    merchant_id: AccountId
    days: Annotated[float, Field(gt=0, le=30)] = 7


@dataclass(frozen=True, slots=True)
class ConfigSite:
    """What the views share. `preview` answers with what the API shows; `check_urls` raises ForbiddenAddress."""

    store: ConfigStore
    clock: Callable[[], datetime]
    preview: Callable[[MerchantConfig, timedelta, datetime], dict[str, Any]]
    check_urls: Callable[[MerchantConfig], None]


def config_blueprint(site: ConfigSite) -> APIBlueprint:
    routes = blueprint("config", "Configuration")
    _add_reading(routes, site)
    _add_changes(routes, site)
    _add_preview(routes, site)
    _add_errors(routes)
    return routes


def _add_reading(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.get("/alerts/config")
    def read_config(query: ConfigQuery) -> Response:
        """The configurations of one merchant, secrets masked."""
        _own(query.merchant_id)
        found = site.store.stored(accounts=[query.merchant_id], alert_type=query.alert_type)
        return jsonify(merchant_id=query.merchant_id, alert_configs=[_entry(item) for item in found])

    @routes.get("/alerts/config/versions")
    def read_versions(query: VersionsQuery) -> Response:
        """What a configuration was, newest first; empty documents are deletions."""
        _own(query.merchant_id)
        found = site.store.versions(query.merchant_id, query.alert_type, limit=query.limit)
        data = [
            {
                "version": item.version,
                "changed_by": item.changed_by,
                "created_at": _time(item.created_at),
                "deleted": not item.document,
                "document": masked_document(item.document),
            }
            for item in found
        ]
        return jsonify(merchant_id=query.merchant_id, alert_type=query.alert_type, data=data)


def _add_changes(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.put("/alerts/config")
    def write_config(query: DryRun, body: ConfigBody) -> Response:
        """Replace the configuration of one alert type; a masked secret keeps the stored one."""
        _own(body.merchant_id)
        config, known = site.store.completed(body.config())
        site.check_urls(config)
        if query.dry_run:
            return jsonify(_dry_run(config, known))
        (saved,) = site.store.save([config], principal(), site.clock(), expected=_expected(body.version))
        return _answer(saved, config)

    @routes.delete("/alerts/config")
    def delete_config(query: OneConfig) -> Response:
        """From then on the rule alone decides; its versions stay."""
        _own(query.merchant_id)
        now = site.clock()
        version = site.store.delete(
            query.merchant_id, query.alert_type, principal(), now, expected=_expected(query.version)
        )
        return jsonify(message="Alert configuration deleted", updated_at=_time(now), version=version)

    @routes.post("/alerts/config/restore")
    def restore_config(body: RestoreBody) -> Response:
        """An old version becomes the next one."""
        _own(body.merchant_id)
        saved = site.store.restore(
            body.merchant_id,
            body.alert_type,
            body.restore_version,
            principal(),
            site.clock(),
            expected=_expected(body.version),
        )
        return _answer(saved, None)


def _add_preview(routes: APIBlueprint, site: ConfigSite) -> None:
    @routes.post("/alerts/config/preview")
    def preview_config(body: PreviewBody) -> Response:
        """What the last days would have looked like with this configuration; nothing is written."""
        _own(body.merchant_id)
        config = body.config_for(body.merchant_id)
        return jsonify(site.preview(config, timedelta(days=body.days), site.clock()))


def _add_errors(routes: APIBlueprint) -> None:
    routes.register_error_handler(UnknownMasks, _masks_of_nothing)
    routes.register_error_handler(VersionConflict, _conflict)
    routes.register_error_handler(ForbiddenAddress, _forbidden_address)
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


def _own(account_id: str) -> None:
    if not principal().may_see(account_id):
        raise NotFound("There is no such merchant.")


def _expected(version: int | None) -> int | None:
    """The version that the writer saw, from the body or `If-Match`; None where they named none."""
    header = request.headers.get("If-Match")
    if header is None:
        return version
    if version is not None:
        raise BadRequest("version: is given in the request and as If-Match.")
    tag = header.strip().removeprefix("W/").strip('"')
    if tag == "*":
        return ANY_VERSION
    if not tag.isascii() or not tag.isdigit():
        raise BadRequest('If-Match: must be the version, such as "3", or *.')
    return int(tag)


def _conflict(error: VersionConflict) -> Response:
    """412 where If-Match named the version, 409 where the body did, 428 where nobody did."""
    if not error.named:
        status, detail = HTTPStatus.PRECONDITION_REQUIRED, "Name the version that you saw, or send If-Match: *."
    else:
        status = HTTPStatus.PRECONDITION_FAILED if "If-Match" in request.headers else HTTPStatus.CONFLICT
        detail = "Somebody else has changed this configuration." if error.present else "There is no configuration yet."
    return problem(status, f"{detail} The present version is {error.present}.", {"version": error.present})


def _forbidden_address(error: ForbiddenAddress) -> Response:
    field, _, message = str(error).partition(": ")
    return problem(HTTPStatus.BAD_REQUEST, f"{error}.", {"errors": [{"field": field, "message": message}]})


def _masks_of_nothing(error: UnknownMasks) -> Response:
    errors = [
        {"field": place, "message": "is a mask of nothing that is stored: send it whole"} for place in error.places
    ]
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in errors)
    return problem(HTTPStatus.BAD_REQUEST, detail, {"errors": errors})


def _entry(item: StoredConfig) -> dict[str, Any]:
    return {
        "config_id": item.id,
        **with_defaults(masked_document(document_of(item.config))),
        "version": item.config.version,
        "updated_at": _time(item.updated_at),
        "updated_by": item.updated_by,
    }


def _answer(saved: Saved, config: MerchantConfig | None) -> Response:
    words = "is as it was" if saved.change == "unchanged" else f"{saved.change} successfully"
    response = jsonify(
        config_id=saved.id,
        message=f"Alert configuration {words}",
        updated_at=_time(saved.updated_at),
        version=saved.version,
        warnings=warnings_of(config) if config is not None else [],
    )
    response.headers["ETag"] = f'"{saved.version}"'
    return response


def _dry_run(config: MerchantConfig, known: StoredConfig | None) -> dict[str, Any]:
    changes = difference(known.config if known else None, config)
    return {
        "dry_run": True,
        "change": ("changed" if changes else "unchanged") if known else "added",
        "version": known.config.version if known else 0,
        "changes": [{"field": path, "from": before, "to": after} for path, before, after in changes],
        "warnings": warnings_of(config),
    }


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

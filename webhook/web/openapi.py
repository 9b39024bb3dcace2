"""The API's frame: the application with its OpenAPI document, and blueprints that share errors and security.

A module that adds routes makes a blueprint with `blueprint`, gives each route pydantic models at module level as type
hints (`path`, `query`, `body`), the model of its answer in `responses={200: …}`, and what else it may answer with
`problems(404, 409)`. What a request gets wrong is a 400, whichever part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from flask import Response, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.models.schema import Schema
from flask_openapi3.models.tag import Tag
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from webhook.domain.session import IllegalChange
from webhook.ports import AlertNotFound
from webhook.web.depth import TooDeep, check_depth
from webhook.web.problems import problem

PREFIX = "/api/v1"
SCHEMAS = "#/components/schemas/"
SECURITY: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or the admin token."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sentinel_session",
        "description": "Of the pages' login. Changes need the header `X-CSRFToken` as well.",
    },
}
COMMON = (400, 401, 403, 429, 500, 503)
"""What any route may answer."""

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """Where a request is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it; some carry more members, which their routes describe."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(json_schema_extra={"example": "about:blank"})
    title: str = Field(json_schema_extra={"example": "Not Found"})
    status: int = Field(json_schema_extra={"example": 404})
    detail: str = Field(json_schema_extra={"example": "There is no such alert."})
    errors: list[FieldError] = Field([], description="Of a 400: each mistake by itself.")
    error_id: str = Field("", description="Of a 500: stands beside the cause in the log.")
    version: int | None = Field(None, description="Of a 409 or 412: the alert's present version.")


class Application(OpenAPI):
    """Flask with an OpenAPI document; an unexpected error is logged with the id that its answer carries."""

    def log_exception(self, exc_info: Any) -> None:  # noqa: ANN401 - Flask's signature
        g.error_id = uuid4().hex
        log.error("request_failed", error_id=g.error_id, method=request.method, path=request.path, exc_info=exc_info)


class _Blueprint(APIBlueprint):
    """Refuses what the library would overlook: a body that is no JSON object, a parameter that is given twice."""

    @staticmethod
    def create_view_func(func: Callable[..., Any], *models: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - the library's signature
        query, body = models[3], models[5]
        view: Callable[..., Any] = APIBlueprint.create_view_func(func, *models, **options)

        @wraps(view)
        def checked(**arguments: Any) -> Any:  # noqa: ANN401 - what the view answers
            if query is not None:
                _check_query()
            if body is not None:
                _check_body()
            return view(**arguments)

        return checked


def _check_query() -> None:
    for name, values in request.args.lists():
        if len(values) > 1:
            raise BadRequest(f"{name}: given {len(values)} times.")


def _check_body() -> None:
    """No body at all is left to the model: it may have nothing that is required."""
    given = request.get_data()
    if not given:
        return
    if not request.is_json:
        raise UnsupportedMediaType("Send a JSON object with Content-Type: application/json.")
    try:
        document = request.get_json()
        check_depth(document)
    except (RecursionError, TooDeep):
        raise BadRequest(f"The body is {TooDeep()}.") from None
    if not isinstance(document, dict):
        raise BadRequest("Send a JSON object.")


def application() -> OpenAPI:
    """The web application, without routes yet."""
    return Application(
        "webhook",
        info=Info(
            title="Sentinel",
            version="1.0",
            description="Fraud alerts of payment merchants: what fired, why, who was told, and what was done about it.",
        ),
        security_schemes=SECURITY,
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=invalid,
        doc_ui=False,
        static_folder=None,
    )


def blueprint(name: str, tag: str) -> APIBlueprint:
    """Routes under /api/v1 that the document lists under `tag`."""
    routes = _Blueprint(
        name,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=tag)],
        abp_security=[{scheme: []} for scheme in SECURITY],
        abp_responses=problems(*COMMON),
        operation_id_callback=_operation_id,
    )
    routes.register_error_handler(ValidationError, invalid)
    routes.register_error_handler(AlertNotFound, lambda _: problem(HTTPStatus.NOT_FOUND, "There is no such alert."))
    routes.register_error_handler(IllegalChange, lambda error: problem(HTTPStatus.CONFLICT, f"{error}."))
    return routes


def describe(app: OpenAPI, routes: APIBlueprint) -> None:
    """Put routes into the document that the application serves by other means: `routes` itself is not registered."""
    app.paths |= routes.paths
    app.components_schemas |= routes.components_schemas
    app.tags += [tag for tag in routes.tags if tag.name not in app.tag_names]
    app.tag_names += [name for name in routes.tag_names if name not in app.tag_names]


def schemas_of(*models: type[BaseModel]) -> dict[str, Schema]:
    """Components of the document, for answers that are described by hand."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template=SCHEMAS + "{model}", mode="serialization")
        found |= schema.pop("$defs", {}) | {model.__name__: schema}
    return {name: Schema(**schema) for name, schema in found.items()}


def problems(*statuses: int) -> dict[Any, Any]:
    """The document's description of errors."""
    schema = {"schema": {"$ref": SCHEMAS + Problem.__name__}}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": schema},
        }
        for status in statuses
    }


def invalid(error: ValidationError) -> Response:
    """400, with each mistake by itself."""
    errors = [
        {"field": ".".join(str(part) for part in entry["loc"]), "message": entry["msg"]}
        for entry in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    detail = "; ".join(": ".join(filter(None, entry.values())) for entry in errors)
    return problem(HTTPStatus.BAD_REQUEST, detail, {"errors": errors})


def http_problem(error: HTTPException) -> Response:
    """Any HTTP error as a problem, with the headers it carries (Retry-After, Allow)."""
    status = HTTPStatus(error.code or 500)
    members = {"error_id": g.error_id} if status is HTTPStatus.INTERNAL_SERVER_ERROR and "error_id" in g else {}
    response = problem(status, error.description or status.phrase, members)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sentinel"'
    return response


def _operation_id(*, bp_name: str, name: str, path: str, method: str) -> str:  # noqa: ARG001 - the library's signature
    return f"{bp_name}_{name}"

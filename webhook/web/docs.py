"""The API's document for programs, and a page for people that reads it. All files are our own or the plug-in's."""

from __future__ import annotations

from pathlib import Path

import flask_openapi3_swagger
from flask import Blueprint, Flask, Response, current_app, jsonify, render_template
from flask_openapi3.openapi import OpenAPI

from webhook.web.openapi import PREFIX

SWAGGER = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Swagger UI sets styles on its elements and draws with data URIs; scripts are files of this host alone."""


def document_blueprint() -> Blueprint:
    """GET /api/v1/openapi.json: what every route takes and answers."""
    routes = Blueprint("document", __name__)

    @routes.get(f"{PREFIX}/openapi.json")
    def openapi() -> Response:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - of the proxy
        assert isinstance(app, OpenAPI)
        return jsonify(app.api_doc)

    return routes


def reader_blueprint() -> Blueprint:
    """GET /docs/api: the document as a page, to read and to try out as whoever is logged in."""
    routes = Blueprint("reader", __name__, template_folder="templates")

    @routes.get("/docs/api")
    def api() -> Response:
        response = Response(render_template("api.html"), mimetype="text/html")
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return routes


def swagger_blueprint() -> Blueprint:
    """The plug-in's script and style under /assets/swagger."""
    return Blueprint("swagger", __name__, static_folder=SWAGGER, static_url_path="/assets/swagger")

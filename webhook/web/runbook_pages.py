"""Pages that tell what to do about an alert, one for each rule: docs/runbooks, for those on call."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, render_template
from markdown_it import MarkdownIt
from markupsafe import Markup
from werkzeug.exceptions import NotFound

import webhook
from webhook.web.access import principal

FOLDER = Path(webhook.__file__).parent / "runbooks"


def add_runbook_pages(pages: Blueprint) -> None:
    """GET /runbooks and /runbooks/<name of the rule>; a merchant finds nothing there."""
    pages.add_url_rule("/runbooks", "runbooks", _list)
    pages.add_url_rule("/runbooks/<name>", "runbook", _page)


def _list() -> str:
    return render_template("runbook.html", names=_names(), name=None, text=None)


def _page(name: str) -> str:
    if name not in _names():  # of our own files: what is asked for is never a path
        raise NotFound
    words = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(words)
    return render_template("runbook.html", names=[], name=name, text=Markup(html))  # noqa: S704 - our own words, no HTML in them


def _names() -> list[str]:
    if principal().accounts is not None:
        raise NotFound
    return sorted(path.stem for path in FOLDER.glob("*.md"))

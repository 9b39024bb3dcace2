"""What on-call reads about an alert: its runbook, linked from the alert's page, and not for merchants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import Site
from page_reading import page, shown

from webhook.domain.access import Role
from webhook.storage.tables import alert

DOCS = Path(__file__).resolve().parents[2] / "docs" / "runbooks"


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Site]:
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings={"rate_limit_address": "off"})
    yield site
    site.close()


def with_runbook(site: Site, address: str) -> None:
    with site.database.write() as connection:
        connection.execute(sa.update(alert).where(alert.c.id == site.own).values(metadata={"runbook_url": address}))


def test_every_runbook_is_a_page_with_its_headings_and_queries(ours: Site) -> None:
    ops = ours.logged_in(ours.keys[Role.OPS])
    names = sorted(path.stem for path in DOCS.glob("*.md"))
    assert names
    listed = page(ops, "/runbooks")
    assert [name for name in names if f'href="/runbooks/{name}"' not in listed] == []
    text = page(ops, "/runbooks/OutboxBacklog")
    assert "<h1>OutboxBacklog</h1>" in text
    assert "<h2>Escalate</h2>" in text
    assert "<code>sum by (status) (sentinel_outbox)" in text
    for name in names:
        said = shown(page(ops, f"/runbooks/{name}"))
        assert name in said
        assert "##" not in said


@pytest.mark.parametrize("name", ["Nothing", "..%2F..%2FCHANGELOG", "%2Fetc%2Fpasswd", "OutboxBacklog.md"])
def test_only_runbooks_are_pages(ours: Site, name: str) -> None:
    assert ours.logged_in(ours.keys[Role.OPS]).get(f"/runbooks/{name}").status_code == 404


def test_the_alerts_page_links_it_for_those_on_call_alone(ours: Site) -> None:
    with_runbook(ours, "/runbooks/CardTestingDetected")
    assert '<a href="/runbooks/CardTestingDetected"' in page(ours.logged_in(ours.keys[Role.OPS]), f"/alerts/{ours.own}")
    assert "Runbook" not in page(ours.logged_in(ours.keys[Role.MERCHANT]), f"/alerts/{ours.own}")


def test_the_page_of_an_operations_alert_names_the_team(ours: Site) -> None:
    def told(account: str) -> bool:
        change = {"account_id": account, "metadata": {"labels": {"team": "data & co"}}}
        with ours.database.write() as connection:
            connection.execute(sa.update(alert).where(alert.c.id == ours.own).values(change))
        return "<dt>Team</dt><dd><bdi>data &amp; co" in page(ours.logged_in(ours.keys[Role.OPS]), f"/alerts/{ours.own}")

    assert told("_operations")
    assert not told("acc_001")


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("javascript:alert(1)", None),
        ("//evil.example", None),
        ('https://wiki.example/"><script>', 'href="https://wiki.example/&#34;&gt;&lt;script&gt;"'),
    ],
)
def test_an_address_from_outside_is_a_link_or_nothing(ours: Site, address: str, link: str | None) -> None:
    with_runbook(ours, address)
    text = page(ours.logged_in(ours.keys[Role.OPS]), f"/alerts/{ours.own}")
    assert (">Runbook</a>" in text) == (link is not None)
    assert link is None or link in text
    assert address not in text

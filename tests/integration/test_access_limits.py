"""How often one may ask, as which address one is counted, and who may read the metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from access_rows import Site

from webhook.domain.access import Role


def _read(site: Site, role: Role, address: str = "192.0.2.1", **headers: str) -> Any:
    asked = {"X-API-Key": site.keys[role]} | headers
    return site.client().get("/api/v1/alerts", headers=asked, environ_base={"REMOTE_ADDR": address})


def test_who_asks_too_often_is_told_when_to_come_back(make_site: Callable[..., Site]) -> None:
    site = make_site(rate_limit_read="3/hour")
    assert [_read(site, Role.MERCHANT).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = _read(site, Role.MERCHANT, "192.0.2.2")
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+json")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert _read(site, Role.OPS).status_code == 200


def test_an_address_is_that_of_the_caller_and_of_trusted_proxies_alone(make_site: Callable[..., Site]) -> None:
    """What a caller writes into the header stands left of what the proxy adds to it."""
    bare, proxied = make_site(rate_limit_address="2/hour"), make_site(rate_limit_address="2/hour", trusted_proxies=1)
    callers, invented = (f"198.51.100.{last}" for last in range(3)), [f"203.0.113.{last}" for last in range(3)]
    for site, given, expected in (
        (bare, invented, [200, 200, 429]),
        (proxied, list(callers), [200, 200, 200]),
        (proxied, [f"{address}, 192.0.2.9" for address in invented], [200, 200, 429]),
        (proxied, [f"192.0.2.10:{port}" for port in (1001, 1002, 1003)], [200, 200, 429]),
    ):
        calls = [_read(site, Role.OPS, **{"X-Forwarded-For": header}) for header in given]
        assert [call.status_code for call in calls] == expected


def test_the_addresses_of_one_ipv6_network_are_one(make_site: Callable[..., Site]) -> None:
    site = make_site(rate_limit_address="2/hour")
    network, another = "2001:db8:1:2", "2001:db8:1:3"
    assert [_read(site, Role.OPS, f"{network}::{last}").status_code for last in (1, 2, 3)] == [200, 200, 429]
    assert _read(site, Role.OPS, f"{another}::1").status_code == 200


def test_processes_share_their_limits_through_redis(make_site: Callable[..., Site], redis_server: str) -> None:
    one, other = (make_site(rate_limit_address="5/hour", redis_url=redis_server) for _ in range(2))
    address = "203.0.113.77"
    taken = [_read(site, Role.OPS, address).status_code for site in (one, other) * 3]
    assert taken == [200] * 5 + [429]


def test_limits_go_on_where_redis_is_away(make_site: Callable[..., Site]) -> None:
    site = make_site(rate_limit_read="2/hour", redis_url="redis://127.0.0.1:9")
    assert [_read(site, Role.OPS).status_code for _ in range(3)] == [200, 200, 429]


def test_metrics_are_for_all_until_they_have_a_token(make_site: Callable[..., Site]) -> None:
    assert make_site(metrics_token="").client().get("/metrics").status_code == 200
    client = make_site(metrics_token="a-metrics-token").client()
    for header in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Basic a-metrics-token"}):
        refused = client.get("/metrics", headers=header)
        assert (refused.status_code, refused.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
        assert "sentinel_" not in refused.text
    assert "sentinel_" in client.get("/metrics", headers={"Authorization": "Bearer a-metrics-token"}).text
    assert client.get("/-/healthy").status_code == 200

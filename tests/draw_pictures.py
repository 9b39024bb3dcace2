"""Draws the pictures of docs/pictures anew: `python -m tests.draw_pictures FOLDER`, with Chromium installed.

Messages are the blocks that Slack gets, laid out as Slack does; charts and pages are what Sentinel draws.
"""

from __future__ import annotations

import io
import random
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import page_rows as rows  # noqa: E402 - found by the line above
import sqlalchemy as sa  # noqa: E402
from browsing import Browser, chromium, serving  # noqa: E402
from notes import NOW, ended_note, make_message, make_note  # noqa: E402
from PIL import Image  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

from webhook.adapters.charts import MatplotlibCharts  # noqa: E402
from webhook.domain.alert import NotifyReason  # noqa: E402
from webhook.domain.message import Attention, Message  # noqa: E402
from webhook.domain.severity import Severity  # noqa: E402
from webhook.domain.usual import usual  # noqa: E402
from webhook.notifiers.slack import Slack, SlackOptions  # noqa: E402
from webhook.ports import ChartSpec, Series  # noqa: E402
from webhook.storage.tables import notification  # noqa: E402

_STYLE = """
body{margin:0;background:#fff;font:15px/1.46 Lato,"DejaVu Sans",sans-serif;color:#1d1c1d;width:700px}
#m{padding:14px 20px}.who b{font-weight:900}.who i{font-style:normal;font-size:11px;background:#e8e8e8;padding:0 4px}
.who span,.context{color:#616061;font-size:12px}h3{font-size:18px;margin:6px 0}.s{margin:8px 0}
.fields{display:grid;grid-template-columns:1fr 1fr;gap:8px 16px;margin:8px 0}a{color:#1264a3;text-decoration:none}
.actions span{display:inline-block;border:1px solid #bbb;border-radius:4px;padding:4px 11px;margin:4px 8px 4px 0;
font-weight:700;font-size:13px}.actions .primary{background:#007a5a;color:#fff;border-color:#007a5a}
.sign{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:2px}
.thread{border-left:3px solid #ddd;padding-left:12px;margin-top:12px}
"""


_SIGNS = {"🆘": "#c8281c", "🔴": "#e01e5a", "🟠": "#e8912d", "🟡": "#ecb22e", "✅": "#2eb67d"}
"""Fonts of a bare machine have no emoji."""


def _drawn(page: str) -> str:
    for sign, colour in _SIGNS.items():
        page = page.replace(sign, f'<i class=sign style="background:{colour}"></i>')
    return page


def _marked(text: str) -> str:
    """Slack's markup as HTML; its control characters are escaped in it already."""
    text = re.sub(r"&lt;(https?://[^|&]*)\|([^&]*)&gt;|<(https?://[^|>]*)\|([^>]*)>", r'<a href="#">\2\4</a>', text)
    return re.sub(r"(?<!\u200b)\*(\S[^*\n]*)\*", r"<b>\1</b>", text).replace("\n", "<br>")


def _block(block: Mapping[str, Any]) -> str:
    kind = block["type"]
    if kind == "header":
        return f"<h3>{block['text']['text']}</h3>"
    if kind == "section" and "fields" in block:
        fields = (f"<div>{_marked(one['text'])}</div>" for one in block["fields"])
        return f"<div class=fields>{''.join(fields)}</div>"
    if kind == "section":
        return f"<div class=s>{_marked(block['text']['text'])}</div>"
    if kind == "context":
        return f"<div class=context>{' '.join(one['text'] for one in block['elements'])}</div>"
    words = [(one.get("text") or one["placeholder"])["text"] for one in block["elements"]]
    styles = [one.get("style", "") for one in block["elements"]]
    buttons = (f'<span class="{style}">{word}</span>' for word, style in zip(words, styles, strict=True))
    return f"<div class=actions>{''.join(buttons)}</div>"


def _slack(message: Message, *, reply: bool) -> str:
    shown = Slack(SlackOptions(token="xoxb-1", channel="C1", signing_secret="s")).preview(message, {})
    who = f"<div class=who><b>Sentinel</b> <i>APP</i> <span>{message.created_at:%H:%M}</span></div>"
    body = "".join(map(_block, shown["blocks"]))
    told = f"<div class=thread>{who}{''.join(map(_block, shown['reply']['blocks']))}</div>" if reply else ""
    return _drawn(f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><div id=m>{who}{body}{told}</div>")


def _messages() -> dict[str, str]:
    later = NOW + timedelta(minutes=25)
    graver = make_note(
        reason=NotifyReason.ESCALATED,
        severity=Severity.P0,
        occurrence_count=52,
        created_at=later,
        attention=Attention(acknowledged_by="dana"),
    )
    over = later + timedelta(minutes=40)
    ended = ended_note(
        severity=Severity.P0, occurrence_count=61, created_at=over, resolved_at=later, last_triggered_at=later
    )
    return {
        "slack-first": _slack(make_message(), reply=False),
        "slack-escalated": _slack(make_message(graver), reply=True),
        "slack-ended": _slack(make_message(ended), reply=True),
    }


def _chart(theme: Any) -> bytes:
    chosen, step = random.Random(5), timedelta(seconds=30)
    times = [NOW - step * n for n in reversed(range(240))]
    start = times[195]
    past = {day: [(time, chosen.uniform(0.025, 0.055)) for time in times] for day in range(1, 8)}
    values = [chosen.uniform(0.3, 0.42) if time >= start else chosen.uniform(0.03, 0.05) for time in times]
    spec = ChartSpec(Series("block_rate", times, values), 0.2, "Northwind Books", start, None, NOW, theme)
    level: dict[str, Any] = {"usual": usual(past, start), "step": step}
    return MatplotlibCharts().render(replace(spec, **level))


def _keep(folder: Path, name: str, png: bytes) -> None:
    """In 96 colours: a third of the size, and nothing of it is a photograph."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    picture.save(folder / f"{name}.png", optimize=True)


def _delivery(browser: Browser) -> bytes:
    browser.look((1100, 1000), "light")
    browser.open("/notifications")
    return browser.driver.get_screenshot_as_png()


def _seed(folder: Path) -> Any:
    """A delivery page of a day on which the mail server is away."""
    database, now = rows.open_store(f"sqlite:///{folder}/sentinel.db"), datetime.now(UTC)
    alert_id = rows.seed_attack(database, now)
    rows.insert_notification(database, alert_id, channel="email", status="PENDING", retries=3,
                             at=now - timedelta(minutes=2), error="SMTP: connection refused")  # fmt: skip
    with database.write() as connection:
        mine = notification.c.channel_type == "slack"
        connection.execute(sa.update(notification).where(mine).values(sent_at=now - timedelta(minutes=4)))
    return database


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for theme, name in (("light", "chart"), ("dark", "chart-dark")):
        _keep(folder, name, _chart(theme))
    with tempfile.TemporaryDirectory() as place:
        app, _ = rows.make_app(_seed(Path(place)), lambda: datetime.now(UTC))
        with serving(app) as url, chromium(Path(place) / "profile") as driver:
            browser = Browser(driver, url)
            browser.look((740, 900), "light")
            for name, page in _messages().items():
                (Path(place) / f"{name}.html").write_text(page, encoding="utf-8")
                driver.get(f"file://{place}/{name}.html")
                _keep(folder, name, driver.find_element(By.ID, "m").screenshot_as_png)
            browser.open(f"/login?token={rows.TOKEN}")
            _keep(folder, "delivery", _delivery(browser))


if __name__ == "__main__":
    main()

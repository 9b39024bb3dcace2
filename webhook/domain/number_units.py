"""What a number in a text counts, by the words around it, in the languages that models are most often asked to write.

Where nothing is recognised it is a plain number, which may be any but a share in percent, a duration or money.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from webhook.domain.number_words import PERCENT


class Told(Enum):
    PLAIN = "plain"
    COUNT = "count"
    PERCENT = "percent"
    RATIO = "ratio"
    MONEY = "money"
    PER_SECOND = "per second"
    MILLISECONDS = "ms"
    SECONDS = "s"
    MINUTES = "min"
    HOURS = "h"
    DAYS = "d"
    UNKNOWN = "of no metric"  # per minute, weeks


_TIMES: Mapping[Told, str] = {
    Told.MILLISECONDS: r"ms\b|mill?ise[ckg]\w*|миллисекунд\w*|мс\b|毫秒|ミリ秒|밀리초",
    Told.SECONDS: r"s\b|secs?\b|seconds?\b|sek\b|sekunden?\b|secondes?\b|segundos?\b|second[oi]\b|seconden\b|"
    r"сек\b|секунд\w*|с(?=[.,;)]|$)|秒|초(?![과기반])",  # noqa: RUF001 - Russian
    Told.MINUTES: r"mins?\b|minutes?\b|minuten?\b|minut[oi]s?\b|mn\b|мин\b|минут\w*|分(?!之)|분(?!의)",
    Told.HOURS: r"h(?:\b|(?=\d))|hrs?\b|hours?\b|std\b|stunden?\b|heures?\b|horas?\b|ore\b|uur\b|uren\b|ч\b|час\w*|"
    r"小时|小時|時間|시간|时|時",
    Told.DAYS: r"d\b(?!['\u2019])|days?\b|tag(?:e[ns]?)?\b|tägig\w*|jours?\b|d[íi]as?\b|giorn[oi]\b|dag(?:en)?\b|"
    r"д(?:ень|ня|ней|н)\b|сут\w*|天|日|일",
    Told.UNKNOWN: r"weeks?\b|months?\b|years?\b|wochen?\b|monat\w*|jahr\w*|semaines?\b|mois\b|ans?\b|semanas?\b|"
    r"mes(?:es)?\b|años?\b|anos?\b|settiman\w+|mesi\b|anni\b|weken\b|maanden\b|jaar\b|недел\w+|месяц\w*|лет\b|год\w*|"
    r"周|週|个月|個月|か月|ヶ月|年|주(?![문의요장])|개월|년",
}
COUNTS = "payments"
"""A word for anything that is counted."""

_COUNTED = (
    r"payment|transaction|card|charge|attempt|order|trigger|alert|customer|decline|authori[sz]ation|purchase|account|"
    r"zahlung|transaktion|karte|rückbuchung|versuch|bestellung|auslös|warnung|kunde|autorisierung|"
    r"paiement|carte|tentative|commande|déclench|alerte|client|autorisation|"
    r"pago|transacci|tarjeta|intento|pedido|alerta|autorizaci|contracargo|"
    r"pagament|transazion|cart[ae]\b|tentativ|ordin|avvis|autorizzazion|"
    r"transaç|cart(?:ão|ões)|autorizaç|estorno|"
    r"betaling|transactie|kaart|poging|bestelling|melding|"
    r"плат[её]ж|транзакц|карт|попыт|заказ|оповещ|срабатыв|клиент|"
    r"[笔筆张張次个個件枚回名条起건장회번명개]"
)
_LINKS = (
    r"of|in|on|at|by|and|or|to|for|from|von|der|des|bei|und|de|des|du|et|à|en|y|del|di|dei|delle|della|e|do|da|dos|"
    r"das|van|из|и|на|в"
)
_MONEY = (
    r"[€$£¥₽₩元円원]|(?:usd|eur|gbp|jpy|cny|krw|rub|chf|brl|mxn)\b|dollars?\b|dólar\w*|dollar[io]\b|euros?\b|pounds?\b|"
    r"pfund\b|livres?\b|libras?\b|sterline\b|рубл\w*|долл\w*|евро\b|yen\b|yuan\b|reais\b|pesos?\b"
)
_RATIO = (
    r"times\s+(?:the|as|more|higher|greater|larger|bigger|its|their|what|that|usual|normal)\b|"
    r"mal\s+(?:so|mehr|höher|größer|häufiger)|fois\s+(?:plus|le|la|les|sup|son|sa)|veces\s+(?:más|el|la|su|mayor)|"
    r"volte\s+(?:più|il|la|sup)|vezes\s+(?:mais|o|a|maior|sup)|(?:keer|maal)\s+(?:zo|meer|hoger|het|de)\b|"
    r"раза?\s+(?:больше|выше|чаще)"
)
_WORD = r"[^\W\d_]+"
_PER = rf"(?:(?:{_WORD}\s*)?(?:/|[每毎])\s*|(?:per|an?|pro|je|par|por|al|alla|в|every|each)\s+)"
_GAP = r"[\s\u2010-]*"


def _after(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_ONE_TIME = {unit: _after(rf"{_GAP}(?:{words})") for unit, words in _TIMES.items()}
_LATER_TIME = {
    unit: _after(rf"\s+(?!(?:{_COUNTED}|(?:{_LINKS})\b)){_WORD}\s+(?:{words})") for unit, words in _TIMES.items()
}
_PER_TIME = {unit: _after(rf"{_GAP}(?:{_WORD}\s+){{0,3}}?{_PER}(?:{words})") for unit, words in _TIMES.items()}
_IS_PERCENT = _after(rf"\s*(?:{PERCENT})")
_RANGE = _after(rf",?\s*(?:[\u2013\u2014~〜-]|{_WORD}(?<!\w{{7}}))?\s*\d[\d.,]*\s*(?:{PERCENT})")
_IS_COUNT = _after(rf"{_GAP}(?:(?!(?:{_LINKS})\b){_WORD}\s+){{0,2}}?(?:{_COUNTED})")
_IS_MONEY = _after(rf"\s*(?:{_MONEY})")
_IS_RATIO = _after(rf"\s*(?:{_RATIO})")
_MONEY_BEFORE = _after(r"(?:[€$£¥₽₩]|\b(?:usd|eur|gbp|jpy|cny|krw|rub|chf|brl|mxn))\s*$")
_SECOND_BEFORE = _after(rf"(?:每秒|毎秒|秒間|秒あたり|초당)\s*(?:{_WORD})?\s*$")
_TIME_BEFORE = _after(
    rf"(?:每分|每小时|每天|每日|毎分|毎時|毎日|分あたり|時間あたり|분당|시간당|하루)\s*(?:{_WORD})?\s*$"
)
_HOURS_AND_MINUTES = _after(r"\d\s?h$")


def told_as(text: str, start: int, end: int) -> frozenset[Told]:
    """What the number between `start` and `end` may be; several where the words leave it open."""
    before = text[max(0, start - 12) : start]
    if _IS_PERCENT.match(text, end):
        return frozenset({Told.PERCENT})
    unit = _measured(text, end, before) or _per_time(text, end, before)
    if unit is None:
        unit = Told.COUNT if _IS_COUNT.match(text, end) else Told.PLAIN
    found = {unit}
    if _RANGE.match(text, end):
        found.add(Told.PERCENT)
    if unit is Told.PLAIN:
        found |= {later for later, words in _LATER_TIME.items() if words.match(text, end)}
    return frozenset(found)


def _measured(text: str, end: int, before: str) -> Told | None:
    if _IS_MONEY.match(text, end) or _MONEY_BEFORE.search(before):
        return Told.MONEY
    if _IS_RATIO.match(text, end):
        return Told.RATIO
    if _HOURS_AND_MINUTES.search(before):
        return Told.MINUTES
    return next((unit for unit, words in _ONE_TIME.items() if words.match(text, end)), None)


def _per_time(text: str, end: int, before: str) -> Told | None:
    """No metric is told per minute, hour or day."""
    if _SECOND_BEFORE.search(before) or _PER_TIME[Told.SECONDS].match(text, end):
        return Told.PER_SECOND
    others = (words for unit, words in _PER_TIME.items() if unit is not Told.SECONDS)
    return Told.UNKNOWN if _TIME_BEFORE.search(before) or any(words.match(text, end) for words in others) else None

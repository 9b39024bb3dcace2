"""Which numbers of a text are ours, in the languages that models are asked to write."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from notes import make_note

from webhook.domain.circumstances import Circumstances, EarlierAlerts
from webhook.domain.numbers import invented_numbers

NOTE = make_note(metrics={"block_rate": 0.35038363171355497, "transaction_count": 1234.0, "odd_2": 2.5})


def invented(text: str, language: str = "en") -> list[str]:
    return invented_numbers(text, NOTE, Circumstances(language=language))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "35.0 %, 1,234 payments, 3 triggers, three triggers; two-factor, 2FA, 3DS2, CVV2, P1, 24/7."),
        ("en", "Third parties, quarterly reports and hundredweights hold no claim: no one is told of it."),
        ("de", "35,0 Prozent von 1.234 Zahlungen, seit dem 21.11.2025 um 10:30; drei Auslöser."),
        ("de-CH", "35.0 % von 1\u2019234 Zahlungen"),
        ("fr", "35,0 % des 1\u202f234 paiements, plus de 20 pour cent, trois fois"),
        ("es", "35 por ciento de 1.234 pagos"),
        ("it", "35,0 per cento di 1.234 pagamenti"),
        ("pt", "35,0 por cento de 1.234 pagamentos"),
        ("nl", "35,0 procent van 1.234 betalingen"),
        ("ru", "35,0 % из 1 234 платежей; сотрудники проверяют"),
        ("zh", "共1234笔交易,拦截率35.0%,比率较高"),
        ("ja", "取引1,234件のうち35.0%が拒否、割合が高い"),
        ("ar", "\u0663\u0665\u066a"),
    ],
)
def test_ours(language: str, text: str) -> None:
    assert invented(text, language) == []


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ".87 of payments"),
        ("en", "5k payments"),
        ("en", "3x the usual"),
        ("en", "1e6 payments"),
        ("en", "USD5000 lost"),
        ("en", "acc_018 too"),
        ("en", "2\u20443 of them"),
        ("en", "½ of them"),
        ("en", "in 2024"),
        ("en", "on 20/11/2025"),
        ("en", "seventeen cards"),
        ("en", "tripled"),
        ("en", "a tenfold rise"),
        ("en", "two thirds"),
        ("de", "1.235 Zahlungen"),
        ("de", "87 Prozent"),
        ("de", "1234 Prozent"),
        ("de", "fünfunddreißig"),
        ("de", "hat sich verdoppelt"),
        ("de", "die Hälfte"),
        ("de", "siebzehn Karten"),
        ("fr", "a doublé"),
        ("fr", "la moitié"),
        ("fr", "1 235 paiements"),
        ("fr", "deux cents"),
        ("es", "se duplicó"),
        ("es", "la mitad"),
        ("it", "è raddoppiato"),
        ("pt", "dobrou"),
        ("nl", "verdubbeld"),
        ("nl", "vijfendertig"),
        ("ru", "удвоилось"),
        ("ru", "тысячи платежей"),
        ("zh", "百分之八十七"),
        ("zh", "增加一倍"),
        ("zh", "共9999笔"),
        ("ja", "半数"),
        ("ko", "두 배"),
        ("ar", "\u0668\u0667\u066a"),
    ],
)
def test_invented(language: str, text: str) -> None:
    assert invented(text, language)


def test_a_name_does_not_hide_numbers_around_it() -> None:
    """A merchant may be called anything."""
    for name in ("87", "ou", "%", "8", " "):
        note = make_note(merchant_name=name)
        assert invented_numbers("87 % are blocked", note), name
        assert invented_numbers("it doubled", note), name


def test_what_is_known_around_it_may_be_told() -> None:
    around = Circumstances(
        earlier=EarlierAlerts(6, datetime(2025, 11, 3, 9, 5, tzinfo=UTC)), baseline={"block_rate": 0.031}
    )
    text = "Usually 3.1 % on 7 days; 6 alerts in 30 days, the last at 2025-11-03 09:05."
    assert invented_numbers(text, NOTE, around) == []
    assert invented_numbers(text, NOTE) == ["2025-11-03 09:05", "3.1 %", "7", "6", "30"]

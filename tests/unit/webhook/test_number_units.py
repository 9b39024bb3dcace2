"""A number is ours in its own unit alone: a share is no count, minutes are no hours, in eleven languages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from notes import NOW, make_note

from webhook.domain.circumstances import Circumstances, EarlierAlerts
from webhook.domain.numbers import invented_numbers

METRICS = {
    "block_rate": 0.35038363171355497,
    "failed_auth_rate": 0.671,
    "transaction_count": 1234.0,
    "transaction_rate": 12.34,
    "refund_amount_usd": 5210.0,
    "review_seconds": 90.0,
    "answer_ms": 250.0,
    "block_rate_surge": 3.2,
}
NOTE = make_note(
    metrics=METRICS,
    thresholds={"block_rate": 0.2},
    occurrence_count=3,
    first_triggered_at=NOW - timedelta(hours=2, minutes=12, seconds=5),
)
AROUND = {
    "earlier": EarlierAlerts(6, datetime(2025, 11, 3, 9, 5, tzinfo=UTC)),
    "baseline": {"block_rate": 0.031},
}


def invented(text: str, language: str) -> list[str]:
    return invented_numbers(text, NOTE, Circumstances(language=language, **AROUND))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "35 cards were used"),
        ("en", "35 blocked payments"),
        ("en", "67 chargebacks so far"),
        ("en", "The block rate is at 35."),
        ("en", "20 attempts"),
        ("en", "0.35 seconds"),
        ("en", "3 hours"),
        ("en", "132 hours"),
        ("en", "12 payments"),
        ("en", "seven cards"),
        ("en", "30 alerts"),
        ("en", "six days"),
        ("en", "1,234 payments per second"),
        ("en", "12.3 payments a minute"),
        ("en", "12 transactions so far"),
        ("en", "1,234 USD are lost"),
        ("en", "$1,234"),
        ("en", "three times the usual share, 6 times as many"),
        ("en", "250 payments"),
        ("en", "5,210 seconds"),
        ("en", "3 weeks"),
        ("de", "35 Zahlungen"),
        ("de", "35 abgelehnte Zahlungen"),
        ("de", "3 Stunden"),
        ("de", "1.234 Zahlungen pro Minute"),
        ("de", "1.234 €"),
        ("fr", "35 paiements bloqués"),
        ("fr", "3 heures"),
        ("fr", "1 234 paiements par seconde"),
        ("es", "35 pagos"),
        ("es", "3 horas"),
        ("es", "1.234 pagos por segundo"),
        ("it", "35 pagamenti"),
        ("it", "3 ore"),
        ("pt", "35 pagamentos"),
        ("pt", "3 horas"),
        ("nl", "35 betalingen"),
        ("nl", "3 uur"),
        ("ru", "35 платежей"),
        ("ru", "3 часа"),
        ("ru", "1 234 платежа в секунду"),
        ("zh", "35笔交易"),
        ("zh", "3小时"),
        ("zh", "每秒1234笔"),
        ("ja", "35件の取引"),
        ("ja", "3時間"),
        ("ja", "毎分12.3件"),
        ("ko", "35건의 거래"),
        ("ko", "3시간"),
        ("ko", "분당 12.3건"),
    ],
)
def test_a_number_of_another_unit_is_invented(language: str, text: str) -> None:
    assert invented(text, language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Blocked: 35.0 %, usually 3.1 to 3.1 %, from 20 to 35 percent;"),
        ("en", "0.35 of all payments; 1,234 new payments."),
        ("en", "12.3/s, 12.34 transactions per second, about 12 payments a second;"),
        ("en", "3 triggers; $5,210 refunded; 5,210 USD."),
        ("en", "For 2 h 12 min 5 s, 132 minutes, two hours;"),
        ("en", "6 alerts in 30 days, the past 7 days, seven previous days."),
        ("en", "3.2 times the hour before; reviews take 90 seconds, answers 250 ms."),
        ("de", "35,0 Prozent von 1.234 Zahlungen, sonst 3,1 %;"),
        ("de", "12,3 Zahlungen pro Sekunde; seit 2 Stunden und 12 Minuten."),
        ("de", "Von 20 auf 35 % gestiegen; 6 Warnungen in 30 Tagen; 7-Tage-Mittel 3,1 %; drei Auslöser."),
        ("fr", "35,0 % des 1 234 paiements, contre 3,1 pour cent;"),
        ("fr", "12,3 paiements par seconde; 2 heures 12 minutes, 2h12."),
        ("fr", "6 alertes en 30 jours, sur les 7 derniers jours; trois déclenchements; de 20 à 35 %."),
        ("es", "35,0 % de 1.234 pagos; 12,3 pagos por segundo;"),
        ("es", "2 horas y 12 minutos; 6 alertas en 30 días; de 20 a 35 %."),
        ("es", "los 7 días anteriores; tres alertas"),
        ("it", "35,0 % di 1.234 pagamenti; 12,3 pagamenti al secondo; 2 ore e 12 minuti; 6 avvisi in 30 giorni."),
        ("it", "negli ultimi 7 giorni; dal 20 al 35 %; tre avvisi"),
        ("pt", "35,0 % de 1.234 pagamentos; 12,3 pagamentos por segundo;"),
        ("pt", "2 horas e 12 minutos; 6 alertas em 30 dias."),
        ("pt", "os 7 dias anteriores; de 20 a 35 por cento; três alertas"),
        ("nl", "35,0 procent van 1.234 betalingen; 12,3 betalingen per seconde;"),
        ("nl", "2 uur en 12 minuten; 6 meldingen in 30 dagen."),
        ("nl", "de 7 voorgaande dagen; van 20 naar 35 %; drie meldingen"),
        ("ru", "35,0 % из 1 234 платежей; 12,3 платежа в секунду;"),
        ("ru", "2 часа 12 минут; 6 оповещений за 30 дней; с 20 до 35 %."),  # noqa: RUF001 - Russian
        ("ru", "за 7 предыдущих дней; три срабатывания, 3 с новыми картами"),  # noqa: RUF001 - Russian
        ("zh", "1234笔交易中35.0%被拦截,平时3.1%;每秒12.3笔;持续2小时12分钟;30天内6次告警;前7天;从20%到35%。"),
        ("ja", "1,234件のうち35.0パーセント、通常は3.1%;毎秒12.3件;2時間12分;30日間で6件;過去7日間;20~35%"),
        ("ko", "1,234건 중 35.0퍼센트, 평소 3.1%; 초당 12.3건"),
        ("ko", "2시간 12분; 30일 동안 6건; 지난 7일; 20%에서 35%; 1,234 초과"),
    ],
)  # fmt: skip
def test_truths_in_their_units_are_ours(language: str, text: str) -> None:
    assert invented(text, language) == []

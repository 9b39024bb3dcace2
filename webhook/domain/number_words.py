"""Numbers that are written as words, in the languages that models are most often asked to write.

English is looked for in every text. A language that is missing here has its digits checked, not its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

NAMES = re.compile(
    r"(?<![A-Za-z0-9])(?:P[0-3]|3-?D(?:-?S(?:ecure)?)?\s?[12]?|EMV\s?3DS|2FA|CVV2|CVC2|PSD2|24/7)(?![A-Za-z0-9])"
    r"|\b(?:two|second|zwei|twee|deux|double|doble|dos|due|doppia|dois|"
    r"duplo)[- ](?:step|factor|fakt|facteur|fattor|fator"
    r"|schritt|stap|étape|paso|etapa|authenti|autenti)\w*",
    re.IGNORECASE,
)
"""Names that hold a number and tell none."""

PERCENT = (
    r"%|٪|per\s?cent\b|prozent\w*|pour\s?cent\b|por\s?cien(?:to)?\b|per\s?cento\b|por\s?cento\b|procent\w*|процент\w*|"
    r"pct\b|パーセント|퍼센트|프로(?!\w)"
)

_COMMA_LANGUAGES = frozenset(
    [
        "bg",
        "ca",
        "cs",
        "da",
        "de",
        "el",
        "es",
        "et",
        "eu",
        "fi",
        "fr",
        "gl",
        "hr",
        "hu",
        "id",
        "is",
        "it",
        "lt",
        "lv",
        "nb",
        "nl",
        "nn",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sr",
        "sv",
        "tr",
        "uk",
        "vi",
    ]
)
_POINT_REGIONS = frozenset({"de-ch", "de-li", "it-ch", "es-mx", "es-us", "es-pr", "es-do", "es-gt", "es-hn", "es-pa"})

_UNCLEAR: Mapping[str, str] = {
    "en": r"twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|dozens?|scores of|hundreds?|thousands?|millions?|"
    r"billions?|trillions?|half|halv(?:ed|ing)|doubl(?:e[ds]?|ing)|twice|tripl(?:e[ds]?|ing)|thrice|quadrupl\w+|"
    r"(?:two|three|four|five|six|ten|hundred)-?fold|quarters?|(?:a|one) third|thirds|fifths|tenths|most of|majority",
    "de": r"\w*(?:zwanzig|drei(?:ß|ss)ig|vierzig|fünfzig|sechzig|siebzig|achtzig|neunzig)|\w+zehn|\w*hundert\w*|"
    r"\w*tausend\w*|\w*million\w*|\w*milliarde\w*|verdoppel\w*|verdreifach\w*|"
    r"vervielfach\w*|doppelt\w*|\w+fach(?:e[nrs]?)?|"
    r"hälfte|halb(?:iert|e[nrsm]?)?|(?:drei)?viertel|drittel|dutzend\w*|mehrheit",
    "fr": r"vingt\w*|trente|quarante|cinquante|soixante|quatre-vingts?|(?<!pour )cents?|centaines?|mille|milliers?|"
    r"millions?|milliards?|doubl\w+|tripl\w+|quadrupl\w+|moitié|demi\w*|tiers|quarts?|dizaines?|douzaines?|majorité",
    "es": r"veint\w+|treinta|cuarenta|cincuenta|sesenta|setenta|ochenta|noventa|cien|(?<!por )cient\w+|miles|mil|"
    r"mill(?:ón|ones)|dobl\w+|duplic\w+|tripl\w+|cuadruplic\w+|mitad|tercios?|docenas?|decenas?|centenar\w*|mayoría",
    "it": r"vent(?:i|un|idue|itr\w+|iquattro)\w*|trent\w+|quarant\w+|cinquant\w+|"
    r"sessant\w+|settant\w+|ottant\w+|novant\w+|"
    r"(?<!per )cento\w*|mille|\w*mila|migliaia|milion\w+|miliard\w+|raddoppi\w+|"
    r"doppi\w+|tripl\w+|metà|dozzin\w+|decine|"
    r"centinaia|maggioranza",
    "pt": r"vinte|trinta|quarenta|cinquenta|sessenta|setenta|oitenta|noventa|cem|"
    r"(?<!por )cento|centen\w+|mil|milhar\w*|"
    r"milh(?:ão|ões)|dobr\w+|duplic\w+|tripl\w+|metade|terços?|dezenas?|dúzias?|maioria",
    "nl": r"\w*(?:twintig|dertig|veertig|vijftig|zestig|zeventig|tachtig|negentig)|\w*honderd\w*|\w*duizend\w*|"
    r"\w*miljoen\w*|\w*miljard\w*|verdubbel\w*|verdrievoudig\w*|dubbel\w*|helft|kwart|derde|dozijn\w*|tientallen|"
    r"meerderheid",
    "ru": r"двадцать|тридцать|сорок|\w+десят\w*|девяносто|сто|сот(?:ня|ни|ню|ен)|двести|"
    r"триста|тысяч\w*|миллион\w*|миллиард\w*|"
    r"удво\w+|утро(?:ил|ен|ит)\w*|вдвое|втрое|половин\w+|треть|четверть|десятк\w+|большинств\w+",
    "zh": r"[一二三四五六七八九十百千万萬亿億两兩零〇]{2,}|百分之|翻[倍番]|倍|半数|一半|过半|數十|数十|数百|数千|"
    r"[\d]\s*[百千万萬亿億]",
    "ja": r"[一二三四五六七八九十百千万億〇]{2,}|倍|半数|半分|過半|数十|数百|数千|数万|割(?!合)|[\d]\s*[百千万億]",
    "ko": r"두 배|세 배|\d+배|배로|절반|과반|수십|수백|수천|수만|백만|천만|[\d]\s*[백천만억]",
}
"""What no metric says so vaguely, or what compares: refused, whatever it means."""

_SMALL: Mapping[str, str] = {
    "en": "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
    "de": "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "fr": "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize",
    "es": "dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince",
    "it": "due tre quattro cinque sei sette otto nove dieci undici dodici",
    "pt": "dois três quatro cinco seis sete oito nove dez onze doze",
    "nl": "twee drie vier vijf zes zeven acht negen tien elf twaalf",
    "ru": "два три четыре пять шесть семь восемь девять десять",
}
"""From two on, in order: told exactly, so they are compared like digits."""


def language_of(tag: str) -> str:
    """`de` of `de-CH`."""
    return tag.partition("-")[0].lower()


def comma_is_decimal(tag: str) -> bool:
    return language_of(tag) in _COMMA_LANGUAGES and tag.lower() not in _POINT_REGIONS


def unclear_words(text: str, tag: str) -> Iterator[str]:
    """Words for numbers that cannot be compared with any."""
    for language in dict.fromkeys(("en", language_of(tag))):
        if language in _UNCLEAR:
            yield from (match[0] for match in _pattern(language).finditer(text))


def small_numbers(text: str, tag: str) -> Iterator[tuple[int, int, int]]:
    """Where words from two to nineteen begin and end, with what they mean."""
    for language in dict.fromkeys(("en", language_of(tag))):
        values = {word: value for value, word in enumerate(_SMALL.get(language, "").split(), 2)}
        for match in re.finditer(r"\w+", text):
            if (value := values.get(match[0].lower())) is not None:
                yield match.start(), match.end(), value


@cache
def _pattern(language: str) -> re.Pattern[str]:
    words = _UNCLEAR[language]
    bounded = words if language in ("zh", "ja", "ko") else rf"(?<!\w)(?:{words})(?!\w)"
    return re.compile(bounded, re.IGNORECASE)

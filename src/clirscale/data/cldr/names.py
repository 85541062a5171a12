"""Display names from CLDR in the eleven languages, and the little grammar that putting them into a sentence takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from babel import Locale
from babel.lists import format_list
from babel.numbers import format_percent

Kind = Literal["territory", "language", "script", "currency", "zone", "weekday"]

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
"""The languages of XQuAD."""

# Codes with a display name that stand for no place, language, script or money of their own: unions of states,
# pseudo-locales, "unknown", uninhabited Antarctica, variants of another entry, and symbols that are not writing.
_EXCLUDED: Mapping[str, frozenset[str]] = {
    "territory": frozenset({"AQ", "EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}),
    "language": frozenset({"mul", "und", "zbl", "zxx"}),
    "script": frozenset({"Hans", "Hant", "Zinh", "Zmth", "Zsye", "Zsym", "Zxxx", "Zyyy", "Zzzz"}),
    "currency": frozenset({"CNH", "USN", "USS", "XEU", "XXX"}),
}
# Territories proper: the other codes are the UN's regions ("150" is Europe). Languages proper: "en_GB" is a variety.
_PROPER = {"territory": re.compile(r"[A-Z]{2}"), "language": re.compile(r"[a-z]{2,3}")}

# English territory names that take the article although they do not end like the plurals below.
_WITH_THE = frozenset(
    {
        "British Indian Ocean Territory",
        "Central African Republic",
        "Dominican Republic",
        "Isle of Man",
        "United Kingdom",
    }
)
_WITH_THE_PLURAL = re.compile(
    r"(?!South Georgia).*\b(Bahamas|Comoros|Emirates|Islands|Maldives|Netherlands|Philippines|States|Territories)"
)

# CLDR writes names as they stand alone in a menu; inside a sentence these begin with a small letter.
_SMALL_INITIAL: Mapping[str, frozenset[str]] = {
    "el": frozenset({"language", "script", "currency", "zone"}),
    "ru": frozenset({"currency"}),
    "vi": frozenset({"language", "script", "currency", "zone"}),
}
_ABBREVIATIONS: Mapping[str, Mapping[str, str]] = {"ru": {"о-ва": "острова", "о-в": "остров"}}
_CASED = frozenset({"de", "el", "en", "es", "ru", "tr", "vi"})

# Spanish: "y" becomes "e" before the sound /i/ ("español e inglés"), which CLDR's list patterns leave to the program.
_SPANISH_I = re.compile(r"(?:i|hi(?![aeo]))", re.IGNORECASE)


class Lexicon:
    """Names and list, percentage and case rules of one language.

    Args:
        lang: one of :data:`LANGUAGES`.
    """

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._locale = locale = Locale.parse(lang)
        names: Mapping[Kind, Mapping[str, str]] = {
            "territory": locale.territories,
            "language": locale.languages,
            "script": locale.scripts,
            "currency": locale.currencies,
            "zone": {code: _zone_name(zone.get("long", {})) for code, zone in locale.meta_zones.items()},
            "weekday": {str(day): name for day, name in locale.days["stand-alone"]["wide"].items()},
        }
        self._names = {
            kind: {code: _inside_sentence(name, kind, lang) for code, name in of_kind.items() if _is_proper(code, kind)}
            for kind, of_kind in names.items()
        }

    def codes(self, kind: Kind) -> frozenset[str]:
        """Codes whose name in this language is a name, not the code again, and means one thing only."""
        names = {code: name.casefold() for code, name in self._names[kind].items() if name and name != code}
        uses = Counter(names.values())
        return frozenset(code for code, name in names.items() if uses[name] == 1)

    def name(self, kind: Kind, code: str) -> str:
        """Return the name as it is written inside a sentence, in English with the article where it takes one."""
        return self._names[kind][code]

    def joined(self, items: Sequence[str]) -> str:
        """Return "A, B and C" as the language writes it."""
        if self.lang == "es" and len(items) > 1 and _SPANISH_I.match(items[-1]):
            return f"{', '.join(items[:-1])} e {items[-1]}"
        return str(format_list(items, locale=self._locale))

    def share(self, name: str, percent: float) -> str:
        """Return "German (76%)" as the language writes it."""
        figure = format_percent(round(percent) / 100, locale=self._locale)
        return f"{name}（{figure}）" if self.lang == "zh" else f"{name} ({figure})"

    def capitalised(self, text: str) -> str:
        """Return the text with the initial that begins a sentence; in Turkish i becomes İ."""
        if self.lang not in _CASED:
            return text
        if self.lang == "tr" and text.startswith("i"):
            return "İ" + text[1:]
        return text[:1].title() + text[1:]


def takes_article(name: str) -> bool:
    """Whether an English territory name stands with "the" inside a sentence.

    >>> [takes_article(name) for name in ("Bahamas", "Cook Islands", "Christmas Island", "Isle of Man", "Poland")]
    [True, True, False, True, False]
    """
    return name in _WITH_THE or _WITH_THE_PLURAL.fullmatch(name) is not None


def _is_proper(code: str, kind: Kind) -> bool:
    pattern = _PROPER.get(kind)
    return code not in _EXCLUDED.get(kind, ()) and (pattern is None or pattern.fullmatch(code) is not None)


def _inside_sentence(name: str, kind: Kind, lang: str) -> str:
    for short, full in _ABBREVIATIONS.get(lang, {}).items():
        name = name.replace(short, full)
    if kind in _SMALL_INITIAL.get(lang, ()) and name[1:2].islower():
        return name[0].lower() + name[1:]
    if lang == "en" and kind == "territory" and takes_article(name):
        return f"the {name}"
    return name


def _zone_name(names: Mapping[str, str]) -> str:
    """The name without regard to summer time, which zones that never change their clocks give as the standard one."""
    return names.get("generic") or names.get("standard") or ""


@cache
def lexicon(lang: str) -> Lexicon:
    """Return the lexicon of a language, read once."""
    return Lexicon(lang)


@cache
def usable(kind: Kind) -> frozenset[str]:
    """Codes of a kind that every one of the eleven languages has a real and unambiguous name for."""
    return frozenset.intersection(*(lexicon(lang).codes(kind) for lang in LANGUAGES))

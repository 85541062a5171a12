"""The facts: CLDR's supplemental data as (relation, entity, answers), before they are put into words.

A fact is used only if every name in it exists in all eleven languages. Where CLDR leaves the answer open (two legal
tenders, a time zone without a name, an official language without one) the entity is left out of that relation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from babel import Locale
from babel.core import get_global
from babel.localedata import locale_identifiers

from clirscale.data.cldr.names import LANGUAGES, Kind, usable

Claim = tuple[str, ...]
"""One atomic statement, such as ("tender", "PL", "PLN"): the złoty is legal tender in Poland."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "territory_currency": ("territory", "currency", "code", "since"),
    "territory_former_currency": ("territory", "currency", "code", "start", "end"),
    "territory_official_languages": ("territory", "languages"),
    "territory_spoken_languages": ("territory", "shares"),
    "language_script": ("language", "script"),
    "language_territories": ("language", "territories"),
    "currency_territories": ("currency", "code", "territories"),
    "currency_history": ("currency", "code", "territory", "start", "end"),
    "script_languages": ("script", "languages"),
    "territory_time_zone": ("territory", "zones"),
    "time_zone_territories": ("zone", "territories"),
    "territory_week": ("territory", "first_day", "weekend"),
    "territory_code": ("territory", "code"),
    "currency_code": ("currency", "code"),
    "language_code": ("language", "code"),
    "language_autonym": ("language", "autonym"),
}
"""Slots of each relation: the entity that is asked about, then the answers."""

_MOST_LANGUAGES = 5  # of a territory, by share of its population
_MOST_ZONES = 4  # of a territory; those with more (Russia, the United States) are left out, a part would be wrong
_MOST_TERRITORIES = 6
_MOST_PLACES_OF_LANGUAGE = 5
_MOST_LANGUAGES_OF_SCRIPT = 6
# Codes that CLDR uses for a territory but that ISO has only reserved or left to its users.
_NOT_IN_ISO_3166 = frozenset({"AC", "CP", "DG", "EA", "IC", "TA", "XK"})
# Constructed or revived: CLDR counts a few enthusiasts somewhere.
_WITHOUT_A_HOME = frozenset({"eo", "ia", "ie", "prg"})
_LEAST_PERCENT = 1.0  # of a population: below, CLDR's estimates are noise


@dataclass(frozen=True, slots=True)
class Name:
    """An entity, to be called by its display name."""

    kind: Kind
    code: str


@dataclass(frozen=True, slots=True)
class Share:
    """A language and the percentage of a population that uses it."""

    language: Name
    percent: float


Value = str | Name | tuple[Name, ...] | tuple[Share, ...]
"""What fills a slot: a text that is the same in every language (a code, a year), a name, or a list."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A relation at an entity.

    Attributes:
        relation: one of :data:`RELATIONS`.
        entity: code of the entity that is asked about.
        slots: what fills the slots of the relation's templates.
        asked: the claims that answer the question.
        stated: the claims that the passage makes. Another fact that states a claim asked here answers this question
            too, at least in part.
    """

    relation: str
    entity: str
    slots: Mapping[str, Value]
    asked: frozenset[Claim]
    stated: frozenset[Claim]

    @property
    def group_id(self) -> str:
        """Id of the parallel group, such as "territory_currency:PL"."""
        return f"{self.relation}:{self.entity}"


def _fact(
    relation: str,
    entity: Name,
    answers: Mapping[str, Value],
    asked: Iterable[Claim],
    stated: Iterable[Claim] | None = None,
) -> Fact:
    """Return the fact; its passage states what is asked and no more unless ``stated`` says otherwise."""
    asked = frozenset(asked)
    return Fact(relation, entity.code, {entity.kind: entity, **answers}, asked, frozenset(stated or asked))


def _names(kind: Kind, codes: Iterable[str]) -> tuple[Name, ...]:
    return tuple(Name(kind, code) for code in codes)


@cache
def _global(key: str) -> Mapping[str, Any]:
    return dict(get_global(key))


def _locale(tag: str) -> Locale | None:
    """Return the locale if babel has a file for it. (``Locale.parse`` on any other tag scans a thousand names.)"""
    return Locale.parse(tag) if tag in _known_locales() else None


@cache
def _known_locales() -> frozenset[str]:
    return frozenset(locale_identifiers())


def _prominence(territory: str) -> int:
    """Number of languages that CLDR counts in a territory: a stand-in for its size, which babel does not carry."""
    return len(_global("territory_languages").get(territory, ()))


@dataclass(frozen=True, slots=True)
class _Tender:
    """A currency as legal tender of a territory, with dates as (year, month, day); the end is None while it is."""

    currency: str
    start: tuple[int, int, int]
    end: tuple[int, int, int] | None


@cache
def _tenders() -> Mapping[str, tuple[_Tender, ...]]:
    """The legal tenders of each territory, present and past."""
    return {
        territory: tuple(
            _Tender(currency, start, end) for currency, start, end, is_tender in uses if is_tender and start
        )
        for territory, uses in sorted(_global("territory_currencies").items())
    }


def _present_tenders(territory: str) -> list[_Tender]:
    return [tender for tender in _tenders().get(territory, ()) if tender.end is None]


def _past_tenders(territory: str) -> list[tuple[tuple[int, int, int], _Tender]]:
    """The end and the tender, in the order of the ends."""
    past = [(tender.end, tender) for tender in _tenders().get(territory, ()) if tender.end is not None]
    return sorted(past, key=lambda item: item[0])


@cache
def _populations() -> Mapping[str, Mapping[str, tuple[float, bool]]]:
    """Per territory and language, the percentage of the population that uses it and whether it is official.

    Varieties count as their language ("uz_Cyrl" is "uz") with the larger percentage.
    """
    populations: dict[str, dict[str, tuple[float, bool]]] = {}
    for territory, uses in sorted(_global("territory_languages").items()):
        languages: dict[str, tuple[float, bool]] = {}
        for tag, use in sorted(uses.items()):
            language = tag.split("_")[0]
            percent, official = languages.get(language, (0.0, False))
            official = official or use["official_status"] in ("official", "de_facto_official")
            languages[language] = (max(percent, use["population_percent"]), official)
        populations[territory] = languages
    return populations


@cache
def _scripts() -> Mapping[str, str]:
    """The script that each language is usually written in."""
    likely = _global("likely_subtags")
    scripts = {language: likely[language].split("_")[1] for language in usable("language") if language in likely}
    return {language: script for language, script in sorted(scripts.items()) if script in usable("script")}


@cache
def _zones() -> Mapping[str, tuple[str, ...]]:
    """The time zones of each territory, in CLDR's order; "" stands for one without a common name."""
    renamed: dict[str, list[str]] = defaultdict(list)
    for old, new in _global("zone_aliases").items():
        renamed[new].append(old)
    named = _global("meta_zones")

    def name(city: str) -> str:
        known = (named[alias] for alias in (city, *renamed[city]) if named.get(alias) in usable("zone"))
        return next(known, "")

    zones = _global("territory_zones").items()
    return {territory: tuple(dict.fromkeys(map(name, cities))) for territory, cities in sorted(zones)}


def _territory_currency(territory: str) -> Fact | None:
    present = _present_tenders(territory)
    if len(present) != 1 or present[0].currency not in usable("currency"):
        return None
    currency, since = present[0].currency, present[0].start[0]
    claim = ("tender", territory, currency)
    return _fact(
        "territory_currency",
        Name("territory", territory),
        {"currency": Name("currency", currency), "code": currency, "since": str(since)},
        asked=[claim],
        stated=[claim, ("code", "currency", currency)],
    )


def _territory_former_currency(territory: str) -> Fact | None:
    present, past = _present_tenders(territory), _past_tenders(territory)
    if len(present) != 1 or not past:
        return None
    end, last = past[-1]
    ended_together = sum(other[0] == end[0] for other, _ in past) > 1
    beside_the_present = last.start >= present[0].start
    if ended_together or beside_the_present or last.currency not in usable("currency"):
        return None
    claim = ("former", territory, last.currency)
    return _fact(
        "territory_former_currency",
        Name("territory", territory),
        {
            "currency": Name("currency", last.currency),
            "code": last.currency,
            "start": str(last.start[0]),
            "end": str(end[0]),
        },
        asked=[claim],
        stated=[claim, ("code", "currency", last.currency)],
    )


def _territory_official_languages(territory: str) -> Fact | None:
    uses = _populations().get(territory, {})
    official = sorted((lang for lang, (_, is_official) in uses.items() if is_official), key=lambda x: (-uses[x][0], x))
    if not official or not usable("language").issuperset(official):
        return None
    claims = [("official", territory, language) for language in official]
    return _fact(
        "territory_official_languages",
        Name("territory", territory),
        {"languages": _names("language", official)},
        asked=claims,
        stated=[*claims, *(("spoken", territory, language) for language in official)],
    )


def _territory_spoken_languages(territory: str) -> Fact | None:
    uses = _populations().get(territory, {})
    spoken = [lang for lang, (percent, _) in uses.items() if percent >= _LEAST_PERCENT and lang in usable("language")]
    spoken = sorted(spoken, key=lambda lang: (-uses[lang][0], lang))[:_MOST_LANGUAGES]
    if not spoken:
        return None
    return _fact(
        "territory_spoken_languages",
        Name("territory", territory),
        {"shares": tuple(Share(Name("language", lang), uses[lang][0]) for lang in spoken)},
        asked=[("spoken", territory, language) for language in uses],
        stated=[("spoken", territory, language) for language in spoken],
    )


def _language_script(language: str) -> Fact | None:
    script = _scripts().get(language)
    if script is None:
        return None
    claims = [("script", language, script)]
    return _fact("language_script", Name("language", language), {"script": Name("script", script)}, asked=claims)


def _language_territories(language: str) -> Fact | None:
    places = {
        territory: (is_official, percent * _prominence(territory))
        for territory, uses in _populations().items()
        for percent, is_official in [uses.get(language, (0.0, False))]
        if percent > 0 and territory in usable("territory")
    }
    if not places or language in _WITHOUT_A_HOME:
        return None
    home = _global("likely_subtags").get(language, "").split("_")[-1]
    first = sorted(places, key=lambda place: (place != home, not places[place][0], -places[place][1], place))
    return _fact(
        "language_territories",
        Name("language", language),
        {"territories": _names("territory", first[:_MOST_PLACES_OF_LANGUAGE])},
        asked=[("spoken", territory, language) for territory in places],
        stated=[("spoken", territory, language) for territory in first[:_MOST_PLACES_OF_LANGUAGE]],
    )


def _currency_territories(currency: str) -> Fact | None:
    places = [place for place in usable("territory") if currency in {t.currency for t in _present_tenders(place)}]
    if not places:
        return None
    home = currency[:2]  # ISO 4217 builds a code from the country's: NZD is New Zealand's
    first = sorted(places, key=lambda place: (place != home, -_prominence(place), place))[:_MOST_TERRITORIES]
    return _fact(
        "currency_territories",
        Name("currency", currency),
        {"code": currency, "territories": _names("territory", first)},
        asked=[("tender", territory, currency) for territory in places],
        stated=[("code", "currency", currency), *(("tender", territory, currency) for territory in first)],
    )


def _currency_history(currency: str) -> Fact | None:
    uses = {
        place: (tender.start[0], end[0])
        for place in usable("territory")
        for end, tender in _past_tenders(place)
        if tender.currency == currency
    }
    if not uses or any(tender.currency == currency for place in _tenders() for tender in _present_tenders(place)):
        return None
    territory = min(uses, key=lambda place: (place != currency[:2], -_prominence(place), place))
    start, end = uses[territory]
    return _fact(
        "currency_history",
        Name("currency", currency),
        {"code": currency, "territory": Name("territory", territory), "start": str(start), "end": str(end)},
        asked=[("former", place, currency) for place in uses],
        stated=[("former", territory, currency), ("code", "currency", currency)],
    )


def _script_languages(script: str) -> Fact | None:
    languages = [language for language, written in _scripts().items() if written == script]
    if not languages:
        return None
    spread = {language: sum(language in uses for uses in _populations().values()) for language in languages}
    first = sorted(languages, key=lambda language: (-spread[language], language))[:_MOST_LANGUAGES_OF_SCRIPT]
    return _fact(
        "script_languages",
        Name("script", script),
        {"languages": _names("language", first)},
        asked=[("script", language, script) for language in languages],
        stated=[("script", language, script) for language in first],
    )


def _territory_time_zone(territory: str) -> Fact | None:
    zones = _zones().get(territory, ())
    if not 0 < len(zones) <= _MOST_ZONES or "" in zones:
        return None
    claims = [("zone", territory, zone) for zone in zones]
    return _fact("territory_time_zone", Name("territory", territory), {"zones": _names("zone", zones)}, asked=claims)


def _time_zone_territories(zone: str) -> Fact | None:
    places = [place for place, zones in _zones().items() if zone in zones and place in usable("territory")]
    if not places:
        return None
    first = sorted(places, key=lambda place: (-_prominence(place), place))[:_MOST_TERRITORIES]
    return _fact(
        "time_zone_territories",
        Name("zone", zone),
        {"territories": _names("territory", first)},
        asked=[("zone", territory, zone) for territory in places],
        stated=[("zone", territory, zone) for territory in first],
    )


def _territory_week(territory: str) -> Fact | None:
    language, script, _ = _global("likely_subtags").get(f"und_{territory}", f"en_Latn_{territory}").split("_")
    locale = _locale(f"{language}_{territory}") or _locale(f"{language}_{script}_{territory}")
    if locale is None:
        return None
    first, start, end = locale.first_week_day, locale.weekend_start, locale.weekend_end
    weekend = [(start + n) % 7 for n in range((end - start) % 7 + 1)]
    return _fact(
        "territory_week",
        Name("territory", territory),
        {"first_day": Name("weekday", str(first)), "weekend": _names("weekday", map(str, weekend))},
        asked=[("week", territory)],
    )


def _territory_code(territory: str) -> Fact | None:
    return None if territory in _NOT_IN_ISO_3166 else _code("territory_code", Name("territory", territory))


def _currency_code(currency: str) -> Fact:
    return _code("currency_code", Name("currency", currency))


def _language_code(language: str) -> Fact:
    return _code("language_code", Name("language", language))


def _code(relation: str, entity: Name) -> Fact:
    return _fact(relation, entity, {"code": entity.code}, asked=[("code", entity.kind, entity.code)])


def _language_autonym(language: str) -> Fact | None:
    if language in LANGUAGES:
        return None  # in its own language it would read "English is called English"
    locale = _locale(language)
    autonym = locale.languages.get(language) if locale else None
    if not autonym:
        return None
    return _fact("language_autonym", Name("language", language), {"autonym": autonym}, asked=[("autonym", language)])


_FINDERS: Mapping[str, Callable[[str], Fact | None]] = {
    "territory_currency": _territory_currency,
    "territory_former_currency": _territory_former_currency,
    "territory_official_languages": _territory_official_languages,
    "territory_spoken_languages": _territory_spoken_languages,
    "language_script": _language_script,
    "language_territories": _language_territories,
    "currency_territories": _currency_territories,
    "currency_history": _currency_history,
    "script_languages": _script_languages,
    "territory_time_zone": _territory_time_zone,
    "time_zone_territories": _time_zone_territories,
    "territory_week": _territory_week,
    "territory_code": _territory_code,
    "currency_code": _currency_code,
    "language_code": _language_code,
    "language_autonym": _language_autonym,
}


@cache
def facts() -> tuple[Fact, ...]:
    """Return every fact, by relation in the order of :data:`RELATIONS` and by code of its entity."""
    found = (
        _FINDERS[relation](entity) for relation, (kind, *_) in RELATIONS.items() for entity in sorted(usable(kind))
    )
    return tuple(fact for fact in found if fact is not None)

from __future__ import annotations

from collections import Counter

import pytest

from clirscale.data.cldr.facts import RELATIONS, Fact, Name, Share, facts
from clirscale.data.cldr.names import LANGUAGES, usable


def fact(group_id: str) -> Fact:
    return next(fact for fact in facts() if fact.group_id == group_id)


def codes(value: object) -> list[str]:
    assert isinstance(value, tuple)
    return [item.language.code if isinstance(item, Share) else item.code for item in value]


def test_group_ids_are_unique_and_slots_are_those_of_the_relation() -> None:
    assert len({fact.group_id for fact in facts()}) == len(facts())
    for fact in facts():
        entity = RELATIONS[fact.relation][0]
        assert tuple(fact.slots) == RELATIONS[fact.relation]
        assert fact.slots[entity] == Name(entity, fact.entity)  # type: ignore[arg-type]
        assert fact.asked


def test_every_name_in_a_fact_has_a_name_in_every_language() -> None:
    for fact in facts():
        for value in fact.slots.values():
            names = [value] if isinstance(value, Name) else [] if isinstance(value, str) else list(value)
            assert names or value
            for item in names:
                name = item.language if isinstance(item, Share) else item
                assert name.code in usable(name.kind), fact.group_id


@pytest.mark.parametrize(
    ("group_id", "slot", "expected"),
    [
        ("territory_currency:PL", "currency", Name("currency", "PLN")),
        ("territory_currency:PL", "since", "1995"),
        ("territory_former_currency:DE", "currency", Name("currency", "DEM")),
        ("territory_former_currency:DE", "end", "2002"),
        ("language_script:ru", "script", Name("script", "Cyrl")),
        ("currency_history:FRF", "territory", Name("territory", "FR")),
        ("territory_week:EG", "first_day", Name("weekday", "5")),
        ("territory_code:CH", "code", "CH"),
        ("currency_code:JPY", "code", "JPY"),
        ("language_code:tr", "code", "tr"),
        ("language_autonym:fi", "autonym", "suomi"),
    ],
)
def test_facts_that_anyone_can_check(group_id: str, slot: str, expected: object) -> None:
    assert fact(group_id).slots[slot] == expected


@pytest.mark.parametrize(
    ("group_id", "slot", "expected"),
    [
        ("territory_official_languages:FI", "languages", ["fi", "sv"]),
        ("territory_time_zone:ES", "zones", ["Europe_Central", "Europe_Western"]),
        ("territory_week:EG", "weekend", ["4", "5"]),
        ("territory_week:IN", "weekend", ["6"]),
        ("time_zone_territories:Japan", "territories", ["JP"]),
        ("script_languages:Tibt", "languages", ["bo", "dz"]),
    ],
)
def test_lists_that_anyone_can_check(group_id: str, slot: str, expected: list[str]) -> None:
    assert sorted(codes(fact(group_id).slots[slot])) == sorted(expected)


def test_shares_are_the_largest_first_and_varieties_count_as_their_language() -> None:
    shares = fact("territory_spoken_languages:CH").slots["shares"]
    percents = [share.percent for share in shares if isinstance(share, Share)]
    assert codes(shares)[0] == "de"
    assert percents == sorted(percents, reverse=True)
    assert len(percents) == 5
    assert codes(fact("territory_spoken_languages:TW").slots["shares"])[0] == "zh"  # CLDR has zh_Hant


@pytest.mark.parametrize(
    "group_id",
    [
        "territory_currency:PA",  # two legal tenders
        "territory_former_currency:AD",  # francs and pesetas ended together
        "territory_time_zone:RU",  # eleven zones
        "territory_time_zone:BR",  # the time of Acre has no name in some languages
        "currency_history:PLN",  # in use
        "language_script:zh",  # "Simplified" is no name for a script
        "language_territories:eo",
        "territory_code:XK",  # not assigned by ISO
    ],
)
def test_open_cases_are_left_out(group_id: str) -> None:
    assert group_id not in {fact.group_id for fact in facts()}


def test_autonyms_leave_out_the_languages_of_the_pool() -> None:
    entities = {fact.entity for fact in facts() if fact.relation == "language_autonym"}
    assert entities.isdisjoint(LANGUAGES)


@pytest.mark.parametrize(
    ("group_id", "first"),
    [("currency_territories:NZD", "NZ"), ("currency_territories:USD", "US"), ("language_territories:es", "ES")],
)
def test_the_home_of_a_currency_or_language_comes_first(group_id: str, first: str) -> None:
    assert codes(fact(group_id).slots["territories"])[0] == first


def test_long_lists_are_cut_but_asked_whole() -> None:
    latin = fact("script_languages:Latn")
    assert len(codes(latin.slots["languages"])) == 6
    assert len(latin.asked) > 300
    assert latin.stated < latin.asked


def test_a_passage_that_gives_a_code_states_the_code() -> None:
    assert fact("currency_code:PLN").asked <= fact("territory_currency:PL").stated


def test_relations_have_the_expected_sizes() -> None:
    sizes = Counter(fact.relation for fact in facts())
    assert sizes.keys() == RELATIONS.keys()
    for relation, low, high in [
        ("territory_currency", 220, 260),
        ("territory_former_currency", 40, 80),
        ("territory_official_languages", 220, 260),
        ("territory_spoken_languages", 230, 260),
        ("language_script", 450, 550),
        ("language_territories", 380, 450),
        ("currency_territories", 130, 170),
        ("currency_history", 25, 50),
        ("script_languages", 40, 60),
        ("territory_time_zone", 210, 250),
        ("time_zone_territories", 120, 150),
        ("territory_week", 220, 260),
        ("territory_code", 240, 255),
        ("currency_code", 170, 200),
        ("language_code", 500, 560),
        ("language_autonym", 260, 310),
    ]:
        assert low <= sizes[relation] <= high, relation

from __future__ import annotations

import pytest

from clirscale.data.cldr.names import LANGUAGES, Kind, lexicon, takes_article, usable


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("territory", "150"),  # a region of the UN, not a territory
        ("territory", "AQ"),
        ("territory", "EU"),
        ("territory", "ZZ"),
        ("language", "en_GB"),
        ("language", "und"),
        ("script", "Zyyy"),
        ("currency", "XXX"),
    ],
)
def test_codes_that_name_nothing_of_their_own_are_not_usable(kind: Kind, code: str) -> None:
    assert code not in usable(kind)


@pytest.mark.parametrize("kind", ["territory", "language", "script", "currency", "zone", "weekday"])
def test_usable_names_are_real_and_unambiguous_in_every_language(kind: Kind) -> None:
    assert len(usable(kind)) >= 7
    for lang in LANGUAGES:
        names = {code: lexicon(lang).name(kind, code) for code in usable(kind)}
        assert all(name.strip() and name != code for code, name in names.items())
        assert len({name.casefold() for name in names.values()}) == len(names)


@pytest.mark.parametrize("name", ["United States", "Netherlands", "Philippines", "Bahamas", "Åland Islands", "Comoros"])
def test_article_before_english_names_that_take_it(name: str) -> None:
    assert takes_article(name)


@pytest.mark.parametrize("name", ["Poland", "Christmas Island", "South Georgia & South Sandwich Islands", "Honduras"])
def test_no_article_before_other_english_names(name: str) -> None:
    assert not takes_article(name)


def test_article_is_part_of_the_english_name_inside_a_sentence_only_for_territories() -> None:
    english = lexicon("en")
    assert english.name("territory", "US") == "the United States"
    assert english.name("territory", "FR") == "France"
    assert english.name("currency", "GBP") == "British Pound"
    assert lexicon("de").name("territory", "US") == "Vereinigte Staaten"


@pytest.mark.parametrize(
    ("lang", "kind", "code", "expected"),
    [
        ("el", "language", "fr", "γαλλικά"),
        ("el", "territory", "FR", "Γαλλία"),
        ("vi", "language", "fr", "tiếng Pháp"),
        ("vi", "zone", "Europe_Central", "giờ Trung Âu"),
        ("ru", "currency", "SDD", "суданский динар"),
        ("tr", "language", "fr", "Fransızca"),
        ("ru", "territory", "FO", "Фарерские острова"),
        ("ru", "territory", "IM", "остров Мэн"),
    ],
)
def test_names_inside_a_sentence(lang: str, kind: Kind, code: str, expected: str) -> None:
    assert lexicon(lang).name(kind, code) == expected


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("tr", "isveç", "İsveç"),
        ("en", "the United States", "The United States"),
        ("el", "ώρα", "Ώρα"),
        ("de", "äthiopien", "Äthiopien"),
        ("ru", "злотый", "Злотый"),
        ("es", "ქართული", "ქართული"),  # titlecase leaves Georgian alone where uppercase would not
        ("zh", "abc", "abc"),
        ("en", "", ""),
    ],
)
def test_initial_of_a_sentence(lang: str, text: str, expected: str) -> None:
    assert lexicon(lang).capitalised(text) == expected


def test_lists_follow_the_language() -> None:
    assert lexicon("en").joined(["A"]) == "A"
    assert lexicon("en").joined(["A", "B", "C"]) == "A, B, and C"
    assert lexicon("de").joined(["A", "B", "C"]) == "A, B und C"
    assert lexicon("zh").joined(["A", "B", "C"]) == "A、B和C"


def test_spanish_and_becomes_e_before_the_sound_i() -> None:
    spanish = lexicon("es")
    assert spanish.joined(["español", "inglés"]) == "español e inglés"
    assert spanish.joined(["A", "Perú", "Irán"]) == "A, Perú e Irán"
    assert spanish.joined(["árabe", "hindi"]) == "árabe e hindi"
    assert spanish.joined(["cobre", "hierro"]) == "cobre y hierro"
    assert spanish.joined(["inglés", "español"]) == "inglés y español"
    assert spanish.joined(["inglés"]) == "inglés"


def test_shares_are_rounded_and_written_as_in_the_language() -> None:
    assert lexicon("en").share("German", 75.6) == "German (76%)"
    assert lexicon("tr").share("Almanca", 76) == "Almanca (%76)"
    assert lexicon("zh").share("德语", 76) == "德语（76%）"

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clirscale.data import sentences


def split(text, lang="en"):
    return [text[begin:end] for begin, end in sentences.split(text, lang)]


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", ["One is.", "Is two?", "Three!", "Four…", "Five"]),
        ("en", ["He said “no.”", "(She left.)", "“Why?”"]),
        ("en", ["It cost 3.5 m at example.org.", "Then 4."]),
        ("en", ["Mr. J. R. Smith of the U.S. Army et al. left."]),
        ("en", ["It rose in 1997.", "In 1998 it fell."]),
        ("en", ["“Go!” he said.", "He went . . . away."]),
        ("de", ["Am 3. Mai kam Dr. E. Simon.", "Er blieb bis 2001.", "Er ging."]),
        ("es", ["¿Quién?", "¡Él!", "En EE. UU. vivió."]),
        ("tr", ["Bu 19. yüzyıldı.", "12 Mayıs geldi."]),
        ("el", ["Έφυγε.", "Ήρθε."]),
        ("ru", ["Это А. Пушкин.", "Он жил."]),
        ("hi", ["यह एक है।", "यह दो है।", "क्यों?", "हाँ।"]),
        ("ar", ["هذا واحد.", "لماذا؟", "نعم."]),
        ("th", ["เขาวิ่ง เร็ว", "ซึ่งเป็นเรื่องดี"]),
        ("xx", ["Unknown tag.", "Still split."]),
    ],
)
def test_sentences_between_blanks(lang, expected):
    assert split(" ".join(expected), lang) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他走了。她没有！“为什么？”是的。", ["他走了。", "她没有！", "“为什么？”", "是的。"]),
        ("他走了。1991 年她走了。", ["他走了。1991 年她走了。"]),  # as LAReQA
        ("他走了。《书》很好。", ["他走了。《", "书》很好。"]),  # as LAReQA
        ("约翰•史密斯", ["约翰•", "史密斯"]),  # as LAReQA
    ],
)
def test_chinese_without_blanks(text, expected):
    assert split(text, "zh") == expected


def test_a_terminator_without_a_blank_ends_a_sentence_in_scripts_without_case():
    assert split("هذا واحد.هذا اثنان.", "ar") == ["هذا واحد.", "هذا اثنان."]
    assert split("one.two", "en") == ["one.two"]


@pytest.mark.parametrize(
    ("text", "spans"), [("", []), (" \n ", []), (" a ", [(1, 2)]), ("Ja.\n\nNo.", [(0, 3), (5, 8)])]
)
def test_blanks_belong_to_no_sentence(text, spans):
    assert sentences.split(text, "en") == spans


@given(
    st.text(alphabet="aZ é.!?…。।•1“”()[ \n中अسร", max_size=60), st.sampled_from(["en", "de", "tr", "zh", "th", "ar"])
)
def test_the_spans_cover_all_but_blanks_in_order(text, lang):
    spans = sentences.split(text, lang)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    covered = {i for begin, end in spans for i in range(begin, end)}
    assert all(i in covered for i, character in enumerate(text) if not character.isspace())
    assert all(text[begin:end] == text[begin:end].strip() != "" for begin, end in spans)


def paragraphs(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    return [paragraph for article in content["data"] for paragraph in article["paragraphs"]]


def agreement(file):
    """Return the row of the docstring's table for a file of XQuAD-R."""
    lang = file.stem
    candidates = rebuilt = both = expected = found = same = asked = 0
    for paragraph in paragraphs(file):
        text, breaks = paragraph["context"], [tuple(span) for span in paragraph["sentence_breaks"]]
        spans = sentences.split(text, lang)
        candidates, rebuilt = candidates + len(breaks), rebuilt + len(spans)
        starts = {
            next(i for i in range(b, len(text)) if not text[i].isspace()) for b, _ in breaks[1:] if text[b:].strip()
        }
        ours = {begin for begin, _ in spans[1:]}
        both, expected, found = both + len(starts & ours), expected + len(starts), found + len(ours)
        for question in paragraph["qas"]:
            start = question["answers"][0]["answer_start"]
            asked += 1
            same += holder(text, breaks, start) == holder(text, spans, start)
    return [lang, str(candidates), str(rebuilt), *(f"{x:.3f}" for x in (both / found, both / expected, same / asked))]


def holder(text, spans, start):
    return [text[begin:end].strip() for begin, end in spans if begin <= start < end]


@pytest.mark.shared
def test_the_table_of_agreement_is_what_is_measured(shared):
    measured = [agreement(file) for file in sorted((shared / "data" / "xquad_r").glob("*.json"))]
    table = [line.split() for line in sentences.__doc__.splitlines() if re.match(r"[a-z]{2} +\d", line)]
    assert table == measured

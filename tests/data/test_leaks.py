import time

import pytest

from clirscale.data import lareqa, parallel
from clirscale.data.groups import Pair, ParallelGroup, Pool
from clirscale.data.leaks import Leak, find_leaks, normalise
from clirscale.data.tasks import Passage, Query, RetrievalTask

TASK = RetrievalTask(
    "t",
    (Query("q1", "de", "e1", "Wie heißt die Straße?"), Query("q2", "en", "e1", "What is the street called?")),
    (
        Passage("p1", "de", "Sie heißt Allee."),
        Passage("p2", "zh", "街 叫 ＡＢＣ。"),
        Passage("p3", "pt", "Chama-se avenida."),
    ),
    {},
)


def leaks(group_id="g1", **pairs):
    pool = Pool("p", [ParallelGroup("clean", {"de": Pair("sauber", "rein")}), ParallelGroup(group_id, pairs)])
    return find_leaks(pool, [TASK])


def test_clean():
    assert leaks(de=Pair("Wie heißt der Weg?", "Er heißt Pfad.")) == []


def test_query_passage_and_group_id():
    found = leaks("e1", de=Pair("Wie heißt die Straße?", "Sie heißt Allee."))
    assert found == [
        Leak("group_id", "e1", None, "q1"),
        Leak("query", "e1", "de", "q1"),
        Leak("passage", "e1", "de", "p1"),
    ]


def test_training_passage_that_is_an_evaluation_query():
    assert leaks(en=Pair("street", "What is the street called?")) == [Leak("passage", "g1", "en", "q2")]


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("de", "  WIE HEISST\n die\u00a0STRASSE?"),
        ("de", "Wie hei\u00dft die Stra\u00dfe\uff1f"),
        ("zh", "街 叫 abc。"),
        ("zh-Hant", "街  叫 ABC。"),
        ("pt-BR", "chama-se  AVENIDA."),
    ],
)
def test_normalisation_and_regional_variants(lang, text):
    assert [leak.group_id for leak in leaks(**{lang: Pair(text, "anything")})] == ["g1"]


@pytest.mark.parametrize(
    ("lang", "text"),
    [("en", "Wie heißt die Straße?"), ("de", "Wie heißt die Straße"), ("de", "Frage: Wie heißt die Straße?")],
)
def test_other_language_edited_or_embedded_text_is_not_found(lang, text):
    assert leaks(**{lang: Pair(text, "anything")}) == []


def test_normal_form_is_stable():
    for text in ("\u1e9e", "\ufb03", "ᾷ", "İ", "\u0345a\u0301"):
        assert normalise(normalise(text)) == normalise(text)


@pytest.mark.shared
def test_real_data_is_fast_and_a_planted_leak_is_found(shared):
    task = lareqa.read(str(shared / "data" / "xquad_r"))
    pool = parallel.read(str(shared / "data" / "lohelp_train.jsonl.gz"))  # 98,705 pairs
    planted = ParallelGroup("planted", {"th": Pair("สะอาด", next(p.text for p in task.passages if p.lang == "th"))})
    begin = time.perf_counter()
    found = find_leaks(Pool("p", [*pool, planted]), [task])
    assert time.perf_counter() - begin < 10  # 0.7 s when measured
    assert [leak.group_id for leak in found] == ["planted"]

import math
from collections import Counter

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.data import lareqa
from clirscale.data.tasks import Passage, Query, RetrievalTask
from clirscale.retrieval import lexical
from clirscale.retrieval.lexical import LexicalScorer, words

EVERYTHING = slice(None)


def task_of(queries, passages):
    """A task of (language, text) pairs."""
    return RetrievalTask(
        "made",
        [Query(f"q{i}", lang, f"q{i}", text) for i, (lang, text) in enumerate(queries)],
        [Passage(f"p{i}", lang, text) for i, (lang, text) in enumerate(passages)],
        {"q0": {"p0": 1}},
    )


def bm25(query, documents, k1, b):
    """Lucene's formula, a term at a time; None where no term is shared."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = None
        for term, count in Counter(query).items():
            tf = document.count(term)
            if tf:
                df = sum(term in other for other in documents)
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                weight = idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
                score = (score or 0) + count * weight
        scores.append(score)
    return scores


word = st.sampled_from(["aaa", "bbb", "ccc", "ddd", "東京都", "1999"])
sentence = st.lists(word, min_size=1, max_size=6).map(" ".join)
language = st.sampled_from(["sw", "yo", "zh"])  # without a stemmer
texts = st.lists(st.tuples(language, sentence), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(texts, texts, st.floats(0, 3), st.floats(0, 1))
def test_scores_by_lucenes_formula_on_each_languages_passages(queries, passages, k1, b):
    scores = LexicalScorer(task_of(queries, passages), k1=k1, b=b).scores(EVERYTHING, EVERYTHING)
    assert scores.dtype == np.float32
    assert scores.shape == (len(queries), len(passages))
    for lang in {lang for lang, _ in passages}:
        rows = [i for i, (other, _) in enumerate(passages) if other == lang]
        documents = [words(passages[i][1]) for i in rows]
        for number, (_, text) in enumerate(queries):
            expected = [-np.inf if s is None else s for s in bm25(words(text), documents, k1, b)]
            np.testing.assert_allclose(scores[number, rows], expected, rtol=1e-5, atol=1e-6)


def test_scores_by_bm25s_on_stemmed_tokens():
    texts = ["Die Häuser brannten nachts.", "Ein Haus am See", "Der See und der Fluss und der See", "Nächte"]
    query = "Wo brennen Häuser am See, am See?"
    stem = Stemmer.Stemmer("german").stemWords
    reference = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    reference.index([stem(words(text)) for text in texts], show_progress=False)
    expected = reference.get_scores(stem(words(query)))
    scores = LexicalScorer(task_of([("de", query)], [("de", text) for text in texts])).scores(EVERYTHING, EVERYTHING)
    assert (expected > 0).tolist() == [True, True, True, False]
    np.testing.assert_allclose(scores[0], np.where(expected > 0, expected, -np.inf), rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(texts, texts, st.data())
def test_the_same_scores_whatever_is_asked_for(queries, passages, data):
    scorer = LexicalScorer(task_of(queries, passages))
    scores = scorer.scores(EVERYTHING, EVERYTHING)
    parts = [
        slice(*sorted(data.draw(st.tuples(st.integers(0, len(items)), st.integers(0, len(items))))))
        for items in (queries, passages)
    ]
    np.testing.assert_array_equal(scorer.scores(*parts), scores[parts[0], parts[1]])
    chosen = np.array(data.draw(st.lists(st.integers(0, len(passages) - 1), max_size=5)), dtype=np.int64)
    np.testing.assert_array_equal(scorer.scores(EVERYTHING, chosen), scores[:, chosen])
    pairs = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(passages) - 1))
    rows = np.array(data.draw(st.lists(pairs, max_size=20)), dtype=np.int64).reshape(-1, 2)
    np.testing.assert_array_equal(scorer.pairs(rows[:, 0], rows[:, 1]), scores[rows[:, 0], rows[:, 1]])


def test_pairs_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr(lexical, "_PAIRS", 2)
    scorer = LexicalScorer(task_of([("en", "red fox"), ("en", "blue")], [("en", "fox"), ("en", "red blue")]))
    query, passage = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 1])
    scores = scorer.scores(EVERYTHING, EVERYTHING)
    np.testing.assert_array_equal(scorer.pairs(query, passage), scores[query, passage])


def test_a_languages_statistics_come_from_its_passages_alone():
    query = [("en", "engine")]
    alone = [("en", "steam engine"), ("en", "river")]
    with_german = [("de", "engine engine"), *alone, ("de", "Dampf")]
    expected = LexicalScorer(task_of(query, alone)).scores(EVERYTHING, EVERYTHING)
    np.testing.assert_array_equal(LexicalScorer(task_of(query, with_german)).scores(EVERYTHING, slice(1, 3)), expected)


def test_a_query_is_analysed_like_the_index_it_is_put_to():
    # A name that the stemmers treat differently is found in the other language, too.
    assert Stemmer.Stemmer("german").stemWord("panthers") != Stemmer.Stemmer("english").stemWord("panthers")
    task = task_of([("en", "Panthers")], [("de", "Panthers"), ("en", "panther")])
    assert np.isfinite(LexicalScorer(task).scores(EVERYTHING, EVERYTHING)).all()


@pytest.mark.parametrize("lang", ["en", "en-US", "EN_gb"])
def test_a_region_does_not_change_the_stemmer(lang):
    assert np.isfinite(LexicalScorer(task_of([("en", "running")], [(lang, "run")])).scores(EVERYTHING, EVERYTHING))


def test_no_term_no_retrieval():
    passages = [("xx", "…"), ("en", "!?"), ("en", "cat")]  # a language without any term, and a passage
    scores = LexicalScorer(task_of([("en", "a cat"), ("en", "???"), ("xx", "dog")], passages)).scores(
        EVERYTHING, EVERYTHING
    )
    assert (scores > -np.inf).tolist() == [[False, False, True], [False] * 3, [False] * 3]


@pytest.mark.parametrize(("k1", "b"), [(-0.1, 0.4), (0.9, 1.1), (0.9, -0.1)])
def test_parameters_out_of_range(k1, b):
    with pytest.raises(ValueError, match=f"k1 must be at least 0 and b from 0 to 1; they are {k1} and {b}"):
        LexicalScorer(task_of([("en", "a")], [("en", "a")]), k1=k1, b=b)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3.5 A_B-c!", ["it", "s", "3", "5", "a", "b", "c"]),
        ("STRASSE Straße ＡＢ１ ﬁn", ["strasse", "strasse", "ab1", "fin"]),
        ("e\u0301te\u0301 été", ["été", "été"]),
        ("İstanbul istanbul", ["istanbul", "istanbul"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs do not break words
        ("co\u00adop क\u200dष", ["coop", "कष"]),
        ("می\u200cخواهم", ["می", "خواهم"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("ｶﾞｷﾞｸﾞ", ["ガギ", "ギグ"]),
        ("東 日・本", ["東", "日", "本"]),  # single characters
        ("iPhone15を買う", ["iphone15", "を買", "買う"]),
        ("สวัสดี", ["สวั", "วัส", "สดี"]),  # vowel signs stay with their consonants
        ("한국어는", ["한국", "국어", "어는"]),
        ("\U00020000\U00020001", ["\U00020000\U00020001"]),
        ("… !? _", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_lose_no_letter_or_digit(text):
    left = Counter("".join(words(text)))
    normalised = lexical._normalised(text)
    assert set(left) >= {character for character in normalised if character.isalnum()}
    assert not any(character.isspace() for character in left)


def precision_at_5(task, scorer):
    """P@5 of queries and passages in one language; ties as they come."""
    row = {passage.id: i for i, passage in enumerate(task.passages)}
    top = np.argsort(-scorer.scores(EVERYTHING, EVERYTHING), axis=1, kind="stable")[:, :5]
    relevant = [{row[p] for p in task.qrels[query.id]} for query in task.queries]
    return np.mean([len(r & set(best.tolist())) / 5 for r, best in zip(relevant, top, strict=True)])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("lang", "least", "gain"),
    [("zh", 0.17, 0.15), ("th", 0.17, 0.12), ("de", 0.16, 0.02)],  # one relevant sentence: P@5 is at most .2
)
def test_better_than_splitting_at_spaces_on_xquad_r(shared, monkeypatch, lang, least, gain):
    task = lareqa.read(str(shared / "data" / "xquad_r"), languages=[lang])
    ours = precision_at_5(task, LexicalScorer(task))
    monkeypatch.setattr(lexical, "words", str.split)
    by_spaces = precision_at_5(task, LexicalScorer(task))
    assert ours > least
    assert ours > by_spaces + gain

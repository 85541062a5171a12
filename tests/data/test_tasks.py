import pytest

from clirscale.data import tasks
from clirscale.data.tasks import Passage, Passages, Query, RetrievalTask
from clirscale.errors import DataError

QUERIES = (Query("q1", "en", "g1", "what?"), Query("q2", "zh", "g1", "什么？"))
PASSAGES = (Passage("p1", "en", "this"), Passage("p2", "de", "dies"))
QRELS = {"q1": {"p1": 1, "p2": 1}}


def task(queries=QUERIES, passages=PASSAGES, qrels=QRELS, name="t"):
    return RetrievalTask(name, tuple(queries), tuple(passages), qrels)


def test_languages_are_those_of_queries_and_passages():
    assert task().languages == ["de", "en", "zh"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"queries": [], "qrels": {}}, "t: no query in the task"),
        ({"passages": []}, "t: no passage in the task"),
        ({"queries": [*QUERIES, Query("q1", "de", "g2", "wer?")]}, "occurs more than once"),
        ({"passages": [*PASSAGES, Passage("p1", "zh", "这")]}, "occurs more than once"),
        ({"passages": [*PASSAGES, Passage("p3", "zh", " \n")]}, "passage 'p3' has no text"),
        ({"queries": [*QUERIES, Query("q3", "de", "g2", "")]}, "query 'q3' has no text"),
        ({"queries": [*QUERIES, Query("q 3", "de", "g2", "wer?")]}, "query id 'q 3' is empty or has white space"),
        ({"passages": [*PASSAGES, Passage("p\u30003", "zh", "这")]}, "white space"),
        ({"passages": [*PASSAGES, Passage("", "zh", "这")]}, "passage id '' is empty"),
        ({"qrels": {"q9": {"p1": 1}}}, "query 'q9', which does not exist"),
        ({"qrels": {"q1": {"p1": 1, "p9": 0}}}, "passage 'p9', which does not exist"),
        ({"qrels": {"q1": {"p1": -1}}}, "query 'q1' has grade -1 for passage 'p1'; use 0"),
    ],
)
def test_refused(parts, message):
    with pytest.raises(DataError, match=message):
        task(**parts)


def test_fingerprint_does_not_depend_on_order_or_name():
    turned = task(QUERIES[::-1], PASSAGES[::-1], {"q1": {"p2": 1, "p1": 1}}, name="other")
    assert turned.fingerprint == task().fingerprint


@pytest.mark.parametrize(
    "parts",
    [
        {"queries": [QUERIES[0], Query("q2", "zh", "g1", "怎么？")]},
        {"queries": [QUERIES[0], Query("q2", "zh", "g2", "什么？")]},
        {"passages": [PASSAGES[0], Passage("p2", "nl", "dies")]},
        {"qrels": {"q1": {"p1": 1, "p2": 2}}},
        {"qrels": {"q1": {"p1": 1}}},
    ],
)
def test_fingerprint_sees_every_part(parts):
    assert task(**parts).fingerprint != task().fingerprint


def many(n=7):
    return [Passage(f"p{i * 5 % n}", "de" if i % 2 else "en", f"text {i}") for i in range(n)]


@pytest.mark.parametrize("in_memory", [10**9, 0])
def test_passages_in_memory_and_in_a_file_are_the_same(monkeypatch, in_memory):
    monkeypatch.setattr(tasks, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(tasks, "_ROWS", 3)
    passages = Passages((p for p in many()), "t")
    assert list(passages) == many() == passages[:]
    assert passages[-1] == many()[-1]
    assert list(passages.iter_texts()) == [p.text for p in many()]
    assert passages.texts([5, 0, 5]) == ["text 5", "text 0", "text 5"]
    assert [passages.languages[code] for code in passages.lang_codes] == [p.lang for p in many()]
    assert [passages[int(row)].id for row in passages.id_order] == sorted(p.id for p in many())
    assert passages.find(["p3", "p0", "p9"]) == {p.id: i for i, p in enumerate(many()) if p.id in ("p3", "p0")}
    assert passages.digest == Passages(many()[::-1], "t").digest


def test_ids_are_ordered_by_utf8_bytes_as_python_orders_strings():
    ids = ["z", "é", "ｚ", "𝒛", "Z", "z0"]
    passages = Passages([Passage(i, "en", "x") for i in ids], "t")
    assert [ids[row] for row in passages.id_order] == sorted(ids)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(DataError, match=r"t: 'a.ud83d' has half a surrogate pair"):
        Passages([Passage("p1", "en", "a\ud83d")], "t")


def test_what_is_excluded_and_the_settings_make_another_task():
    base = RetrievalTask("t", QUERIES, PASSAGES, QRELS)
    assert (
        RetrievalTask("t", QUERIES, PASSAGES, QRELS, excluded={"q1": frozenset(["p2"])}).fingerprint != base.fingerprint
    )
    assert RetrievalTask("t", QUERIES, PASSAGES, QRELS, settings=("mono",)).fingerprint != base.fingerprint
    with pytest.raises(DataError, match="t: 'bi' is no setting"):
        RetrievalTask("t", QUERIES, PASSAGES, QRELS, settings=("bi",))

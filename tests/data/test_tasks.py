import pytest

from clirscale.data.tasks import Passage, Query, RetrievalTask
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

import ir_measures
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clirscale.errors import ConfigError
from clirscale.retrieval.measures import JudgedRanks, compute, depth_needed, parse_measures

BY_RANKS = [
    "P@1", "P@5", "P(rel=2)@3", "R@1", "R@20", "R(rel=2)@4", "Success@1", "Success@5", "RR", "RR(rel=2)",
    "AP", "AP@3", "AP(rel=2)@20", "Rprec", "nDCG", "nDCG@1", "nDCG@3", "nDCG@10",
]  # fmt: skip
DOCS = ["d1", "d10", "d2", "a", "é", "字", "d1b", "z", "D1", "10", "9", "\U0001f600"]

runs = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.dictionaries(st.sampled_from(DOCS), st.sampled_from([-1.0, 0.0, 0.1, 0.1 + 1e-12, 0.5, 2.0])),
)
grades = st.dictionaries(st.sampled_from(DOCS), st.integers(0, 3), min_size=1)  # below 0, pytrec_eval may not return
judgements = st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), grades, min_size=1)


def judged_ranks(qrels, run):
    """Ranks by sorting: float32 score descending, then id descending."""
    rows = []
    for number, (query, judged) in enumerate(qrels.items()):
        scores = {doc: np.float32(score) for doc, score in run.get(query, {}).items()}
        order = sorted(scores, key=lambda doc: (scores[doc], doc), reverse=True)
        rows += [(number, order.index(d) + 1 if d in scores else np.inf, grade) for d, grade in judged.items()]
    query, rank, grade = np.array(rows, dtype=float).T
    return JudgedRanks(len(qrels), query.astype(int), rank, grade.astype(int))


def no_top(depth):
    raise AssertionError("the ranks are enough")


def of_trec_eval(names, qrels, run):
    # Each measure on its own: ir-measures passes one measure's relevance level on to another's nDCG.
    values = {(m, q): 0.0 for m in names for q in qrels}
    for name in names:
        for metric in ir_measures.iter_calc([ir_measures.parse_measure(name)], qrels, run):
            values[name, metric.query_id] = metric.value
    return values


@settings(max_examples=300, deadline=None)
@given(judgements, runs)
@example({"q1": {"a": 1}}, {})  # nothing retrieved
@example({"q1": {"a": 0, "z": 0}}, {"q1": {"a": 1.0}})  # nothing relevant
@example({"q1": dict.fromkeys(DOCS, 1)}, {"q1": dict.fromkeys(DOCS, 0.5)})  # all tied, more relevant than the cut-off
def test_equal_to_trec_eval(qrels, run):
    values = compute(parse_measures(BY_RANKS), judged_ranks(qrels, run), no_top)
    assert list(values) == BY_RANKS
    for (name, query), expected in of_trec_eval(BY_RANKS, qrels, run).items():
        assert values[name][list(qrels).index(query)] == pytest.approx(expected, abs=1e-9), (name, query)


@settings(max_examples=100, deadline=None)
@given(judgements, runs, st.integers(1, 12))
def test_reciprocal_rank_with_a_cut_off(qrels, run, k):
    # No reference to compare with: ir-measures leaves RR@k to MS MARCO's script, which breaks ties the other way.
    values = compute(parse_measures(["RR", f"RR@{k}"]), judged_ranks(qrels, run), no_top)
    np.testing.assert_array_equal(values[f"RR@{k}"], np.where(values["RR"] >= 1 / k, values["RR"], 0))


def test_by_hand():
    # relevant at ranks 2 and 5, one not retrieved; grades 2, 1, 1
    ranks = JudgedRanks(1, np.zeros(4, int), np.array([5, np.inf, 2, 1]), np.array([1, 1, 2, 0]))
    values = compute(parse_measures(["P@5", "R@4", "AP", "RR", "nDCG@5"]), ranks, no_top)
    assert values["P@5"] == 2 / 5
    assert values["R@4"] == 1 / 3
    assert values["RR"] == 1 / 2
    assert values["AP"] == pytest.approx((1 / 2 + 2 / 5) / 3)
    ideal = 2 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["nDCG@5"] == pytest.approx((2 / np.log2(3) + 1 / np.log2(6)) / ideal)


def test_a_negative_grade_is_not_relevant_and_gains_nothing():
    values = [
        compute(
            parse_measures(BY_RANKS), JudgedRanks(1, np.zeros(2, int), np.array([1.0, 2.0]), np.array(grade)), no_top
        )
        for grade in ([-1, 2], [0, 2])
    ]
    assert values[0] == values[1]


def test_no_query():
    empty = JudgedRanks(0, np.zeros(0, int), np.zeros(0), np.zeros(0, int))
    assert all(len(v) == 0 for v in compute(parse_measures(BY_RANKS), empty, no_top).values())


def test_any_other_measure_with_a_cut_off_is_left_to_ir_measures():
    names = ["Judged@2", "P@2", "nDCG(gains={1:3})@3"]
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"c": 1}}
    order = [["b", "x", "a"], ["x", "c", "y"]]
    ranks = JudgedRanks(2, np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0]), np.array([1, 0, 1]))
    measures = parse_measures(names)
    assert depth_needed(measures) == 3
    asked = []

    def top(depth):
        asked.append(depth)
        return [ids[:depth] for ids in order], list(qrels.values())

    values = compute(measures, ranks, top)
    assert asked == [3]
    assert list(values) == names
    assert values["Judged@2"].tolist() == [0.5, 0.5]
    assert values["P@2"].tolist() == [0, 0.5]
    assert values["nDCG(gains={1:3})@3"] == pytest.approx([1 / np.log2(4), 1 / np.log2(3)])


def test_ranks_are_enough_for_the_common_ones():
    assert depth_needed(parse_measures(BY_RANKS)) == 0


def test_default_parameters_may_be_spelt_out():
    assert depth_needed(parse_measures(["nDCG(dcg='log2')@10", "P(rel=1,judged_only=False)@5"])) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Prec@5", "'Prec@5' is not a measure of ir-measures"),
        ("P", "'P' is not a measure of ir-measures"),
        ("P@", "is not a measure"),
        ("P@0", "cutoff must be at least 1, is 0"),
        ("P@-1", "is not a measure"),
        ("P@5.5", "is not a measure"),
        ("P(rel=0)@5", "rel must be at least 1, is 0"),
        ("P(level=2)@5", "is not a measure"),
        ("Bpref", "'Bpref' would need complete run files; give it a cut-off"),
        ("P(judged_only=True)@5", "would need complete run files"),
    ],
)
def test_refused(name, message):
    with pytest.raises(ConfigError, match=r"^eval\.measures: .*") as error:
        parse_measures(["R@20", name])
    assert message in str(error.value)


def test_given_twice():
    with pytest.raises(ConfigError, match="'P@5' is given twice"):
        parse_measures(["P@5", "R@20", "P@5"])

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clirscale.errors import ConfigError
from clirscale.retrieval.measures import (
    JudgedRanks,
    average_precision,
    compute,
    contrastive_entropy,
    depth_needed,
    negatives,
    parse_measures,
)

BY_RANKS = [
    "P@1", "P@5", "P(rel=2)@3", "R@1", "R@20", "R(rel=2)@4", "Success@1", "Success@5", "RR", "RR(rel=2)",
    "AP", "AP@3", "AP(rel=2)@20", "Rprec", "nDCG", "nDCG@1", "nDCG@3", "nDCG@10", "R@1000", "nDCG@1000",
]  # fmt: skip
IN_PYTREC_EVAL = {
    "AP": "map", "AP@3": "map_cut_3", "nDCG": "ndcg", "nDCG@10": "ndcg_cut_10", "R@20": "recall_20",
    "R@1000": "recall_1000", "P@5": "P_5", "RR": "recip_rank", "Success@5": "success_5", "Rprec": "Rprec",
}  # fmt: skip
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


@settings(max_examples=200, deadline=None)
@given(judgements, runs)
@example({"q1": {"a": 1}}, {"q1": {"a": 1.0}})  # one query, one passage
def test_equal_to_pytrec_eval_called_directly(qrels, run):
    values = compute(parse_measures(list(IN_PYTREC_EVAL)), judged_ranks(qrels, run), no_top)
    wanted = {"map", "ndcg", "recip_rank", "Rprec", "map_cut.3", "ndcg_cut.10", "recall.20,1000", "P.5", "success.5"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate({q: docs for q, docs in run.items() if docs})
    for number, query in enumerate(qrels):
        for name, theirs in IN_PYTREC_EVAL.items():
            assert values[name][number] == pytest.approx(expected.get(query, {}).get(theirs, 0), abs=1e-9), name


def ranked(run):
    return sorted(run, key=lambda doc: (np.float32(run[doc]), doc), reverse=True)


def recall_cap_of_beir(relevant, ranking, k):
    return len(relevant & set(ranking[:k])) / min(len(relevant), k)


def average_precision_of_lareqa(relevant, ranking, k):
    hits, total = 0, 0.0
    for i, doc in enumerate(ranking[:k], 1):
        if doc in relevant:
            hits += 1
            total += hits / i
    return total / min(len(relevant), k)


@settings(max_examples=200, deadline=None)
@given(judgements, runs, st.integers(1, 15), st.integers(1, 2))
@example({"q1": dict.fromkeys(DOCS, 1)}, {"q1": dict.fromkeys(DOCS, 0.5)}, 3, 1)  # more relevant than the cut-off
@example({"q1": {"a": 1}}, {"q1": {"a": 0.5}}, 15, 1)  # a cut-off beyond the corpus
def test_capped_measures_by_the_definitions_of_beir_and_lareqa(qrels, run, k, rel):
    names = [f"R_cap(rel={rel})@{k}", f"AP_cap(rel={rel})@{k}"]
    values = compute(parse_measures(names), judged_ranks(qrels, run), no_top)
    for number, (query, grades) in enumerate(qrels.items()):
        relevant = {doc for doc, grade in grades.items() if grade >= rel}
        for name, definition in zip(names, (recall_cap_of_beir, average_precision_of_lareqa), strict=True):
            expected = definition(relevant, ranked(run.get(query, {})), k) if relevant else 0
            assert values[name][number] == pytest.approx(expected, abs=1e-12), name


@settings(max_examples=50, deadline=None)
@given(judgements, runs)
def test_capped_measures_are_the_uncapped_ones_where_the_cut_off_exceeds_the_relevant(qrels, run):
    values = compute(parse_measures(["R_cap@12", "R@12", "AP_cap@12", "AP@12", "AP"]), judged_ranks(qrels, run), no_top)
    np.testing.assert_array_equal(values["R_cap@12"], values["R@12"])
    np.testing.assert_array_equal(values["AP_cap@12"], values["AP"])
    np.testing.assert_array_equal(values["AP@12"], average_precision(judged_ranks(qrels, run)))


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


def test_contrastive_entropy_needs_neither_ranks_nor_the_top():
    assert depth_needed(parse_measures(["CE", "P@5"])) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Qux@5", "'Qux@5' is not a measure; (one of: AP, AP_IA, AP_cap"),
        ("nDGC@10", "'nDGC@10' is not a measure; did you mean 'nDCG'? (one of: "),
        ("", "'' is not a measure; (one of: AP"),
        ("P", "'P' is not written as a measure, such as P@5, P(rel=2)@5, AP or nDCG@10 (cutoff must be given)"),
        ("R_cap", "'R_cap' is not written as a measure, such as P@5, P(rel=2)@5, AP or nDCG@10 (cutoff must be given)"),
        ("P@", "'P@' is not written as a measure"),
        ("P@0", "cutoff must be at least 1, is 0"),
        ("AP_cap@0", "cutoff must be at least 1, is 0"),
        ("P@-1", "is not written as a measure"),
        ("P@5.5", "is not written as a measure"),
        ("CE@5", "is not written as a measure"),
        ("P(rel=0)@5", "rel must be at least 1, is 0"),
        ("P(level=2)@5", "is not written as a measure"),
        ("Bpref", "'Bpref' would need complete run files; give it a cut-off"),
        ("P(judged_only=True)@5", "would need complete run files"),
        ("alpha_nDCG@5", "'alpha_nDCG@5': ir-measures has no provider installed that computes it"),
    ],
)
def test_refused(name, message):
    with pytest.raises(ConfigError, match=r"^eval\.xquad_r\.measures: .*") as error:
        parse_measures(["R@20", name], "eval.xquad_r.measures")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("NDCG@10", "nDCG@10"), ("ndcg_cut_10", "nDCG@10"), ("Recall@20", "R@20"), ("recall.20", "R@20"),
        ("MAP", "AP"), ("map", "AP"), ("MRR@10", "RR@10"), ("recip_rank", "RR"), ("Precision@5", "P@5"),
        ("P_5", "P@5"), ("Hits@1", "Success@1"), ("recall_cap@100", "R_cap@100"), ("LAReQA_AP@20", "AP_cap@20"),
        ("ndcg(gains={1:3})@3", "nDCG(gains={1:3})@3"),
    ],
)  # fmt: skip
def test_a_synonym_is_refused_with_the_name_that_it_has_here(name, here):
    parse_measures([here])
    with pytest.raises(ConfigError, match=r"^eval\.measures: ") as error:
        parse_measures([name])
    assert f"{name!r} is not a measure; did you mean '{here}'?" in str(error.value)


def test_map_with_a_cut_off_may_mean_either_divisor():
    with pytest.raises(ConfigError, match=r"'AP@20' .*divided by R.* or 'AP_cap@20' .*LAReQA, XTREME-R"):
        parse_measures(["mAP@20"])


@pytest.mark.parametrize("again", ["P@5", "P(rel=1)@5"])
def test_given_twice(again):
    with pytest.raises(ConfigError, match=r"'P.*@5' is given twice"):
        parse_measures(["P@5", "R@20", again])


finite = st.floats(-30, 30, width=32)


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=4), st.lists(finite, min_size=1, max_size=9), st.floats(0.05, 2))
def test_contrastive_entropy_by_its_formula(positive, negative, temperature):
    value = contrastive_entropy(
        np.array(positive), np.array([negative]), np.zeros(len(positive), dtype=np.int64), temperature
    )
    shift = max(*positive, *negative)
    s = np.exp((np.array(positive, dtype=np.longdouble) - shift) / temperature)
    d = np.exp((np.array(negative, dtype=np.longdouble) - shift) / temperature).sum()
    assert value.shape == (1,)
    assert value[0] == pytest.approx(float(np.mean(np.log1p(d / s))), rel=1e-9, abs=1e-12)


def test_contrastive_entropy_is_the_mean_over_a_querys_positives():
    score = np.array([0.5, 0.25, 1.0], dtype=np.float32)
    negative = np.array([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    value = contrastive_entropy(score, negative, np.array([0, 2, 2]), 1.0)
    second = [np.log1p(np.exp(-s) + np.exp(1 - s)) for s in (0.25, 1.0)]
    assert value[0] == pytest.approx(np.log(3))
    assert np.isnan(value[1])  # no positive
    assert value[2] == pytest.approx(np.mean(second))


def test_contrastive_entropy_is_stable_and_ignores_masked_negatives():
    inf = np.inf
    negative = np.array([[1e4, -inf], [-inf, -inf], [-1e4, -inf], [-inf, -inf]])
    value = contrastive_entropy(np.array([0, 3, 1e4, -inf]), negative, np.arange(4), 0.05)
    assert value.tolist() == [1e4 / 0.05, 0, 0, inf]


def test_contrastive_entropy_of_no_query():
    assert contrastive_entropy(np.zeros(0), np.zeros((0, 256)), np.zeros(0, int), 1.0).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.data(), st.integers(0, 2**63 - 1), st.integers(1, 20))
def test_negatives_are_distinct_allowed_and_as_many_as_there_can_be(size, data, seed, count):
    rows = st.lists(st.integers(0, size - 1), unique=True, max_size=size)
    forbidden = [np.array(row, dtype=np.int64) for row in data.draw(st.lists(rows, max_size=4))]
    drawn = negatives(size, forbidden, seed, count)
    assert drawn.shape == (len(forbidden), min(count, size))
    for row, never in zip(drawn, forbidden, strict=True):
        chosen = row[row >= 0]
        assert len(set(chosen.tolist())) == len(chosen) == min(count, size - len(never))
        assert not set(chosen.tolist()) & set(never.tolist())
        assert (row[len(chosen) :] == -1).all()


def test_negatives_are_one_set_but_for_what_is_forbidden():
    nothing = np.zeros(0, dtype=np.int64)
    first, second = negatives(10_000, [nothing, np.array([7])], seed=3)
    assert first.shape == (256,)
    assert first.tolist() == second.tolist()  # 7 was not drawn
    without = negatives(10_000, [nothing, first[:2]], seed=3)[1]
    assert without[:-2].tolist() == first[2:].tolist()
    assert negatives(10_000, [nothing], seed=3)[0].tolist() == first.tolist()
    assert negatives(10_000, [nothing], seed=4)[0].tolist() != first.tolist()


def test_negatives_do_not_change_between_versions():
    assert negatives(1_000_000, [np.zeros(0, dtype=np.int64)], seed=0, count=4).tolist() == [
        [150050, 78538, 238149, 743558]
    ]


def test_a_corpus_of_fewer_passages_is_taken_whole():
    assert sorted(negatives(256, [np.array([3])], seed=0)[0]) == [-1, *range(3), *range(4, 256)]


def test_negatives_are_uniform():
    nothing = [np.zeros(0, dtype=np.int64)]
    count = np.bincount(np.concatenate([negatives(20, nothing, seed, 5)[0] for seed in range(2000)]))
    # 20 binomial counts of mean 500: chi-squared with 19 degrees of freedom exceeds 45 once in a thousand times
    assert ((count - 500) ** 2 / (500 * 0.75)).sum() < 45

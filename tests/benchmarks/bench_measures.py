"""Time the measures against pytrec_eval on the same ranked arrays.

python tests/benchmarks/bench_measures.py            # ten seconds on one core, 2 GB of memory
python tests/benchmarks/bench_measures.py --queries 1000

Both start from the ids and scores of the ranked candidates, one row a query, and from the qrels. pytrec_eval wants
dictionaries of Python strings and floats, which is where most of its time goes. The values must agree to 1e-9.
"""

import argparse
import time
from contextlib import contextmanager

import numpy as np
import pytrec_eval

from clirscale.retrieval.measures import JudgedRanks, compute, parse_measures

MEASURES = {
    "P@5": "P_5", "R@20": "recall_20", "AP": "map", "nDCG@10": "ndcg_cut_10", "R@100": "recall_100", "RR@10": None,
}  # fmt: skip
DEPTH_OF_RR = 10  # pytrec_eval's recip_rank has no cut-off: it is cut by hand


def synthetic(n_queries, depth, corpus, rng):
    """Return passage ids, ranked passages and scores (n_queries, depth), and qrels with grades 0 … 3."""
    ids = np.array([f"passage-{i:07d}" for i in range(corpus)], dtype=object)
    ranked = np.stack([rng.choice(corpus, depth, replace=False) for _ in range(n_queries)])
    scores = np.arange(depth, 0, -1) + 0.5 * rng.random((n_queries, depth))  # distinct as float32, too
    qrels = {}
    for query, row in enumerate(ranked):
        found = row[np.unique(rng.geometric(0.05, size=8) % depth)]
        missed = rng.choice(corpus, 3, replace=False)
        judged = np.unique(np.concatenate([found, missed]))
        grades = rng.integers(0, 4, len(judged))
        grades[0] = 1
        qrels[f"q{query}"] = {ids[p]: int(g) for p, g in zip(judged, grades, strict=True)}
    return ids, ranked, scores, qrels


def ours(ids, ranked, qrels):
    row_of = {passage_id: row for row, passage_id in enumerate(ids)}
    pairs = [(q, row_of[p], grade) for q, grades in enumerate(qrels.values()) for p, grade in grades.items()]
    query, passage, grade = np.array(pairs).T
    rank = np.full(len(pairs), np.inf)
    for begin in range(0, len(pairs), 10_000):
        part = slice(begin, begin + 10_000)
        hit, position = np.nonzero(ranked[query[part]] == passage[part, None])
        rank[begin + hit] = position + 1
    return compute(parse_measures(list(MEASURES)), JudgedRanks(len(qrels), query, rank, grade), top=None)


def by_pytrec_eval(ids, ranked, scores, qrels):
    run = {
        query: dict(zip(ids[passages].tolist(), row.tolist(), strict=True))
        for query, passages, row in zip(qrels, ranked, scores, strict=True)
    }
    wanted = {"P.5", "recall.20,100", "map", "ndcg_cut.10", "recip_rank"}
    found = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)
    values = {ours: np.array([found[q][theirs] for q in qrels]) for ours, theirs in MEASURES.items() if theirs}
    reciprocal = np.array([found[q]["recip_rank"] for q in qrels])
    return values | {"RR@10": np.where(reciprocal >= 1 / DEPTH_OF_RR, reciprocal, 0)}


@contextmanager
def timed(label):
    begin = time.perf_counter()
    result = {}
    yield result
    result["seconds"] = time.perf_counter() - begin
    print(f"{label:<44}{result['seconds']:8.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=13_090, help="as many as XQuAD-R has (default: 13090)")
    parser.add_argument("--depth", type=int, default=1_000, help="ranked candidates a query (default: 1000)")
    parser.add_argument("--corpus", type=int, default=13_014, help="passages (default: 13014)")
    options = parser.parse_args()

    print(f"{options.queries:,} queries × {options.depth:,} of {options.corpus:,} candidates; {', '.join(MEASURES)}\n")
    ids, ranked, scores, qrels = synthetic(options.queries, options.depth, options.corpus, np.random.default_rng(0))
    with timed("clirscale, from ranked arrays and qrels") as mine:
        values = ours(ids, ranked, qrels)
    with timed("pytrec_eval, from ranked arrays and qrels") as theirs:
        expected = by_pytrec_eval(ids, ranked, scores, qrels)
    worst = max(float(np.abs(values[name] - expected[name]).max()) for name in MEASURES)
    assert worst < 1e-9, f"values differ by {worst}"
    print(f"\npytrec_eval takes {theirs['seconds'] / mine['seconds']:.1f} times as long; values agree to {worst:.0e}")


if __name__ == "__main__":
    main()

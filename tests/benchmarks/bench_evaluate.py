"""Time the evaluation against its alternatives on synthetic data of XQuAD-R's size.

python tests/benchmarks/bench_evaluate.py            # about two minutes on two cores
python tests/benchmarks/bench_evaluate.py --sample 20

Compared on the same rankings: ir-measures over pytrec_eval, and FAISS asked for sorted rankings. What would take too
long is done for a sample of the queries and scaled up; the values of the sample must agree to 1e-9.
"""

import argparse
import os
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import faiss
import ir_measures
import numpy as np

from clirscale.config import SearchConfig
from clirscale.data.tasks import Passage, Query, RetrievalTask
from clirscale.retrieval.evaluate import evaluate
from clirscale.retrieval.search import POOL, DenseScorer, PassageIndex

SENTENCES = {
    "ar": 1222, "de": 1276, "el": 1234, "en": 1180, "es": 1215, "hi": 1244,
    "ru": 1219, "th": 852, "tr": 1167, "vi": 1209, "zh": 1196,
}  # fmt: skip
QUESTIONS = 1190
MEASURES = ["P@5", "R@20", "AP", "nDCG@10"]


def synthetic_task(dim):
    """A task of XQuAD-R's shape, with queries near their relevant passages."""
    rng = np.random.default_rng(0)
    passages = [Passage(f"{lang}_{i // 5}_{i % 5}", lang, ".") for lang, n in SENTENCES.items() for i in range(n)]
    queries = [Query(f"{lang}:{q:024x}", lang, f"{q:024x}", "?") for lang in SENTENCES for q in range(QUESTIONS)]
    answers = [
        {f"{lang}_{i // 5}_{i % 5}": 1 for lang, n in SENTENCES.items() for i in [q % n]} for q in range(QUESTIONS)
    ]
    qrels = {query.id: answers[int(query.group_id, 16)] for query in queries}
    number = {passage.id: i for i, passage in enumerate(passages)}
    passage_vectors = rng.standard_normal((len(passages), dim), dtype=np.float32)
    query_vectors = rng.standard_normal((len(queries), dim), dtype=np.float32)
    for row, query in zip(query_vectors, queries, strict=True):
        row += passage_vectors[[number[p] for p in qrels[query.id]]].mean(axis=0)
    for vectors in (passage_vectors, query_vectors):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return RetrievalTask("synthetic", tuple(queries), tuple(passages), qrels), query_vectors, passage_vectors


@contextmanager
def timed(label, scale=1.0):
    begin = time.perf_counter()
    result = {}
    yield result
    result["seconds"] = (time.perf_counter() - begin) * scale
    print(f"{label:<68}{result['seconds']:8.1f} s{'' if scale == 1 else '  (scaled up)'}")


def by_ir_measures(task, query_vectors, passage_vectors, sample):
    """Measure each ranking of the sampled queries by ir-measures; return values by query id and corpus."""
    ids = task.passages.ids.to_pylist()
    members = {lang: [i for i, p in enumerate(task.passages) if p.lang == lang] for lang in SENTENCES}
    members[POOL] = list(range(len(ids)))
    parsed = [ir_measures.parse_measure(name) for name in MEASURES]
    values = {}
    scores = query_vectors[sample] @ passage_vectors.T
    for corpus, inside in members.items():
        names = {ids[i] for i in inside}
        run, qrels = {}, {}
        for row, q in zip(scores, sample, strict=True):
            query_id = task.queries[q].id
            run[query_id] = dict(zip((ids[i] for i in inside), row[inside].tolist(), strict=True))
            qrels[query_id] = {p: g for p, g in task.qrels[query_id].items() if p in names}
        for metric in ir_measures.iter_calc(parsed, qrels, run):
            values[metric.query_id, corpus, str(metric.measure)] = metric.value
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=50, help="queries for what is too slow for all (default: 50)")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--run-depth", type=int, default=100)
    options = parser.parse_args()

    task, queries, passages = synthetic_task(options.dim)
    n = len(queries)
    print(f"{n:,} queries × {len(passages):,} passages × {options.dim} dimensions, {os.cpu_count()} cores\n")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with timed("clirscale: search, measures, rank distance") as ours:
        search = SearchConfig(index="exact", sample=1, seed=0)
        evaluation = evaluate(task, DenseScorer(queries, passages), MEASURES, options.run_depth, search)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    with tempfile.TemporaryDirectory() as folder:
        with timed(f"clirscale: records and run files of depth {options.run_depth}"):
            evaluation.save(Path(folder))
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        sizes = "".join(f"  {p.relative_to(folder)!s:<24}{p.stat().st_size / 1e6:8.1f} MB\n" for p in files)
    print(f"{sizes}  memory grew by {grown:.0f} MB\n")

    sample = np.sort(np.random.default_rng(1).choice(n, options.sample, replace=False))
    with timed("ir-measures (pytrec_eval) on the complete rankings", n / options.sample) as theirs:
        expected = by_ir_measures(task, queries, passages, sample)
    rows = evaluation.per_query.set_index(["query_id", "passage_lang"])
    worst = max(abs(rows.loc[(q, corpus), name] - value) for (q, corpus, name), value in expected.items())
    assert worst < 1e-9, f"values differ by {worst}"
    print(f"  {theirs['seconds'] / ours['seconds']:.0f} times as long; {len(expected):,} values agree to {worst:.0e}\n")

    block = min(n, 1024)
    share = n / block
    whole = faiss.IndexFlatIP(options.dim)
    whole.add(passages)
    with timed("FAISS IndexFlatIP, one pool, k = all", share):
        whole.search(queries[:block], len(passages))
    indexes = []
    for lang in SENTENCES:
        indexes.append(faiss.IndexFlatIP(options.dim))
        indexes[-1].add(passages[[p.lang == lang for p in task.passages]])
    for label, depth in (("all", len(passages)), (str(options.run_depth), options.run_depth)):
        with timed(f"FAISS IndexFlatIP, one a language, k = {label}", share):
            for index in indexes:
                index.search(queries[:block], min(depth, index.ntotal))
    none = np.zeros(0, dtype=np.int64)
    index = PassageIndex(task.passages.ids, task.passages.lang_codes, task.passages.languages)
    query_lang = [q.lang for q in task.queries]
    with timed("clirscale: search alone, without ranks of judged passages"):
        index.search(DenseScorer(queries, passages), n, query_lang, none, none, options.run_depth)
    left, right = (vectors.astype(np.float64) for vectors in (queries, passages))
    with timed("a matrix product of that size in float64, the least that exact sums can take"):
        left @ right.T


if __name__ == "__main__":
    main()

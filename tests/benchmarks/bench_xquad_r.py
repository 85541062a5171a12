"""Time the evaluation of an encoder on XQuAD-R, all settings, against BEIR's evaluator on one language pair at a time.

pip install beir sentence-transformers                                                       # beside the project
python tests/benchmarks/bench_xquad_r.py --model DIR --data DIR                              # ten minutes on two cores
python tests/benchmarks/bench_xquad_r.py --model DIR --data DIR --pairs 3 --precision bf16-mixed

MODEL is a folder that save_pretrained wrote (mean pooling, E5's prefixes), DATA holds LAReQA's ar.json … zh.json. Both
sides start from the texts and end with P@5, R@20 and nDCG@10; BEIR embeds queries and passages of each of the 121
ordered pairs of languages, as its users do. That takes long: a sample of the pairs is timed and scaled up. The values
of the sampled pairs must agree. BEIR has no multilingual pool, so ours does more.
"""

import argparse
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.models import SentenceBERT
from beir.retrieval.search.dense import DenseRetrievalExactSearch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from clirscale.config import SearchConfig
from clirscale.data import lareqa
from clirscale.models.backbone import load_encoder
from clirscale.retrieval.embed import Embedder
from clirscale.retrieval.evaluate import evaluate
from clirscale.retrieval.search import DenseScorer
from clirscale.study.compose import plan

CONF = Path(__file__).parents[2] / "conf"
MEASURES = ["P@5", "R@20", "nDCG@10"]
LENGTH = 128  # tokens of queries and passages alike: BEIR's model has one limit


def encoder_of(folder):
    """Our encoder of a saved model."""
    (job,) = plan(["backbone=local", f"backbone.path={folder}"], CONF).jobs
    return load_encoder(replace(job.backbone, max_query_length=LENGTH, max_passage_length=LENGTH))


def clirscale(encoder, task, precision):
    with Embedder(
        encoder, folder=None, batch_tokens=2048, precision=precision, device=torch.device("cpu"), progress=False
    ) as embedder:
        queries = embedder.embed([q.text for q in task.queries], "query", "queries", [q.id for q in task.queries])
        passages = embedder.embed(task.passages.iter_texts(), "passage", "passages", task.passages.ids)
        search = SearchConfig(index="exact", sample=1, seed=0)
        return evaluate(task, DenseScorer(queries, passages), MEASURES, 20, search).cells()


def beir_model(folder, precision):
    """The same model as BEIR wants it: a saved SentenceTransformer."""
    transformer = modules.Transformer(str(folder), max_seq_length=LENGTH)
    parts = [transformer, modules.Pooling(transformer.get_embedding_dimension(), "mean"), modules.Normalize()]
    with tempfile.TemporaryDirectory() as saved:
        SentenceTransformer(modules=parts, device="cpu").save(saved)
        model = SentenceBERT(saved, prompts={"query": "query: ", "passage": "passage: "}, device="cpu")
    model.query_prefix, model.doc_prefix = "query: ", "passage: "
    model.q_model.to(torch.float32 if precision == "32-true" else torch.bfloat16)  # as saved, it may be in 16 bits
    return model


def beir(model, task, query_lang, passage_lang):
    """P@5, R@20 and nDCG@10 of one pair of languages."""
    corpus = {p.id: {"title": "", "text": p.text} for p in task.passages if p.lang == passage_lang}
    queries = {q.id: q.text for q in task.queries if q.lang == query_lang}
    qrels = {q: {p: g for p, g in task.qrels[q].items() if p in corpus} for q in queries}
    search = DenseRetrievalExactSearch(model, batch_size=32, show_progress_bar=False)
    evaluator = EvaluateRetrieval(search, score_function="dot", k_values=[5, 10, 20])
    ndcg, _, recall, precision = evaluator.evaluate(qrels, evaluator.retrieve(corpus, queries), [5, 10, 20])
    return [precision["P@5"], recall["Recall@20"], ndcg["NDCG@10"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pairs", type=int, default=6, help="pairs of languages that BEIR evaluates (default: 6)")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    options = parser.parse_args()
    logging.disable(logging.INFO)

    task = lareqa.read(options.data)
    langs = task.languages
    print(
        f"{len(task.queries):,} queries, {len(task.passages):,} passages, {options.precision}, {os.cpu_count()} cores"
    )
    encoder = encoder_of(options.model)
    begin = time.perf_counter()
    cells = clirscale(encoder, task, options.precision).set_index(["query_lang", "passage_lang"])
    ours = time.perf_counter() - begin
    print(f"clirscale, mono, cross and multi: {ours:.1f} s")

    model = beir_model(options.model, options.precision)
    pairs = [(a, b) for a in langs for b in langs]
    chosen = np.random.default_rng(0).choice(len(pairs), options.pairs, replace=False)
    begin = time.perf_counter()
    found = {pairs[i]: beir(model, task, *pairs[i]) for i in chosen}
    theirs = (time.perf_counter() - begin) * len(pairs) / options.pairs
    print(
        f"BEIR, {len(pairs)} pairs: {theirs:.1f} s (scaled up from {options.pairs}), {theirs / ours:.1f} times as long"
    )
    worst = max(np.abs(cells.loc[pair, MEASURES].to_numpy(float) - values).max() for pair, values in found.items())
    print(f"largest difference of a pair's measure: {worst:.1e}")
    assert worst < (1e-4 if options.precision == "32-true" else 0.01)


if __name__ == "__main__":
    main()

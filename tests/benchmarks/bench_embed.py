"""Time the embedding of XQuAD-R's passages against SentenceTransformer.encode: same weights, texts, dtype, threads.

pip install sentence-transformers                                       # beside the project
python tests/benchmarks/bench_embed.py --model DIR --data DIR           # a few minutes on two cores

MODEL is a folder that save_pretrained wrote (mean pooling, E5's prefix), DATA holds LAReQA's ar.json … zh.json. Both
sides start from the texts, end with the vectors, and sort by length. SentenceTransformer is timed at several batch
sizes, and its best counts. Repeats alternate between the sides, and the median of each is compared. The share of the
machine's peak is that of a plain matrix product in the same dtype, by the operations of the layers on tokens without
padding.
"""

import argparse
import logging
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from clirscale.data import lareqa
from clirscale.models.backbone import load_encoder
from clirscale.retrieval.embed import Embedder
from clirscale.study.compose import plan

CONF = Path(__file__).parents[2] / "conf"
LENGTH = 128
DTYPES = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32}


def sentence_transformer(folder, dtype):
    transformer = modules.Transformer(str(folder), max_seq_length=LENGTH)
    parts = [transformer, modules.Pooling(transformer.get_embedding_dimension(), "mean"), modules.Normalize()]
    return SentenceTransformer(modules=parts, device="cpu").to(dtype)


def peak(dtype):
    """Operations a second of a matrix product."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin))
    return best


def operations(encoder, texts):
    """Multiplications and additions of the layers, for tokens without padding."""
    config = encoder.backbone.config
    width, inner = config.hidden_size, config.intermediate_size
    lengths = np.array([len(tokens) for tokens in encoder.tokenize(texts, "passage")], dtype=np.float64)
    each = 2 * (4 * width * width + 2 * width * inner) * lengths + 4 * width * lengths**2
    return config.num_hidden_layers * each.sum()


def timed(function):
    begin = time.perf_counter()
    vectors = function()
    return time.perf_counter() - begin, vectors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=4000, help="passages, a random sample (default: 4000)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    task = lareqa.read(options.data)
    chosen = np.random.default_rng(0).permutation(len(task.passages))[: options.texts]
    texts = list(dict.fromkeys(task.passages.texts(chosen)))
    (job,) = plan(["backbone=local", f"backbone.path={options.model}"], CONF).jobs
    encoder = load_encoder(replace(job.backbone, max_passage_length=LENGTH))
    print(f"{len(texts):,} distinct passages, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    for precision, dtype in DTYPES.items():
        model = sentence_transformer(options.model, dtype)

        def ours(precision=precision):
            arguments = {"folder": None, "device": "cpu", "progress": False}
            with Embedder(encoder, batch_tokens=options.batch_tokens, precision=precision, **arguments) as embedder:
                return embedder.embed(texts, "passage", "", range(len(texts)))[:]

        def theirs(batch_size, model=model):
            return model.encode(texts, prompt="passage: ", batch_size=batch_size, show_progress_bar=False)

        sizes = {size: timed(lambda size=size: theirs(size))[0] for size in (16, 32, 64, 128)}
        best = min(sizes, key=sizes.get)
        runs = [(timed(ours), timed(lambda best=best: theirs(best))) for _ in range(options.repeats)]
        mine, other = (statistics.median(run[side][0] for run in runs) for side in (0, 1))
        cosine = (runs[0][0][1] * runs[0][1][1].astype(np.float32)).sum(axis=1).min()
        share = operations(encoder, texts) / mine / peak(dtype)
        listed = ", ".join(f"{size}: {len(texts) / seconds:.0f}" for size, seconds in sizes.items())
        print(
            f"{precision}: clirscale {len(texts) / mine:.0f} texts/s ({share:.0%} of the peak of a matrix product), "
            f"SentenceTransformer {len(texts) / other:.0f} at its best batch size {best} (first runs: {listed}); "
            f"{other / mine:.2f} times as fast; least cosine {cosine:.6f}"
        )
        assert cosine > (1 - 1e-5 if dtype == torch.float32 else 0.99)


if __name__ == "__main__":
    main()

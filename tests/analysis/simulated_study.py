"""Writes a study as the pipeline would, with simulated ranks in place of trained encoders."""

import hashlib
import json

import numpy as np
import pandas as pd

XQUAD_LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
STAGES = {"hybrid": ["contrast"], "mono": ["contrast"], "cross": ["contrast"], "dapt": ["adapt", "contrast"]}
ALPHA = {"hybrid": 0.5, "mono": 1.0, "cross": 0.0, "dapt": 1.0}
# What training adds to a query's score: (mono, cross, share of the own language's advantage that is left).
GAIN = {"hybrid": (0.85, 1.0, 0.55), "mono": (0.9, 0.7, 0.9), "cross": (0.6, 1.0, 0.45), "dapt": (0.9, 0.75, 0.85)}


class SimulatedStudy:
    """Writes jobs into ``folder``; their evaluation has ``n_groups`` groups in each of ``languages``."""

    def __init__(self, folder, n_groups=40, languages=("de", "en", "zh"), pool=2400, seed=0):
        self.folder, self.n_groups, self.languages, self.pool = folder, n_groups, languages, pool
        rng = np.random.default_rng(seed)
        n = len(languages)
        self.difficulty = rng.normal(2.4, 1.3, n_groups)[:, None, None]
        self.pair = rng.normal(0.0, 0.25, (n, n))[None] + np.where(np.eye(n, dtype=bool), -0.7, 0.3)[None]
        self.noise = rng.normal(0.0, 0.7, (n_groups, n, n))

    def job(
        self,
        method,
        fraction=None,
        seed=0,
        state="finished",
        config=None,
        error=None,
        benchmarks=("xquad_r",),
        task="e" * 64,
        measures=None,
        **record,
    ):
        """Write one job, evaluated on benchmarks of content hash ``task``, with ``measures`` in place of true ones.

        ``config`` overrides dotted keys, other keywords replace keys of the record.
        """
        untrained = method == "zero_shot"
        settings = self.config(method, fraction, seed) | (config or {})
        axes = {
            "data": None if untrained else settings["data.name"],
            "fraction": fraction,
            "method": method,
            "backbone": settings["backbone.name"],
            "seed": None if untrained else seed,
        }
        fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
        trained = "" if untrained else f"_{axes['data']}_f{fraction:g}_s{seed}"
        folder = self.folder / f"{method}{trained}_{axes['backbone']}_{fingerprint}"
        folder.mkdir(parents=True)
        groups = 0 if untrained else round(fraction * self.pool)
        content = {
            "schema": 2,
            "fingerprint": fingerprint,
            "state": state,
            "axes": axes,
            "config": nest(settings),
            "command": "python train.py -m data.fraction=0.1,0.25,0.5,1.0 method=hybrid,dapt",
            "counts": {"groups": groups, "pairs": groups * 11, "languages": dict.fromkeys(XQUAD_LANGUAGES, groups)},
            "benchmarks": {},
            "training": {},
            "timings": {},
            "versions": {"python": "3.11.7", "clirscale": "0.1.0", "torch": "2.13.0", "git": "0123456789ab"},
            "precision": "32-true",
            "hashes": {"backbone": "b" * 64} | ({} if untrained else {"data": "d" * 64}),
            "warnings": [],
            "started": "2025-11-20T08:00:00+00:00",
            "finished": None if state == "running" else "2025-11-20T08:20:00+00:00",
            "error": error,
        }
        if state == "finished":
            for benchmark in benchmarks:
                frame = self.scores(method, fraction, seed, settings["method.alpha"])
                (folder / benchmark).mkdir()
                frame.to_parquet(folder / benchmark / "per_query.parquet", index=False)
                content["benchmarks"][benchmark] = {
                    "hash": task,
                    "measures": summarise(frame) if measures is None else measures,
                    "counts": {"queries": self.n_groups * len(self.languages), "passages": 13014},
                    "drops": {},
                    "search": {"index": "exact"},
                    "timings": {"embed": 41.0, "search": 6.5},
                }
            self.account(content, method, groups)
        content |= record
        (folder / "job.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        return folder

    def grid(self, methods=("hybrid", "dapt"), fractions=(0.1, 0.25, 0.5, 1.0), seeds=(0,), **options):
        """Write the untrained reference and every combination of method, fraction and seed."""
        self.job("zero_shot")
        for method in methods:
            for fraction in fractions:
                for seed in seeds:
                    self.job(method, fraction, seed, **options)
        return self.folder

    def config(self, method, fraction, seed):
        return {
            "study": self.folder.name,
            "seed": seed,
            "references": ["zero_shot"],
            "report_dir": "multirun_reports",
            "data.name": "cldr",
            "data.fraction": 1.0 if fraction is None else fraction,
            "data.languages": None,
            "data.source._target_": "clirscale.data.cldr.training_pool",
            "method.name": method,
            "method.stages": STAGES.get(method, []),
            "method.alpha": ALPHA.get(method),
            "backbone.name": "mini",
            "backbone.pooling": "mean",
            "backbone.path": None,
            "eval.xquad_r.measures": ["P@5", "R@20", "AP"],
            "budget.name": "epochs",
            "budget.unit": "epochs",
            "budget.contrast": 2.0,
            "budget.adapt": 4.0,
            "contrast.batch_size": 32,
            "contrast.lr": 2e-4,
            "contrast.temperature": 0.05,
            "adapt.batch_size": 32,
            "adapt.lr": 1e-4,
            "trainer.precision": "auto",
        }

    def scores(self, method, fraction, seed, alpha=None):
        """Return per-query scores: rank 1 + floor(exp(difficulty + language effects - gain)) of each passage."""
        n = len(self.languages)
        mono, cross, bias = GAIN.get(method, (0.0, 0.0, 1.0))
        learnt = 0.0 if fraction is None else 0.35 + 0.32 * np.log10(fraction * self.pool / 24)
        if method == "hybrid" and alpha is not None:
            learnt -= (alpha - 0.5) ** 2
        rng = np.random.default_rng([0 if fraction is None else int(fraction * 1000), seed, *method.encode()])
        own = np.eye(n, dtype=bool)[None]
        wobble = rng.normal(0.0, 0.3, self.noise.shape) + (0.0 if fraction is None else rng.normal(0.0, 0.05))
        base = self.difficulty + self.noise + wobble - learnt * np.where(own, mono, cross)
        ranks = 1 + np.floor(np.exp(base + self.pair))  # (group, query language, passage language)
        shift = 0.9 * (bias if fraction is not None else 1.0)
        pooled = 1 + np.floor(np.exp(base + self.pair + 1.3 + np.where(own, -shift, shift * 0.4)))
        group, query, passage = (index.ravel() for index in np.indices(ranks.shape))
        lang = np.array(self.languages)
        single = pd.DataFrame(
            {
                "setting": np.where(query == passage, "mono", "cross"),
                "query_lang": lang[query],
                "passage_lang": lang[passage],
                "query_id": [f"{lang[q]}-{g}" for g, q in zip(group, query, strict=True)],
                "group_id": [f"g{g}" for g in group],
                "P@5": (ranks.ravel() <= 5) / 5,
                "R@20": (ranks.ravel() <= 20) * 1.0,
                "AP": 1 / ranks.ravel(),
                "rank_distance": np.nan,
            }
        )
        group, query = (index.ravel() for index in np.indices(ranks.shape[:2]))
        multi = pd.DataFrame(
            {
                "setting": "multi",
                "query_lang": lang[query],
                "passage_lang": "*",
                "query_id": [f"{lang[q]}-{g}" for g, q in zip(group, query, strict=True)],
                "group_id": [f"g{g}" for g in group],
                "P@5": np.minimum((pooled <= 5).sum(axis=2), 5).ravel() / 5,
                "R@20": (pooled <= 20).mean(axis=2).ravel(),
                "AP": (1 / pooled).mean(axis=2).ravel(),
                "rank_distance": (pooled.max(axis=2) - pooled.min(axis=2)).ravel(),
            }
        )
        return pd.concat([single, multi], ignore_index=True)

    def account(self, content, method, groups):
        """Fill in what the job counted and timed."""
        counts, training = content["counts"], content["training"]
        content["timings"] = {"load": 1.2, "total": 48.7 + groups * 0.4}
        if groups:
            steps = groups * 2 // 32
            counts |= {"contrast_steps": steps, "contrast_pairs": steps * 32, "adapt_steps": 0, "adapt_tokens": 0}
            training |= {"contrast_loss_first": 2.31, "contrast_loss_last": 0.84}
            content["timings"] |= {"contrast": groups * 0.4}
        if "adapt" in STAGES.get(method, []):
            counts |= {"adapt_steps": groups * 4 * 11 // 32, "adapt_tokens": groups * 4 * 330}
            training |= {"mlm_loss_before": 3.412, "mlm_loss_after": 2.713}
            content["timings"] |= {"adapt": groups * 0.9, "total": 48.7 + groups * 1.3}


def summarise(frame):
    """Macro-averages, written independently of the package."""
    measures = {}
    for setting, rows in frame.groupby("setting"):
        cells = rows.groupby(["query_lang", "passage_lang"])[["P@5", "R@20", "AP", "rank_distance"]].mean()
        measures[setting] = {name: float(value) for name, value in cells.mean().items() if not np.isnan(value)}
    return measures


def nest(flat):
    nested = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return nested

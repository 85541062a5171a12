"""Job records: one ``job.json`` per job folder of a study, and the per-query scores beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clirscale.errors import DataError

SCHEMA = 2
SETTINGS = ("mono", "cross", "multi")
STATES = ("finished", "failed", "running")
SECTIONS = ("axes", "config", "counts", "benchmarks", "training", "timings", "versions", "hashes")
AXES = ("data", "fraction", "method", "backbone", "seed")


@dataclass(frozen=True, eq=False)
class Job:
    """One point of a study, as its record tells it, or that point on one benchmark (:attr:`results`).

    Attributes:
        folder: the job's folder.
        record: the content of ``job.json``, checked by :func:`load_study`.
        benchmark: which of its benchmarks measures, counts, hashes and timings are of; None for the job as a whole.
    """

    folder: Path
    record: Mapping[str, Any]
    benchmark: str | None = None

    def __repr__(self) -> str:
        return f"Job({self.name}{f', {self.benchmark}' if self.benchmark else ''})"

    @property
    def results(self) -> tuple[Job, ...]:
        """The job on each benchmark that it was evaluated on, whatever became of it afterwards."""
        return tuple(Job(self.folder, self.record, name) for name in self._section("benchmarks"))

    @property
    def scores(self) -> Path:
        """File of the per-query scores on the benchmark."""
        return self.folder / str(self.benchmark) / "per_query.parquet"

    @property
    def name(self) -> str:
        """Name of the folder, which is unique in a study."""
        return self.folder.name

    @property
    def state(self) -> str:
        """``finished``, ``failed``, or ``running`` (also a job that was killed)."""
        return str(self.record["state"])

    @property
    def fingerprint(self) -> str:
        """What the job is known by: a hash of the config and inputs that determine its result."""
        return str(self.record["fingerprint"])

    @property
    def axes(self) -> Mapping[str, Any]:
        """data, fraction, method, backbone, seed; null where one does not matter. And eval: the benchmarks."""
        asked = self._section("config").get("eval") or {}
        names = [self.benchmark] if self.benchmark else sorted({*self._section("benchmarks"), *asked})
        return {**self._section("axes"), "eval": ", ".join(names)}

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration, nested."""
        return self._section("config")

    @property
    def counts(self) -> Mapping[str, Any]:
        """Groups, pairs, steps, tokens; queries and passages of the benchmark."""
        return self._with_benchmark("counts")

    @property
    def training(self) -> Mapping[str, Any]:
        """Losses of the stages that ran."""
        return self._section("training")

    @property
    def timings(self) -> Mapping[str, Any]:
        """Wall time of each step, in seconds."""
        return self._with_benchmark("timings")

    @property
    def versions(self) -> Mapping[str, Any]:
        """Versions of the packages and of the code."""
        return self._section("versions")

    @property
    def hashes(self) -> Mapping[str, Any]:
        """SHA-256 of the pool, the weights, what leaks took away, and the benchmark (eval)."""
        return {**self._section("hashes"), **({"eval": self.result.get("hash")} if self.benchmark else {})}

    @property
    def result(self) -> Mapping[str, Any]:
        """What the record says of the benchmark."""
        found = self._section("benchmarks").get(self.benchmark or "", {})
        return found if isinstance(found, Mapping) else {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the job warned of."""
        return tuple(str(line) for line in self.record.get("warnings") or ())

    @property
    def error(self) -> str | None:
        """Why the job failed, in one line."""
        message = self.record.get("error")
        return None if message is None else " ".join(str(message).split())

    @property
    def started(self) -> str:
        """When the job started (ISO 8601), or "" if it does not say."""
        return str(self.record.get("started") or "")

    @property
    def method(self) -> str:
        """Name of the training recipe."""
        return str(self.axes["method"])

    @property
    def fraction(self) -> float | None:
        """Share of the pool's groups; None for an untrained reference."""
        value = self.axes["fraction"]
        return None if value is None else float(value)

    @property
    def seed(self) -> int | None:
        """Seed of the subset, the batches and dropout; None where no randomness is involved."""
        value = self.axes["seed"]
        return None if value is None else int(value)

    @property
    def groups(self) -> int:
        """Number of parallel groups that the job trained on; 0 for an untrained reference."""
        return int(self.counts["groups"])

    @cached_property
    def measures(self) -> dict[tuple[str, str], float]:
        """Value by (setting, measure). A measure that is absent, null or NaN in the record is absent here."""
        found = {}
        for setting, values in self.result.get("measures", {}).items():
            for name, value in values.items():
                if value is not None and not math.isnan(value):
                    found[setting, name] = float(value)
        return found

    def _with_benchmark(self, name: str) -> Mapping[str, Any]:
        return {**self._section(name), **(self.result.get(name) or {})}

    def _section(self, name: str) -> Mapping[str, Any]:
        section = self.record.get(name)
        return section if isinstance(section, Mapping) else {}


@dataclass(frozen=True)
class Study:
    """The jobs of a study by state, each in the order of their folder names."""

    name: str
    finished: tuple[Job, ...]
    failed: tuple[Job, ...]
    running: tuple[Job, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs: finished, failed, running."""
        return self.finished + self.failed + self.running

    @cached_property
    def results(self) -> tuple[Job, ...]:
        """Every job on every benchmark that it was evaluated on."""
        return tuple(result for job in self.jobs for result in job.results)


def load_study(folder: Path) -> Study:
    """Read the record of every job folder in ``folder``; folders without ``job.json`` are no jobs.

    Raises:
        DataError: there is no record, or one is malformed; the message names the file.
    """
    paths = sorted(folder.glob("*/job.json"))
    if not paths:
        raise DataError(f"{folder}: no */job.json in it; give the folder of a study whose jobs have run")
    jobs = [_load_job(path) for path in paths]
    by_state = {state: tuple(job for job in jobs if job.state == state) for state in STATES}
    return Study(folder.resolve().name, by_state["finished"], by_state["failed"], by_state["running"])


def _load_job(path: Path) -> Job:
    def require(condition: bool, problem: str) -> None:
        if not condition:
            raise DataError(f"{path}: {problem}; run the job again or move its folder out of the study")

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a readable job record ({error})") from error
    require(isinstance(record, dict), "the record is not a JSON object")
    require(record.get("schema") == SCHEMA, f"schema is {record.get('schema')!r}, this version reads {SCHEMA}")
    require(record.get("state") in STATES, f"state is {record.get('state')!r}, not one of {', '.join(STATES)}")
    require(isinstance(record.get("fingerprint"), str), "fingerprint is missing")
    for name in SECTIONS:
        require(isinstance(record.get(name, {}), dict), f"{name} is not a JSON object")
    axes = record.get("axes", {})
    for name in AXES:
        require(name in axes, f"axes.{name} is missing")
    for name in ("fraction", "seed"):
        require(axes[name] is None or _is_number(axes[name]), f"axes.{name} is {axes[name]!r}, not a number or null")
    if record["state"] == "finished" or record.get("benchmarks"):
        groups = record.get("counts", {}).get("groups")
        require(_is_number(groups), f"counts.groups is {groups!r}, not a number")
    for benchmark, result in record.get("benchmarks", {}).items():
        require(isinstance(result, dict), f"benchmarks.{benchmark} is not a JSON object")
        for setting, values in result.get("measures", {}).items():
            where = f"benchmarks.{benchmark}.measures.{setting}"
            require(isinstance(values, dict), f"{where} is not a JSON object")
            for name, value in values.items():
                require(value is None or _is_number(value), f"{where}.{name} is {value!r}, not a number")
    return Job(path.parent, record)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

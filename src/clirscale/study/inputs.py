"""The inputs of a job, read once per process: a sweep's jobs share them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from clirscale.config import DataConfig, JobConfig, build
from clirscale.data.groups import Pool
from clirscale.data.leaks import Leak, find_leaks
from clirscale.data.tasks import RetrievalTask
from clirscale.errors import ConfigError, DataError


def pool(config: DataConfig) -> Pool:
    """Return the whole training pool in the languages that are asked for.

    Raises:
        DataError: the source gives no pool, or its content is refused.
    """
    whole = _read(_key(config.source), "data.source")
    if not isinstance(whole, Pool):
        raise DataError(f"data.source: {config.source['_target_']} gives a {type(whole).__name__}, not a Pool")
    return whole if config.languages is None else _restricted(whole, config.languages)


def task(config: JobConfig, name: str) -> RetrievalTask:
    """Return the retrieval task of a benchmark of the job.

    Raises:
        DataError: the source gives no task, or its content is refused.
    """
    source = config.eval[name].source
    found = _read(_key(source), f"eval.{name}.source")
    if not isinstance(found, RetrievalTask):
        raise DataError(f"eval.{name}.source: {source['_target_']} gives a {type(found).__name__}, not a RetrievalTask")
    return found


def leaks(config: JobConfig) -> Sequence[Leak]:
    """Return every meeting of the whole training pool with the benchmarks of the job.

    Raises:
        ConfigError: there is one, and ``leaks.action`` is ``fail``.
    """
    tasks = tuple(task(config, name) for name in config.eval)
    found = _leaks(_Same(pool(config.data)), tuple(map(_Same, tasks)))
    if found and config.leaks.action == "fail":
        first = found[0]
        raise ConfigError(
            "leaks.action",
            f"is fail, and {len({leak.group_id for leak in found})} groups of the pool are in an evaluation set: group "
            f"{first.group_id!r} by its {first.kind}, evaluation id {first.evaluation_id!r}, and others. Remove them, "
            "or let leaks.action=remove do it",
        )
    return found


def training_pool(config: JobConfig) -> Pool:
    """Return the subset that the job trains on: its fraction of the pool, without the groups that leak.

    Raises:
        DataError: no group is left.
        ConfigError: there are leaks, and ``leaks.action`` is ``fail``.
    """
    subset = pool(config.data).subset(config.data.fraction, config.seed)
    if config.leaks.action == "report":
        return subset
    leaking = {leak.group_id for leak in leaks(config)}
    return Pool(subset.name, (g for g in subset if g.group_id not in leaking)) if leaking else subset


@dataclass(frozen=True)
class _Same:
    """Hashes an input by identity: the readers give the same object as long as the files are the same."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


@lru_cache(maxsize=4)
def _leaks(whole: _Same, tasks: tuple[_Same, ...]) -> tuple[Leak, ...]:
    return tuple(find_leaks(whole.value, [task.value for task in tasks]))


def _key(source: Any) -> str:
    # A file that changed between two jobs of a process must not be served from memory.
    paths = source.get("path")
    stamps = []
    for path in [paths] if isinstance(paths, str) else paths or []:
        files = sorted(Path(path).rglob("*")) if Path(path).is_dir() else [Path(path)]
        stamps += [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.exists()]
    return json.dumps([dict(source), stamps], sort_keys=True)


@lru_cache(maxsize=64)  # a suite of benchmarks
def _read(key: str, name: str) -> Any:
    return build(json.loads(key)[0], name)


@lru_cache(maxsize=4)
def _restricted(whole: Pool, languages: tuple[str, ...]) -> Pool:
    return whole.in_languages(languages)

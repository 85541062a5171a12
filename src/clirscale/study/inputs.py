"""The inputs of a job, read once per process: a sweep's jobs share them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from clirscale.config import DataConfig, EvalConfig, build
from clirscale.data.groups import Pool
from clirscale.data.tasks import RetrievalTask
from clirscale.errors import DataError


def pool(config: DataConfig) -> Pool:
    """Return the whole training pool in the languages that are asked for.

    Raises:
        DataError: the source gives no pool, or its content is refused.
    """
    whole = _read(_key(config.source), "data.source")
    if not isinstance(whole, Pool):
        raise DataError(f"data.source: {config.source['_target_']} gives a {type(whole).__name__}, not a Pool")
    return whole if config.languages is None else _restricted(whole, config.languages)


def task(config: EvalConfig) -> RetrievalTask:
    """Return the retrieval task.

    Raises:
        DataError: the source gives no task, or its content is refused.
    """
    found = _read(_key(config.source), "eval.source")
    if not isinstance(found, RetrievalTask):
        raise DataError(f"eval.source: {config.source['_target_']} gives a {type(found).__name__}, not a RetrievalTask")
    return found


def _key(source: Any) -> str:
    # A file that changed between two jobs of a process must not be served from memory.
    paths = source.get("path")
    stamps = []
    for path in [paths] if isinstance(paths, str) else paths or []:
        files = sorted(Path(path).glob("*")) if Path(path).is_dir() else [Path(path)]
        stamps += [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.exists()]
    return json.dumps([dict(source), stamps], sort_keys=True)


@lru_cache(maxsize=4)
def _read(key: str, name: str) -> Any:
    return build(json.loads(key)[0], name)


@lru_cache(maxsize=4)
def _restricted(whole: Pool, languages: tuple[str, ...]) -> Pool:
    return whole.in_languages(languages)

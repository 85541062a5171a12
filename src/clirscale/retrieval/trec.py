"""TREC run and qrels files, gzip-compressed, written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clirscale.errors import ClirscaleError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block ends, and is removed if it fails.

    Raises:
        ClirscaleError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClirscaleError(f"{path}: cannot be written ({reason}); free space or permit it, and run again") from error


def write(path: Path, parts: Iterable[Callable[[], bytes]]) -> None:
    """Write the bytes that ``parts`` give, in order, compressed; parts are made and compressed side by side.

    Raises:
        ClirscaleError: the file cannot be written.
    """
    # zlib and Arrow release the interpreter lock. Level 1: higher levels save a tenth and take several times as long.
    # Gzip members stand one after another in the file, which every reader of gzip takes for one; mtime=0 makes equal
    # content equal bytes.
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as workers,
    ):
        for member in workers.map(lambda part: gzip.compress(part(), compresslevel=1, mtime=0), parts):
            file.write(member)


def run_lines(queries: pa.StringArray, passage_ids: pa.StringArray, passages: Ints, scores: Floats) -> bytes:
    """Format rankings as lines ``query Q0 passage rank score clirscale``.

    Args:
        queries: (n,) ids.
        passage_ids: of all passages.
        passages: (n, depth) best first.
        scores: (n, depth); written with the digits that give the same float32 when read.
    """
    n, depth = passages.shape
    ranks = pa.array([str(rank) for rank in range(1, depth + 1)])
    return _join(
        queries.take(pa.array(np.repeat(np.arange(n), depth))),
        "Q0",
        passage_ids.take(pa.array(passages.ravel())),
        ranks.take(pa.array(np.tile(np.arange(depth), n))),
        pa.array(scores.ravel()).cast(pa.string()),
        "clirscale\n",
    )


def qrels_lines(queries: pa.StringArray, passages: pa.StringArray, grades: Ints) -> bytes:
    """Format judgements as lines ``query 0 passage grade``; all arguments have one entry a line."""
    return _join(queries, "0", passages, pc.binary_join_element_wise(pa.array(grades).cast(pa.string()), "\n", ""))


def _join(*columns: pa.StringArray | str) -> bytes:
    lines = pc.binary_join_element_wise(*columns, " ")
    _, offsets, characters = lines.buffers()
    end = int(np.frombuffer(offsets, dtype=np.int32)[len(lines)])
    return characters.to_pybytes()[:end] if characters is not None else b""

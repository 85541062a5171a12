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


def run_lines(queries: pa.Array, passages: pa.ChunkedArray, ranks: Ints, scores: Floats) -> bytes:
    """Format rankings as lines ``query Q0 passage rank score clirscale``; all arguments have one entry a line.

    Scores are written with the digits that give the same float32 when read.
    """
    return _join(queries, "Q0", passages, _text(ranks), _text(scores), "clirscale\n")


def qrels_lines(queries: pa.Array, passages: pa.ChunkedArray, grades: Ints) -> bytes:
    """Format judgements as lines ``query 0 passage grade``; all arguments have one entry a line."""
    return _join(
        queries, "0", passages, pc.binary_join_element_wise(_text(grades), pa.scalar("\n", _TEXT), pa.scalar("", _TEXT))
    )


_TEXT = pa.large_string()


def _text(numbers: Ints | Floats) -> pa.Array:
    return pa.array(numbers).cast(_TEXT)


def _join(*columns: pa.Array | str) -> bytes:
    parts = [pa.scalar(column, _TEXT) if isinstance(column, str) else _whole(column) for column in columns]
    lines = pc.binary_join_element_wise(*parts, pa.scalar(" ", _TEXT))
    _, offsets, characters = lines.buffers()
    end = int(np.frombuffer(offsets, dtype=np.int64)[len(lines)])
    return characters.to_pybytes()[:end] if characters is not None else b""


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.cast(_TEXT)

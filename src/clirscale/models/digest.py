"""SHA-256 of files, computed once in a process as long as they do not change."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    It is remembered by real path, size and modification time, so that the jobs of a sweep do not read the weights
    again and again.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve(strict=True)
    status = real.stat()
    return _digest(real, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()

"""Embeddings on disk, found by their texts: content-addressed, safe with several jobs at once, larger than memory.

A store is a folder of shards, NumPy files that are never changed after they were written: rows of a text's hash and its
vector. A shard is named by the hash of its content, so a truncated or corrupt one is known when it is opened; it is
removed, and its texts are embedded again. Shards appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from clirscale.errors import ClirscaleError

log = logging.getLogger(__name__)

Hashes = npt.NDArray[np.uint64]  # (n, 2): 128 bits a text
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LOCK = ".lock"
_CHUNK = 1 << 22


def hash_texts(texts: Iterable[str]) -> Hashes:
    """Return 128 bits for each text."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


class EmbeddingStore:
    """Vectors by the hashes of their texts.

    Args:
        folder: of the shards; made if it is not there.
        dim: of the vectors.

    Raises:
        ClirscaleError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._dtype = np.dtype([("hash", "<u8", (2,)), ("vector", "<f4", (dim,))])
        self._shards: list[npt.NDArray[np.void]] = []
        self._known: set[str] = set()
        self._keys = np.empty((0, 2), dtype=np.uint64)  # ascending by the first half
        self._places = np.empty((0, 2), dtype=np.int64)  # (shard, row) of each
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)  # pruning takes what was not used for longest
        self.refresh()

    def __len__(self) -> int:
        return len(self._keys)

    def refresh(self) -> None:
        """Open the shards that others have added."""
        with _explained(self.folder):
            for path in sorted(self.folder.glob("*.npy")):
                if path.name not in self._known:
                    self._open(path)

    def missing(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Return which of the hashes (n, 2) are not in the store: (n,)."""
        return self._find(hashes) < 0

    def add(self, hashes: Hashes, vectors: Floats) -> None:
        """Write a shard.

        Raises:
            ClirscaleError: it cannot be written; the store is as it was.
        """
        rows = np.empty(len(hashes), dtype=self._dtype)
        rows["hash"], rows["vector"] = hashes, vectors
        temporary = self.folder / f".{os.getpid()}.tmp"
        with _explained(self.folder):
            try:
                with temporary.open("wb") as file:
                    np.save(file, rows)
                target = self.folder / f"{_digest(temporary)}.npy"
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            self._open(target, verify=False)

    def vectors(self, hashes: Hashes) -> Vectors:
        """Return a view of the vectors of hashes that are all in the store."""
        found = self._find(hashes)
        if (found < 0).any():
            raise KeyError("a text is not in the store")
        return Vectors(self._shards, self._places[found], self.dim)

    def _find(self, hashes: Hashes) -> Ints:
        """Return where in the index each hash stands, -1 for those that are not there."""
        if not len(self._keys):
            return np.full(len(hashes), -1, dtype=np.int64)
        position = np.minimum(np.searchsorted(self._keys[:, 0], hashes[:, 0]), len(self._keys) - 1)
        return np.where((self._keys[position] == hashes).all(axis=1), position, -1)

    def _open(self, path: Path, verify: bool = True) -> None:
        self._known.add(path.name)
        if verify and _digest(path) != path.stem:
            log.warning("%s: is damaged; its texts are embedded again", path)
            path.unlink(missing_ok=True)
            return
        rows = np.load(path, mmap_mode="r")
        places = np.stack([np.full(len(rows), len(self._shards)), np.arange(len(rows))], axis=1)
        self._shards.append(rows)
        keys = np.concatenate([self._keys, rows["hash"]])
        places = np.concatenate([self._places, places])
        order = np.unique(keys[:, 0], return_index=True)[1]  # two texts that share 64 bits: one is embedded each time
        self._keys, self._places = keys[order], places[order]


class Vectors:
    """Rows of a store, in any order; what is asked for is read from disk.

    Args:
        shards: of the store.
        places: (n, 2) shard and row of each vector.
        dim: of the vectors.
    """

    def __init__(self, shards: Sequence[npt.NDArray[np.void]], places: Ints, dim: int) -> None:
        self._shards, self._places, self._dim = shards, places, dim

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: slice | Ints) -> Floats:
        """Return vectors (k, dim)."""
        places = self._places[rows]
        found = np.empty((len(places), self._dim), dtype=np.float32)
        for shard in np.unique(places[:, 0]):
            here = places[:, 0] == shard
            found[here] = self._shards[shard]["vector"][places[here, 1]]
        return found


def prune(root: Path, limit_bytes: float) -> None:
    """Remove the stores under ``root`` that were not used for longest, until those left take ``limit_bytes`` or less.

    A store that another process is embedding into stays.
    """
    stores = sorted((path.parent for path in root.glob("**/*.npy")), key=lambda folder: folder.stat().st_mtime)
    sizes = {folder: sum(path.stat().st_size for path in folder.glob("*.npy")) for folder in dict.fromkeys(stores)}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= limit_bytes:
            return
        with contextlib.suppress(Timeout, OSError), FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder)
            total -= size


@contextlib.contextmanager
def _explained(folder: Path):  # type: ignore[no-untyped-def]
    try:
        yield
    except OSError as error:
        raise ClirscaleError(
            f"{folder}: embeddings cannot be kept there ({error.strerror or error}); free space or permit it, set "
            "CLIRSCALE_CACHE (or TMPDIR) to another folder, or trainer.cache_gb=0 to keep none"
        ) from error


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

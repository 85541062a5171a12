"""Where a benchmark's files come from: a local folder in the public layout, or the Hugging Face hub.

From the hub, files are fetched by a pinned revision into its local cache, where a second call finds them without a
network. No loading script and no remote code is run.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from clirscale.data.files import existing
from clirscale.errors import DataError

log = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds for the hub's first answer
# Releases of the client without this error take a folder that lacks files for the whole snapshot.
_CACHE_IS_CHECKED = hasattr(huggingface_hub.errors, "IncompleteSnapshotError")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder with the files of a set.

    Attributes:
        path: the folder.
        revision: commit on the hub; None for a local folder.
    """

    path: Path
    revision: str | None

    def digests(self, files: Iterable[Path]) -> dict[str, str]:
        """Return the SHA-256 of files in the folder, by their names relative to it.

        They are remembered by size and modification time, so that the jobs of a sweep do not read a corpus again.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        found = {}
        for file in files:
            try:
                status = file.stat()
                found[file.relative_to(self.path).as_posix()] = _digest(file, status.st_size, status.st_mtime_ns)
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror})") from error
        return found


def folder(path: str | None, hub: str | None, revision: str | None, files: Sequence[str]) -> Source:
    """Find the folder of a set.

    Args:
        path: a local folder; it is taken if it exists.
        hub: name of the dataset on the hub, for where the folder does not exist.
        revision: its commit, 40 hexadecimal digits.
        files: names or glob patterns of the files that are needed, relative to the folder.

    Raises:
        DataError: there is neither; the message says which files to place where, and how to fetch them.
    """
    if path is not None and (local := Path(path).expanduser()).exists():
        return Source(existing(str(local), folder=True), None)
    if hub is None:
        raise DataError(_place(path, files))
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DataError(
            f"{hub}: revision is {revision!r}; pin it to a commit (40 hexadecimal digits), so that the numbers stay "
            "what they are"
        )
    return Source(_snapshot(hub, revision, tuple(files), path), revision)


@lru_cache(maxsize=64)
def _snapshot(hub: str, revision: str, files: tuple[str, ...], path: str | None) -> Path:
    try:
        fetched = _fetch(hub, revision, files)
    except GatedRepoError as error:  # a RepositoryNotFoundError too
        problem = "it is given to registered users only: ask on its page, then hf auth login"
        raise DataError(_not_fetched(problem, hub, revision, files, path)) from error
    except RepositoryNotFoundError as error:
        problem = "there is no such dataset, or it is private (then: hf auth login)"
        raise DataError(_not_fetched(problem, hub, revision, files, path)) from error
    except RevisionNotFoundError as error:
        raise DataError(_not_fetched(f"it has no revision {revision}", hub, revision, files, path)) from error
    except Exception as error:  # whatever the hub's HTTP client raises; it differs between its releases
        problem = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(_not_fetched(problem, hub, revision, files, path)) from error
    # Older releases of the client take patterns that match nothing for success.
    if not any(file.is_file() for pattern in files for file in fetched.glob(pattern)):
        raise DataError(_not_fetched("it has none of these files", hub, revision, files, path))
    return fetched


def _fetch(hub: str, revision: str, files: Sequence[str]) -> Path:
    """Return the snapshot's folder in the local cache, after fetching what is missing there."""
    take = partial(
        huggingface_hub.snapshot_download, hub, repo_type="dataset", revision=revision, allow_patterns=list(files)
    )
    cached = None
    with suppress(OSError, ValueError):  # what the client raises where the cache lacks files
        cached = Path(take(local_files_only=True))
    if cached is not None and _CACHE_IS_CHECKED:
        return cached
    try:
        # One request without retries, so that a machine without a network knows at once.
        huggingface_hub.HfApi().dataset_info(hub, revision=revision, timeout=_TIMEOUT)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception:
        if cached is None:
            raise
        return cached
    log.info("%s: fetching %s from the Hugging Face hub", hub, ", ".join(files))
    return Path(take())


def _not_fetched(problem: str, hub: str, revision: str, files: Sequence[str], path: str | None) -> str:
    include = " ".join(f"--include {shlex.quote(name)}" for name in files)
    target = shlex.quote(str(Path(path).expanduser())) if path is not None else "DIR"
    return (
        f"{_place(path, files)} The Hugging Face hub did not give {hub}: {problem}. To fetch it on a machine with a "
        f"network: hf download {hub} --repo-type dataset --revision {revision} {include} --local-dir {target}"
    )


def _place(path: str | None, files: Sequence[str]) -> str:
    """Say that there is no local folder, with the nearest name beside it, and what belongs in it."""
    if path is None:
        return f"no folder is given (path); place these files in one: {', '.join(files)}."
    try:
        existing(path, folder=True)
    except DataError as error:
        return f"{error}; place these files in it: {', '.join(files)}."
    return f"{path}: place these files in it: {', '.join(files)}."  # it came into being just now


@lru_cache(maxsize=4096)
def _digest(file: Path, size: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()

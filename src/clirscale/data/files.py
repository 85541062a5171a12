"""Finding and opening input files, with messages that help when it fails."""

from __future__ import annotations

import difflib
from pathlib import Path

import pyarrow

from clirscale.errors import DataError

_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def existing(path: str, *, folder: bool = False) -> Path:
    """Return ``path`` if it is there: a file, or a folder where ``folder`` says so.

    Raises:
        DataError: it is not; the message names the nearest entry beside it.
    """
    found = Path(path).expanduser()
    kind = "folder" if folder else "file"
    if found.is_dir() if folder else found.is_file():
        return found
    if found.exists():
        raise DataError(f"{found}: is a {'file' if folder else 'folder'}; give a {kind}")
    if not found.parent.is_dir():
        raise DataError(f"{found}: no such {kind}; {found.parent} does not exist either (now in {Path.cwd()})")
    siblings = [p.name for p in found.parent.iterdir() if (p.is_dir() if folder else p.is_file())]
    close = difflib.get_close_matches(found.name, siblings, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"{found.parent.resolve()} has no {kind} of a similar name"
    raise DataError(f"{found}: no such {kind}; {hint}")


def open_bytes(path: Path) -> pyarrow.NativeFile:
    """Open a file for reading, decompressed if its name ends in .gz or .zst.

    Unlike the zstandard package, Arrow raises ``OSError`` where a compressed file is cut off.
    """
    return pyarrow.input_stream(str(path), compression=_COMPRESSION.get(path.suffix))


def stem(path: Path) -> str:
    """Return the file's name without the endings of its format and compression.

    >>> stem(Path("corpora/help.v2.jsonl.gz"))
    'help.v2'
    """
    name = path.name
    for ending in (*_COMPRESSION, ".jsonl", ".ndjson", ".json"):
        name = name.removesuffix(ending)
    return name

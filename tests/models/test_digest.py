"""The digest of a file is computed once, and again when the file changes."""

import hashlib
import os

import pytest

from clirscale.models import digest


def test_digest_is_sha256_and_follows_changes(tmp_path):
    path = tmp_path / "file"
    digest._digest.cache_clear()
    for i, content in enumerate((b"", b"one", b"two", bytes(10_000_000))):
        path.write_bytes(content)
        os.utime(path, ns=(i, i))
        for _ in range(3):
            assert digest.file_digest(path) == hashlib.sha256(content).hexdigest()
    assert digest._digest.cache_info().misses == 4


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest.file_digest(tmp_path / "nothing")

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from clirscale.errors import ClirscaleError
from clirscale.retrieval.store import LOCK, EmbeddingStore, hash_texts, prune

DIM = 4


def vectors_of(texts):
    return np.array(
        [[len(text), *(text.encode()[i % len(text)] for i in range(DIM - 1))] for text in texts], np.float32
    )


def filled(folder, *shards):
    store = EmbeddingStore(folder, DIM)
    for texts in shards:
        store.add(hash_texts(texts), vectors_of(texts))
    return store


def test_vectors_come_back_in_any_order(tmp_path):
    store = filled(tmp_path, ["a", "bc"], ["def", "gh"])
    wanted = ["gh", "a", "a", "def"]
    for opened in (store, EmbeddingStore(tmp_path, DIM)):
        view = opened.vectors(hash_texts(wanted))
        assert len(view) == 4
        np.testing.assert_array_equal(view[:], vectors_of(wanted))
        np.testing.assert_array_equal(view[1:3], vectors_of(wanted)[1:3])
        np.testing.assert_array_equal(view[np.array([3, 0])], vectors_of(["def", "gh"]))


def test_what_is_missing(tmp_path):
    store = filled(tmp_path, ["a", "b"])
    assert store.missing(hash_texts(["b", "c", "a"])).tolist() == [False, True, False]
    assert EmbeddingStore(tmp_path / "other", DIM).missing(hash_texts(["a"])).tolist() == [True]
    with pytest.raises(KeyError):
        store.vectors(hash_texts(["c"]))


def test_hashes_are_of_the_text_s_bytes_and_keep_zeros():
    assert len(np.unique(hash_texts([f"text {i}" for i in range(10_000)]), axis=0)) == 10_000
    np.testing.assert_array_equal(hash_texts(["ä", "x"])[:1], hash_texts(["ä"]))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, flip, empty])
def test_damaged_shards_are_removed_and_their_texts_missing(tmp_path, caplog, spoil):
    filled(tmp_path, ["a", "b"], ["c"])
    first, second = sorted(tmp_path.glob("*.npy"), key=lambda path: path.stat().st_size)
    spoil(second)
    store = EmbeddingStore(tmp_path, DIM)
    assert store.missing(hash_texts(["a", "b", "c"])).tolist() == [True, True, False]
    assert "is damaged; its texts are embedded again" in caplog.text
    assert list(tmp_path.glob("*.npy")) == [first]


def test_shards_of_others_are_seen_after_a_refresh(tmp_path):
    store = EmbeddingStore(tmp_path, DIM)
    filled(tmp_path, ["a"])
    assert store.missing(hash_texts(["a"])).all()
    store.refresh()
    assert not store.missing(hash_texts(["a"])).any()


def test_a_process_killed_while_it_writes_leaves_a_store_that_works_and_no_lock(tmp_path):
    filled(tmp_path, ["a"])
    code = f"""
import numpy as np, os, signal
from pathlib import Path
from filelock import FileLock
from clirscale.retrieval import store
real = np.save
def save(file, rows):
    real(file, rows[:1]); file.flush(); os.kill(os.getpid(), signal.SIGKILL)
np.save = save
with FileLock(Path({str(tmp_path)!r}) / store.LOCK):
    store.EmbeddingStore(Path({str(tmp_path)!r}), {DIM}).add(store.hash_texts(["x", "y"]), np.ones((2, {DIM})))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with FileLock(tmp_path / LOCK, timeout=1):
        store = EmbeddingStore(tmp_path, DIM)
    assert store.missing(hash_texts(["a", "x", "y"])).tolist() == [False, True, True]


def test_two_processes_embed_each_text_once(tmp_path):
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_embed import TinyEncoder, embedder
with embedder(TinyEncoder(), folder=Path(sys.argv[1])) as made:
    made.embed([f"text {i}" for i in range(200)], "query", "", range(200))
    print(made.texts_embedded)
"""
    line = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(int(process.communicate(timeout=120)[0]) for process in both) == [0, 200]
    assert len(list(tmp_path.glob("*/*/*.npy"))) == 1


def test_full_disk(tmp_path, monkeypatch):
    store = filled(tmp_path, ["a"])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ClirscaleError, match=r"No space left on device.*trainer\.cache_gb=0"):
        store.add(hash_texts(["b"]), vectors_of(["b"]))
    assert not list(tmp_path.glob(".*.tmp"))
    np.testing.assert_array_equal(store.vectors(hash_texts(["a"]))[:], vectors_of(["a"]))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ClirscaleError, match="embeddings cannot be kept there"):
        EmbeddingStore(tmp_path / "file" / "store", DIM)


def test_prune_takes_what_was_not_used_for_longest(tmp_path):
    for i, name in enumerate(("old/q", "new/q", "used/q")):
        filled(tmp_path / name, [name] * 100)
        os.utime(tmp_path / name, (1000 + i, 1000 + i))
    size = sum(path.stat().st_size for path in (tmp_path / "new/q").glob("*.npy"))
    with FileLock(tmp_path / "old/q" / LOCK):  # another job embeds there
        prune(tmp_path, 2 * size)
    assert sorted(path.parent.parent.name for path in tmp_path.glob("**/*.npy")) == ["old", "used"]
    prune(tmp_path, 2 * size)
    assert len(list(tmp_path.glob("**/*.npy"))) == 2
    EmbeddingStore(tmp_path / "old/q", DIM)  # now the last that was used
    prune(tmp_path, size)
    assert [path.parent.parent.name for path in tmp_path.glob("**/*.npy")] == ["old"]
    prune(tmp_path / "nothing", 0)


def test_reading_is_bounded_by_what_is_asked_for(tmp_path):
    import resource

    rows, dim = 60_000, 512  # 123 MB
    store = EmbeddingStore(tmp_path, dim)
    hashes = hash_texts(map(str, range(rows)))
    store.add(hashes, np.ones((rows, dim), np.float32))
    view = store.vectors(hashes)
    begin = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert view[np.arange(0, rows, 1000)].sum() == 60 * dim
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert time.monotonic() - begin < 60

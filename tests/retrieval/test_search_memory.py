"""A corpus that is larger than the memory that search may use."""

import subprocess
import sys

import numpy as np
import pytest

from clirscale.retrieval.store import EmbeddingStore, hash_texts

ROWS, DIM, QUERIES = 250_000, 384, 50
HEADROOM = 200_000_000  # bytes; the vectors take 384 million

SEARCH = """
import re, resource, sys
from pathlib import Path
import numpy as np
import torch
from clirscale.retrieval.search import POOL, DenseScorer, PassageIndex
from clirscale.retrieval.store import EmbeddingStore, hash_texts

folder, rows, dim, n, headroom = Path(sys.argv[1]), *map(int, sys.argv[2:])
torch.set_num_threads(1)
torch.ones(64, 64, dtype=torch.float64) @ torch.ones(64, 64, dtype=torch.float64)  # what libraries take at first use
passages = EmbeddingStore(folder, dim).vectors(hash_texts(map(str, range(rows))))
index = PassageIndex([f"{i:06}" for i in range(rows)], np.arange(rows) % 2, ["de", "en"])
taken = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + headroom, taken + headroom))
try:
    np.ones(rows * dim, np.float32)
except MemoryError:
    print("the corpus does not fit")
queries = passages[np.arange(n) * 17]
judged = np.arange(n)
found = index.search(
    DenseScorer(queries, passages), n, ["en"] * n, judged, judged * 17, 10, shard=8192, block_bytes=20_000_000
)
np.savez(folder / "found.npz", top=found.top(POOL, judged, 10)[0], ranks=found.rank_in_pool)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts a process's memory on Linux only")
def test_a_corpus_larger_than_memory(tmp_path):
    rng = np.random.default_rng(0)
    store = EmbeddingStore(tmp_path, DIM)
    vectors = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for begin in range(0, ROWS, 50_000):
        rows = range(begin, begin + 50_000)
        store.add(hash_texts(map(str, rows)), vectors[rows.start : rows.stop])
    line = [sys.executable, "-c", SEARCH, str(tmp_path), *map(str, (ROWS, DIM, QUERIES, HEADROOM))]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the corpus does not fit\n"
    found = np.load(tmp_path / "found.npz")
    scores = vectors[np.arange(QUERIES) * 17].astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_array_equal(found["top"], np.argsort(-scores, axis=1)[:, :10])
    np.testing.assert_array_equal(found["ranks"], np.ones(QUERIES))

import errno
import gzip

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.errors import ClirscaleError
from clirscale.retrieval import trec

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None)
@given(st.lists(float32, min_size=1, max_size=30))
def test_scores_survive_as_the_same_float32(scores):
    n = len(scores)
    lines = trec.run_lines(pa.array(["q"] * n), pa.array(["d"] * n), np.arange(n), np.array(scores, np.float32))
    read = [float(line.split()[4]) for line in lines.decode().splitlines()]
    assert np.array(read, np.float32).tolist() == scores


def test_lines():
    queries = pa.array(["q1", "q1", "q2>de", "q2>de"])
    passages = pa.chunked_array([["字", 'd"0,'], ["d1", "字"]])
    runs = trec.run_lines(queries, passages, np.array([1, 2, 1, 2]), np.float32([0.5, -1, 0.1, 0]))
    assert runs.decode().splitlines() == [
        "q1 Q0 字 1 0.5 clirscale",
        'q1 Q0 d"0, 2 -1 clirscale',
        "q2>de Q0 d1 1 0.1 clirscale",
        "q2>de Q0 字 2 0 clirscale",
    ]
    qrels = trec.qrels_lines(pa.array(["q1", "q1"]), pa.array(["d1", "字"]), np.array([1, 0]))
    assert qrels.decode().splitlines() == ["q1 0 d1 1", "q1 0 字 0"]


def test_parts_are_written_in_order_and_read_as_one_file(tmp_path):
    path = tmp_path / "new" / "run.trec.gz"
    trec.write(path, ((lambda i=i: f"q{i} Q0 d 1 {i} t\n".encode()) for i in range(50)))
    assert [line.query_id for line in ir_measures.read_trec_run(str(path))] == [f"q{i}" for i in range(50)]
    assert [p.name for p in path.parent.iterdir()] == ["run.trec.gz"]


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        trec.write(tmp_path / name, [lambda: b"x" * 1000])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def fail():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "run.trec.gz"
    trec.write(path, [lambda: b"old"])
    with pytest.raises(ClirscaleError, match=r"run\.trec\.gz: cannot be written \(No space left on device\)"):
        trec.write(path, [lambda: b"new", fail])
    assert gzip.decompress(path.read_bytes()) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.trec.gz"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(ClirscaleError, match=r"runs.run\.trec\.gz: cannot be written"):
        trec.write(tmp_path / "runs" / "run.trec.gz", [])


def test_other_errors_are_not_disguised(tmp_path):
    with pytest.raises(ZeroDivisionError), trec.replacing(tmp_path / "x") as temporary:
        temporary.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []

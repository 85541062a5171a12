import gzip
import json
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from clirscale.data import parallel
from clirscale.data.groups import Pair
from clirscale.errors import DataError


def record(group_id="g1", lang="en", query="what is it", passage="it is this", **more):
    return {"group_id": group_id, "lang": lang, "query": query, "passage": passage, **more}


def lines(*records) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records)


def refused(path, *records, raw: bytes | None = None) -> str:
    path.write_bytes(lines(*records) if raw is None else raw)
    with pytest.raises(DataError) as error:
        parallel.read(str(path))
    return str(error.value).removeprefix(f"{path}:")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "help.jsonl"


PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("ending", PACK)
def test_plain_and_compressed(tmp_path, ending):
    path = tmp_path / f"help.jsonl{ending}"
    path.write_bytes(PACK[ending](lines(record(), record(lang="zh", query="什么", passage="这个"), record("g0"))))
    pool = parallel.read(str(path))
    assert pool.name == "help"
    assert [g.group_id for g in pool] == ["g1", "g0"]
    assert pool.groups[0].pairs == {"en": Pair("what is it", "it is this"), "zh": Pair("什么", "这个")}


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_concatenated_compressed_parts(tmp_path, ending):
    path = tmp_path / f"help.jsonl{ending}"
    path.write_bytes(PACK[ending](lines(record("a"))) + PACK[ending](lines(record("b"))))
    assert [g.group_id for g in parallel.read(str(path))] == ["a", "b"]


def test_several_files_are_one_pool(tmp_path):
    (tmp_path / "de.jsonl").write_bytes(lines(record(lang="de"), record("g2", "de")))
    (tmp_path / "en.jsonl").write_bytes(lines(record(lang="en")))
    pool = parallel.read([str(tmp_path / "de.jsonl"), str(tmp_path / "en.jsonl")])
    assert pool.name == "de+en"
    assert pool.groups_per_language == {"de": 2, "en": 1}
    assert len(pool) == 2


def test_blank_lines_further_keys_crlf_and_byte_order_mark(file):
    file.write_bytes(
        b"\xef\xbb\xbf" + lines(record(source="manual")) + b"\r\n" + lines(record("g2"))[:-1] + b"\r\n  \n"
    )
    assert len(parallel.read(str(file))) == 2


def test_line_separators_inside_text_do_not_split_the_line(file):
    file.write_bytes(lines(record(passage="one\u2028two\x85three")))
    assert parallel.read(str(file)).groups[0].pairs["en"].passage == "one\u2028two\x85three"


texts = st.text(min_size=1).filter(lambda text: text.strip())


@given(st.dictionaries(st.tuples(texts, texts), st.tuples(texts, texts), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("written") / "x.jsonl"
    path.write_bytes(lines(*(record(g, lang, q, p) for (g, lang), (q, p) in content.items())))
    read = {(g.group_id, lang): (p.query, p.passage) for g in parallel.read(str(path)) for lang, p in g.pairs.items()}
    assert read == content


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"group_id": "g2", "lang"\n', "2: not JSON"),
        (b"[" * 100_000 + b"\n", "2: not JSON"),
        (b'["g2", "en", "q", "p"]\n', "2: is a JSON list, not an object with the keys group_id, lang, query, passage"),
        (b"null\n", "2: is a JSON NoneType, not an object"),
        (b"{}\n", "2: no key 'group_id' in the record; the record has no key"),
        (lines({"group_id": "g2", "lang": "en", "query": "q", "passge": "p"}),
         "2: no key 'passage' in the record; did you mean 'passge'"),
        (lines(record(group_id=7)), "2: 'group_id' is 7, not text"),
        (lines(record("g2", query=None)), "2: 'query' is null, not text"),
        (lines(record("g2", passage=["p"])), "2: 'passage' is [\"p\"], not text"),
        (lines(record("g2", query="")), "2: 'query' is empty"),
        (lines(record("g2", passage=" \u3000\n")), "2: 'passage' is empty"),
        (lines(record("g2", lang="")), "2: 'lang' is empty"),
        (lines(record("g1")), "2: group 'g1' has a pair in 'en' already"),
        (b'{"group_id": "g2", "lang": "en", "query": "\xff", "passage": "p"}\n', "2: not UTF-8 (byte 44 of the line)"),
        (b'{"group_id": "g2", "lang": "en", "query": "\\ud800", "passage": "p"}\n', "2: 'query' has half a surrogate"),
    ],
)  # fmt: skip
def test_malformed_line(file, bad, message):
    assert refused(file, raw=lines(record()) + bad + lines(record("g9"))).startswith(message)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_file(file, content):
    assert "no record in it" in refused(file, raw=content)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_cut_off_file(tmp_path, ending):
    whole = PACK[ending](lines(*(record(f"g{i}", passage=str(hash((i, "x"))) * 20) for i in range(3000))))
    message = refused(tmp_path / f"x.jsonl{ending}", raw=whole[: len(whole) // 2])
    assert "is it cut off?" in message
    assert int(message.split(":")[0]) > 1


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_not_compressed_after_all(tmp_path, ending):
    assert refused(tmp_path / f"x.jsonl{ending}", record()).startswith("1: cannot be read on from here")


def test_missing_file_names_the_nearest(file):
    file.touch()
    with pytest.raises(DataError, match=r"no such file; did you mean 'help\.jsonl'"):
        parallel.read(str(file.with_name("hlep.jsonl")))


def test_no_file():
    with pytest.raises(DataError, match="names no file"):
        parallel.read([])


def test_the_file_is_not_held_in_memory(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(lines(*(record("g", f"l{i}", padding="x" * 100_000) for i in range(400)))))  # 40 MB
    tracemalloc.start()
    try:
        parallel.read(str(path))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.shared
def test_real_data(shared):
    pool = parallel.read(str(shared / "data" / "lohelp_dev.jsonl.gz"))
    assert (pool.name, len(pool), len(pool.languages)) == ("lohelp_dev", 833, 22)

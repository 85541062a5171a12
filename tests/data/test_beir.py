import csv
import gzip
import inspect
import json
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from clirscale.config import locate
from clirscale.data import beir
from clirscale.errors import DataError

CONF = Path(__file__).parents[2] / "conf"
HEADER = "query-id\tcorpus-id\tscore\n"
CORPUS = [
    {"_id": "d1", "title": "Kigali", "text": "Capital of Rwanda."},
    {"_id": "d2", "title": "", "text": "Capital of Kenya."},
    {"_id": "d3", "title": "Lagos", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "capital of rwanda"}, {"_id": "q2", "text": "capital of kenya"}]
QRELS = "q1\td1\t2\nq1\td2\t0\nq2\td2\t1\n"


def jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write(folder, corpus=CORPUS, queries=QUERIES, qrels=QRELS, header=HEADER, split="test"):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, content in (("corpus", corpus), ("queries", queries)):
        text = content if isinstance(content, str) else jsonl(content)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "qrels" / f"{split}.tsv").write_text(header + qrels, encoding="utf-8")
    return folder


def read(folder, identical_ids="keep", **arguments):
    return beir.read(str(folder), identical_ids=identical_ids, **arguments)


def test_a_passage_is_title_and_text(tmp_path):
    task = read(write(tmp_path / "towns"))
    assert {p.id: p.text for p in task.passages} == {
        "d1": "Kigali Capital of Rwanda.",
        "d2": "Capital of Kenya.",
        "d3": "Lagos",
    }
    assert [(q.id, q.lang, q.group_id, q.text) for q in task.queries] == [
        ("q1", "en", "q1", "capital of rwanda"),
        ("q2", "en", "q2", "capital of kenya"),
    ]
    assert task.name == "towns"


def test_grades_are_kept_with_their_zeros(tmp_path):
    task = read(write(tmp_path))
    assert task.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
    assert task.drops == {}
    assert task.excluded == {}


def test_every_file_that_was_read_is_named_with_its_digest(tmp_path):
    assert sorted(read(write(tmp_path)).sources) == ["corpus.jsonl", "qrels/test.tsv", "queries.jsonl"]


def test_only_the_queries_of_the_split_are_taken(tmp_path):
    write(tmp_path, queries=[*QUERIES, {"_id": "q3", "text": "unused"}])
    (tmp_path / "qrels" / "dev.tsv").write_text(HEADER + "q2\td2\t1\n")
    task = read(tmp_path, split="dev")
    assert [q.id for q in task.queries] == ["q2"]
    assert task.drops == {"queries without a judgement in dev": 2}


def test_queries_without_a_relevant_passage_are_dropped_and_counted(tmp_path):
    task = read(write(tmp_path, qrels="q1\td1\t1\nq2\td1\t0\n"))
    assert [q.id for q in task.queries] == list(task.qrels) == ["q1"]
    assert task.drops == {"queries without a relevant passage": 1}


def test_no_query_has_a_relevant_passage(tmp_path):
    with pytest.raises(DataError, match="no query of split 'test' has a relevant passage"):
        read(write(tmp_path, qrels="q1\td1\t0\n"))


def test_compressed_files(tmp_path):
    plain = read(write(tmp_path / "a"))
    packed = write(tmp_path / "b")
    for name in ("corpus.jsonl", "queries.jsonl"):
        (packed / f"{name}.gz").write_bytes(gzip.compress((packed / name).read_bytes()))
        (packed / name).unlink()
    assert read(packed).fingerprint == plain.fingerprint


def test_judgements_as_json_lines(tmp_path):
    plain = read(write(tmp_path / "a"))
    other = write(tmp_path / "b")
    rows = [dict(zip(HEADER.split(), (q, d, float(s)), strict=True)) for q, d, s in map(str.split, QRELS.splitlines())]
    (other / "qrels" / "test.tsv").unlink()
    (other / "qrels" / "test.jsonl").write_text(jsonl(rows))
    assert read(other).fingerprint == plain.fingerprint


def parquet(folder, where="qrels", identifier="_id"):
    """The collection as mteb publishes it, its corpus in two parts."""
    rename = [{identifier if key == "_id" else key: value for key, value in record.items()} for record in CORPUS]
    rows = [dict(zip(HEADER.split(), (q, d, int(s)), strict=True)) for q, d, s in map(str.split, QRELS.splitlines())]
    for name, records in (
        ("corpus/test-00000-of-00002", rename[:1]),
        ("corpus/test-00001-of-00002", rename[1:]),
        ("queries/test-00000-of-00001", QUERIES),
        (f"{where}/test-00000-of-00001", rows),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(records), folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize(("where", "identifier"), [("qrels", "id"), ("default", "_id"), ("data", "_id")])
def test_parquet_files_of_mteb(tmp_path, where, identifier):
    plain = read(write(tmp_path / "a"))
    assert read(parquet(tmp_path / "b", where, identifier)).fingerprint == plain.fingerprint


def test_missing_part_of_a_parquet_series(tmp_path):
    (parquet(tmp_path) / "corpus" / "test-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"test-00000-of-00002\.parquet: this part of the series is missing"):
        read(tmp_path)


def test_broken_parquet(tmp_path):
    (parquet(tmp_path) / "corpus" / "test-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"test-00001-of-00002\.parquet: cannot be read after row 0"):
        read(tmp_path)


def test_identical_ids_must_be_decided(tmp_path):
    with pytest.raises(TypeError, match="identical_ids"):
        beir.read(str(write(tmp_path)))


def test_identical_ids_are_excluded_where_asked(tmp_path):
    write(tmp_path, queries=[{"_id": "d1", "text": "Kigali"}, QUERIES[1]], qrels="d1\td2\t1\nq2\td2\t1\n")
    assert read(tmp_path, "exclude").excluded == {"d1": frozenset({"d1"})}
    assert read(tmp_path, "keep").excluded == {}


def test_language_of_a_record_comes_first(tmp_path):
    corpus = [CORPUS[0] | {"lang": "rw"}, CORPUS[1] | {"metadata": {"lang": "sw"}}, CORPUS[2] | {"metadata": {}}]
    task = read(write(tmp_path, corpus=corpus), lang="yo", query_lang="fr")
    assert {p.id: p.lang for p in task.passages} == {"d1": "rw", "d2": "sw", "d3": "yo"}
    assert {q.lang for q in task.queries} == {"fr"}


@pytest.mark.parametrize(
    ("query_langs", "passage_langs", "settings"),
    [
        (("en", "en"), ("en", "en"), ("mono",)),
        (("sw", "yo"), ("en", "en"), ("cross",)),
        (("en", "yo"), ("en", "en"), ("mono", "cross")),
        (("sw", "yo"), ("sw", "yo"), ("mono", "multi")),  # relevance within languages only
        (("sw", "yo"), ("yo", "sw"), ("cross", "multi")),
    ],
)
def test_settings_are_those_in_which_a_passage_is_relevant(tmp_path, query_langs, passage_langs, settings):
    queries = [q | {"lang": lang} for q, lang in zip(QUERIES, query_langs, strict=True)]
    corpus = [p | {"lang": lang} for p, lang in zip(CORPUS, passage_langs, strict=False)]
    assert read(write(tmp_path, corpus, queries, "q1\td1\t1\nq2\td2\t1\n")).settings == settings


def test_empty_passages_are_dropped_with_their_judgements(tmp_path):
    corpus = [*CORPUS, {"_id": "d4", "title": " ", "text": None}]
    task = read(write(tmp_path, corpus, [*QUERIES, {"_id": "q3", "text": "?"}], QRELS + "q1\td4\t1\nq3\td4\t1\n"))
    assert task.passages.find(["d4"]) == {}
    assert "d4" not in task.qrels["q1"]
    assert task.drops == {
        "passages without text": 1,
        "judgements of passages without text": 2,
        "queries without a relevant passage": 1,
    }


def test_empty_passages_can_be_errors(tmp_path):
    write(tmp_path, corpus=[*CORPUS, {"_id": "d4", "title": "", "text": ""}])
    with pytest.raises(DataError, match=r"corpus\.jsonl:4: passage 'd4' has neither title nor text; .*empty=drop"):
        read(tmp_path, empty="error")


@pytest.mark.parametrize(("line", "message"), [("q1\td9\t1", "passage 'd9'"), ("q9\td1\t1", "query 'q9'")])
def test_unknown_ids_of_judgements(tmp_path, line, message):
    write(tmp_path, qrels=QRELS + line + "\n")
    with pytest.raises(DataError, match=rf"test\.tsv:5: {message} does not exist; .*unknown=drop"):
        read(tmp_path)
    task = read(tmp_path, unknown="drop")
    assert task.drops == {"judgements of unknown queries or passages": 1}
    assert task.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}


def test_a_query_with_unknown_passages_only_has_no_relevant_passage(tmp_path):
    task = read(write(tmp_path, qrels="q1\td1\t1\nq2\td9\t1\n"), unknown="drop")
    assert task.drops == {"judgements of unknown queries or passages": 1, "queries without a relevant passage": 1}


def test_negative_grades(tmp_path):
    write(tmp_path, qrels=QRELS + "q2\td1\t-1\n")
    with pytest.raises(DataError, match=r"test\.tsv:5: grade -1 is negative; .*negative=zero"):
        read(tmp_path)
    task = read(tmp_path, negative="zero")
    assert task.qrels["q2"] == {"d2": 1, "d1": 0}
    assert task.drops == {"negative grades read as 0": 1}


def test_repeated_judgements(tmp_path):
    assert read(write(tmp_path, qrels=QRELS + "q2\td2\t1\n")).drops == {"repeated judgements": 1}
    with pytest.raises(DataError, match=r"test\.tsv:5: 'q2' and 'd2' have grade 1 above; keep one"):
        read(write(tmp_path, qrels=QRELS + "q2\td2\t0\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("corpus-id\tquery-id\tscore\n", r"test\.tsv:1: the columns are corpus-id, query-id, score; their order must"),
        ("", r"test\.tsv:1: the header is missing"),
        (
            "query doc rel\n",
            r"test\.tsv:1: the first line must be query-id<tab>corpus-id<tab>score, is 'query doc rel'",
        ),
    ],
)
def test_header_of_judgements(tmp_path, header, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, header=header))


def test_swapped_columns_of_judgements(tmp_path):
    write(tmp_path, qrels="d1\tq1\t1\nd2\tq2\t1\n")
    with pytest.raises(DataError, match=r"test\.tsv:2: 'q1' .* is a query's id, like 2 of 2; the columns are swapped"):
        read(tmp_path, unknown="drop")


def test_queries_that_are_passages_are_no_swapped_columns(tmp_path):
    queries = [{"_id": "d1", "text": "a"}, {"_id": "d2", "text": "b"}]
    assert read(write(tmp_path, queries=queries, qrels="d1\td2\t1\nd2\td1\t1\n"), "exclude").qrels["d1"] == {"d2": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1\thigh", "the grade is 'high'; must be a whole number"),
        ("q1\td1\t0.5", r"the grade is '0\.5'; must be a whole number"),
        ("q1\td1", "has 2 columns"),
        ("q1 d1 1", "has 1 columns"),
        ("q1\t\t1", "'corpus-id' is '': empty"),
    ],
)
def test_malformed_judgement(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"test\.tsv:5: {message}"):
        read(write(tmp_path, qrels=QRELS + line + "\n"))


@pytest.mark.parametrize("score", ["1", 1.5, True, None])
def test_malformed_score_in_json(tmp_path, score):
    write(tmp_path)
    (tmp_path / "qrels" / "test.tsv").unlink()
    (tmp_path / "qrels" / "test.jsonl").write_text(jsonl([{"query-id": "q1", "corpus-id": "d1", "score": score}]))
    if score == "1":
        assert read(tmp_path).qrels == {"q1": {"d1": 1}}
    else:
        with pytest.raises(DataError, match=rf"test\.jsonl:1: the grade is {score}; must be a whole number"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "d4", "text": "x"', "not JSON"),
        ('["d4", "x"]', "is a JSON list"),
        ('{"id_": "d4", "text": "x"}', "no key '_id' in the record; it has id_, text"),
        ('{"_id": null, "text": "x"}', "'_id' is null, not text"),
        ('{"_id": "d 4", "text": "x"}', "'_id' is 'd 4': empty, or with white space"),
        ('{"_id": "d4", "text": ["x"]}', r"'text' is \[\"x\"\], not text"),
        ('{"_id": "d4", "text": "x", "lang": 7}', "the language is 7; must be a tag"),
    ],
)
def test_malformed_record(tmp_path, line, message):
    write(tmp_path, corpus=jsonl(CORPUS) + line + "\n")
    with pytest.raises(DataError, match=rf"corpus\.jsonl:4: {message}"):
        read(tmp_path)


def test_repeated_passage_id_names_both_lines(tmp_path):
    write(tmp_path, corpus=[*CORPUS, CORPUS[1]])
    with pytest.raises(DataError, match=r"corpus\.jsonl:4: passage id 'd2' stands at .*corpus\.jsonl:2 already"):
        read(tmp_path)


def test_repeated_query_id_names_both_lines(tmp_path):
    write(tmp_path, queries=[*QUERIES, QUERIES[0]])
    with pytest.raises(DataError, match=r"queries\.jsonl:3: query id 'q1' stands at .*queries\.jsonl:1 already"):
        read(tmp_path)


def test_query_without_text(tmp_path):
    with pytest.raises(DataError, match=r"queries\.jsonl:3: query 'q3' has no text"):
        read(write(tmp_path, queries=[*QUERIES, {"_id": "q3", "text": " "}]))


def test_missing_folder_says_what_to_place(tmp_path):
    with pytest.raises(DataError, match=r"no such folder; .*corpus\.jsonl, queries\.jsonl, qrels/test\.tsv"):
        read(tmp_path / "none")


def test_the_hub_is_asked_where_the_folder_is_missing(tmp_path, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    fetched = write(tmp_path / "fetched")

    def snapshot(repository, **arguments):
        assert (repository, arguments["revision"]) == ("mteb/towns", revision)
        assert {"corpus.jsonl", "queries.jsonl", "qrels/test.jsonl"} <= set(arguments["allow_patterns"])
        return str(fetched)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    task = read(tmp_path / "towns", hub="mteb/towns", revision=revision)
    assert task.sources["revision"] == revision
    assert task.fingerprint == read(fetched).fingerprint
    assert "revision" not in read(fetched).sources


@pytest.mark.parametrize(("file", "what"), [("corpus.jsonl", "corpus"), ("queries.jsonl", "queries")])
def test_missing_file(tmp_path, file, what):
    (write(tmp_path) / file).unlink()
    with pytest.raises(DataError, match=rf"{what}\.jsonl"):
        read(tmp_path)


def test_missing_split(tmp_path):
    with pytest.raises(DataError, match=r"qrels/dev\.tsv"):
        read(write(tmp_path), split="dev")


def test_other_splits_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no qrels of 'dev'; looked for qrels/dev\.tsv, .*; there are test\.tsv"):
        beir.find(write(tmp_path), "dev")


def test_cut_off_file(tmp_path):
    packed = gzip.compress(jsonl(CORPUS * 50).encode())
    (write(tmp_path) / "corpus.jsonl").unlink()
    (tmp_path / "corpus.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz:\d+: cannot be read on from here .*cut off"):
        read(tmp_path)


@pytest.mark.parametrize("key", ["identical_ids", "empty", "unknown", "negative"])
def test_misspelt_choice(tmp_path, key):
    with pytest.raises(DataError, match=f"{key} is 'kep'; .*one of"):
        read(write(tmp_path), **{key: "kep"})


def test_subsets_are_indexes_of_their_own(tmp_path):
    for name in ("gis", "mathematica"):
        write(tmp_path / name)
    task = read(tmp_path, subsets=["gis", "mathematica"])
    assert task.settings == ("mono",)
    assert {p.lang for p in task.passages} == {q.lang for q in task.queries} == {"en-x-gis", "en-x-mathemat-ica"}
    assert task.qrels["gis/q2"] == {"gis/d2": 1}
    assert len(task.passages) == 6
    assert "gis/corpus.jsonl" in task.sources


@pytest.mark.parametrize("subsets", [[], ["gis", "gis"], ["a-b", "a.b"], ["_"]])
def test_subsets_without_a_tag_of_their_own(tmp_path, subsets):
    with pytest.raises(DataError, match="subsets is"):
        read(tmp_path, subsets=subsets)


def benchmarks():
    return sorted(p.stem for p in (CONF / "eval").glob("*.yaml") if p.stem.startswith(("beir_", "miracl_", "afriqa")))


def composed(names):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"eval=[{','.join(names)}]", "benchmark_dir=sets"])
    return OmegaConf.to_container(config.eval, resolve=True, throw_on_missing=True)


def test_every_benchmark_composes_and_fits_its_reader():
    found = composed(benchmarks())
    assert sorted(found) == benchmarks()
    for name, benchmark in found.items():
        arguments = dict(benchmark["source"])
        reader = locate(benchmark["source"], name)
        assert arguments.pop("_target_") == f"{reader.__module__}.read"
        inspect.signature(reader).bind(**arguments)
        assert arguments["path"].startswith("sets/")
        assert (arguments["hub"] is None) == (arguments["revision"] is None)
        assert {key: benchmark[key] for key in arguments} == arguments  # eval.NAME.KEY=… reaches the reader
        assert benchmark.keys() - arguments.keys() == {"measures", "run_depth", "source"}


def test_benchmarks_are_complete():
    forums = composed(["beir_cqadupstack"])["beir_cqadupstack"]["subsets"]
    assert len({beir.forum_tag("en", forum) for forum in forums}) == 12
    names = benchmarks()
    assert len([n for n in names if n.startswith("beir_") and not n.startswith("beir_pl_")]) == 19
    assert len([n for n in names if n.startswith("miracl_")]) == 18


@pytest.mark.shared
def test_afriqa(shared):
    folder = shared / "data" / "beir_layout" / "afriqa"
    task = read(folder)

    def count(name):
        return (folder / name).read_bytes().count(b"\n")

    assert len(task.queries) == count("queries.jsonl")
    assert len(task.passages) == count("corpus.jsonl")
    with (folder / "qrels" / "test.tsv").open(newline="", encoding="utf-8") as file:
        rows = [(r["query-id"], r["corpus-id"], int(r["score"])) for r in csv.DictReader(file, delimiter="\t")]
    assert sorted((q, d, grade) for q, grades in task.qrels.items() for d, grade in grades.items()) == sorted(rows)
    assert task.settings == ("cross",)
    assert task.drops == {}
    assert task.passages.languages == ["en"]
    assert {q.lang for q in task.queries} == {"bem", "fon", "hau", "ibo", "kin", "twi", "yor", "zul"}
    assert next(q for q in task.queries if q.id == "bem-dev-3").text == "Bushe pontoon cinshi?"
    assert task.qrels["bem-dev-1"] == {"d0": 1}
    assert task.passages[task.passages.find(["d0"])["d0"]].text.startswith("Joseph (Genesis) The warden put Joseph")

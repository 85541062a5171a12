import gzip
import json

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clirscale.data import miracl
from clirscale.errors import DataError

DOCS = [
    [{"docid": "7#0", "title": "Nairobi", "text": "Mji mkuu."}, {"docid": "7#1", "title": "Nairobi", "text": "Mto."}],
    [{"docid": "8#0", "title": "Mombasa", "text": "Bandari."}],
]
TOPICS = "1\tMji mkuu wa Kenya?\n2\tBandari ya Kenya?\n"
QRELS = "1\tQ0\t7#0\t1\n1\tQ0\t7#1\t0\n2\tQ0\t8#0\t1\n"


def pack(records):
    return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())


def write(folder, lang="sw", docs=DOCS, topics=TOPICS, qrels=QRELS):
    corpus = folder / f"miracl-corpus-v1.0-{lang}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, records in enumerate(docs):
        (corpus / f"docs-{number}.jsonl.gz").write_bytes(pack(records))
    for kind, content in (("topics", topics), ("qrels", qrels)):
        file = folder / f"miracl-v1.0-{lang}" / kind / f"{kind}.miracl-v1.0-{lang}-dev.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


def read(folder, languages=("sw",), **arguments):
    return miracl.read(str(folder), languages=languages, **arguments)


def test_one_language_has_the_published_ids(tmp_path):
    task = read(write(tmp_path))
    assert [(p.id, p.lang, p.text) for p in task.passages] == [
        ("7#0", "sw", "Nairobi Mji mkuu."),
        ("7#1", "sw", "Nairobi Mto."),
        ("8#0", "sw", "Mombasa Bandari."),
    ]
    assert [(q.id, q.lang, q.group_id) for q in task.queries] == [("1", "sw", "1"), ("2", "sw", "2")]
    assert task.qrels == {"1": {"7#0": 1, "7#1": 0}, "2": {"8#0": 1}}
    assert task.settings == ("mono",)


def test_several_languages_have_ids_of_their_own(tmp_path):
    write(tmp_path, "sw")
    write(tmp_path, "yo", topics="1\tOlu-ilu?\n", qrels="1\tQ0\t8#0\t1\n")
    task = read(tmp_path, ["sw", "yo"])
    assert task.qrels["yo:1"] == {"yo:8#0": 1}
    assert task.qrels["sw:1"] == {"sw:7#0": 1, "sw:7#1": 0}
    assert len(task.passages) == 6
    assert {p.id.split(":")[0] for p in task.passages if p.lang == "yo"} == {"yo"}


def test_sources_say_which_corpus_was_read(tmp_path):
    sources = read(write(tmp_path)).sources
    assert sources["corpus"] == "full"
    assert set(sources) - {"corpus"} == {
        "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv",
        "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv",
        "miracl-corpus-v1.0-sw/docs-0.jsonl.gz",
        "miracl-corpus-v1.0-sw/docs-1.jsonl.gz",
    }


def test_a_corpus_that_is_not_the_published_one_is_warned_of(tmp_path, caplog):
    read(write(tmp_path))
    assert "3 passages in 'sw', the published corpus has 131,924" in caplog.text


def test_hard_negatives_are_read_from_the_published_reduction(tmp_path, caplog):
    tables = {
        "corpus": [{"_id": d["docid"], "title": d["title"], "text": d["text"]} for d in DOCS[0]],
        "queries": [{"_id": "1", "text": "Mji mkuu wa Kenya?"}],
        "qrels": [{"query-id": "1", "corpus-id": "7#0", "score": 1}, {"query-id": "1", "corpus-id": "7#1", "score": 0}],
    }
    for name, records in tables.items():
        (tmp_path / f"sw-{name}").mkdir()
        pq.write_table(pa.Table.from_pylist(records), tmp_path / f"sw-{name}" / "dev-00000-of-00001.parquet")
    write(tmp_path)  # the full corpus beside it is not touched
    task = read(tmp_path, corpus="hard_negatives")
    assert [(p.id, p.lang, p.text) for p in task.passages] == [
        ("7#0", "sw", "Nairobi Mji mkuu."),
        ("7#1", "sw", "Nairobi Mto."),
    ]
    assert task.qrels == {"1": {"7#0": 1, "7#1": 0}}
    assert task.settings == ("mono",)
    assert task.sources["corpus"] == "hard_negatives"
    assert "sw-corpus/dev-00000-of-00001.parquet" in task.sources
    assert not caplog.text


def test_missing_hard_negatives(tmp_path):
    with pytest.raises(DataError, match="sw-corpus/"):
        read(write(tmp_path), corpus="hard_negatives")


def test_topics_and_corpus_come_from_two_datasets_of_the_hub(tmp_path, monkeypatch):
    fetched = write(tmp_path / "fetched")
    revisions = {"miracl/miracl": "1" * 40, "miracl/miracl-corpus": "2" * 40}

    def snapshot(repository, **arguments):
        assert arguments["revision"] == revisions[repository]
        assert all(
            name.startswith("miracl-corpus") == repository.endswith("-corpus") for name in arguments["allow_patterns"]
        )
        return str(fetched)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    (hub, revision), (corpus_hub, corpus_revision) = revisions.items()
    task = miracl.read(str(tmp_path / "none"), hub, revision, corpus_hub, corpus_revision, languages=["sw"])
    assert (task.sources["revision"], task.sources["corpus_revision"]) == (revision, corpus_revision)
    assert task.fingerprint == read(fetched).fingerprint


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_part_of_the_corpus(tmp_path, missing):
    write(tmp_path, docs=[*DOCS, [{"docid": "9#0", "title": "", "text": "x"}]])
    (tmp_path / "miracl-corpus-v1.0-sw" / f"docs-{missing}.jsonl.gz").unlink()
    with pytest.raises(DataError, match=rf"docs-{missing}\.jsonl\.gz: this part of the corpus is missing"):
        read(tmp_path)


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path):
    docs = [*DOCS, *([{"docid": f"{n}#0", "title": "", "text": "x"}] for n in range(20, 30))]
    assert [p.id for p in read(write(tmp_path, docs=docs)).passages][-2:] == ["28#0", "29#0"]


def test_cut_off_part_is_named(tmp_path):
    file = write(tmp_path) / "miracl-corpus-v1.0-sw" / "docs-1.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"docs-1\.jsonl\.gz:\d+: cannot be read on from here .*cut off"):
        read(tmp_path)


def test_missing_topics(tmp_path):
    (write(tmp_path) / "miracl-v1.0-sw" / "topics" / "topics.miracl-v1.0-sw-dev.tsv").unlink()
    with pytest.raises(DataError, match=r"topics\.miracl-v1\.0-sw-dev\.tsv"):
        read(tmp_path)


def test_docid_of_another_form(tmp_path):
    with pytest.raises(DataError, match=r"docs-0\.jsonl\.gz:1: docid '7' is not of the form ARTICLE#PASSAGE"):
        read(write(tmp_path, docs=[[{"docid": "7", "title": "", "text": "x"}]]))


def test_repeated_docid_names_both_places(tmp_path):
    write(tmp_path, docs=[*DOCS, [DOCS[0][1]]])
    with pytest.raises(DataError, match=r"docs-2\.jsonl\.gz:1: passage id '7#1' stands at .*docs-0\.jsonl\.gz:2"):
        read(tmp_path)


@pytest.mark.parametrize("line", ["3", "3\t", "3\ta\tb", "query_id query"])
def test_malformed_topic(tmp_path, line):
    with pytest.raises(DataError, match=r"-dev\.tsv:3: must be a query id, a tab and the query, without header"):
        read(write(tmp_path, topics=TOPICS + line + "\n"))


def test_repeated_query(tmp_path):
    with pytest.raises(DataError, match=r"-dev\.tsv:3: query id '1' stands at .*-dev\.tsv:1 already"):
        read(write(tmp_path, topics=TOPICS + "1\tTena?\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t7#0\t1", "has 3 columns; must be query, Q0, passage and grade"),
        ("1\tQ0\t8#0\tyes", "the grade is 'yes'"),
        ("1\tQ0\t8#0\t-1", "grade -1 is negative"),
        ("1\tQ0\t9#0\t1", "passage '9#0' does not exist"),
        ("9\tQ0\t8#0\t1", "query '9' does not exist"),
        ("2\tQ0\t8#0\t0", "'2' and '8#0' have grade 1 above"),
    ],
)
def test_malformed_judgement(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"qrels\.miracl-v1\.0-sw-dev\.tsv:4: {message}"):
        read(write(tmp_path, qrels=QRELS + line + "\n"))


def test_queries_without_a_relevant_passage_are_dropped_and_counted(tmp_path):
    task = read(write(tmp_path, topics=TOPICS + "3\tBila?\n", qrels="1\tQ0\t7#0\t1\n2\tQ0\t8#0\t0\n"))
    assert [q.id for q in task.queries] == ["1"]
    assert task.drops == {"queries without a relevant passage": 1, "queries without a judgement in dev": 1}


def test_empty_passages_are_dropped_with_their_judgements(tmp_path):
    docs = [*DOCS, [{"docid": "9#0", "title": "", "text": " "}]]
    task = read(write(tmp_path, docs=docs, qrels=QRELS + "2\tQ0\t9#0\t1\n"))
    assert task.drops == {"passages without text": 1, "judgements of passages without text": 1}
    assert task.qrels["2"] == {"8#0": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": []}, "give at least one"),
        ({"languages": ["sw", "sw"]}, "each once"),
        ({"languages": ["swa"]}, "has no language 'swa'; did you mean 'sw'"),
        ({"languages": ["sw"], "corpus": "hard_negative"}, "corpus is 'hard_negative'; did you mean 'hard_negatives'"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        miracl.read(str(write(tmp_path)), **arguments)


@pytest.mark.shared
def test_layout_of_the_release(shared):
    folder = shared / "data" / "miracl_layout"
    languages = ["ar", "fr", "ja", "th", "zh"]
    task = read(folder, languages)
    for lang in languages:
        topics = (folder / f"miracl-v1.0-{lang}/topics/topics.miracl-v1.0-{lang}-dev.tsv").read_bytes()
        shards = (folder / f"miracl-corpus-v1.0-{lang}").glob("docs-*.jsonl.gz")
        assert sum(q.lang == lang for q in task.queries) == topics.count(b"\n")
        assert sum(p.lang == lang for p in task.passages) == sum(
            gzip.decompress(shard.read_bytes()).count(b"\n") for shard in shards
        )
    assert task.drops == {}
    assert task.passages.languages == languages
    query = next(q for q in task.queries if q.id == "fr:1#0")
    assert query.text == "Combien d'employeurs"
    assert task.qrels["fr:1#0"] == {"fr:1000#0": 1}
    passage = task.passages[task.passages.find(["fr:1000#0"])["fr:1000#0"]]
    assert passage.text.startswith("Sport Les dépenses des ménages représentent plus de 50 %")


@pytest.mark.shared
def test_one_language_of_the_release_has_the_ids_of_its_qrels(shared):
    folder = shared / "data" / "miracl_layout"
    lines = (folder / "miracl-v1.0-th/qrels/qrels.miracl-v1.0-th-dev.tsv").read_text().splitlines()
    expected = {(query, passage, int(grade)) for query, _, passage, grade in map(str.split, lines)}
    qrels = read(folder, ["th"]).qrels
    assert {(q, p, grade) for q, grades in qrels.items() for p, grade in grades.items()} == expected

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
from clirscale.data import aligned
from clirscale.errors import DataError

CONF = Path(__file__).parents[2] / "conf"
REVISION = "0123456789abcdef0123456789abcdef01234567"
BELEBELE = {
    "files": "data/{lang}.jsonl",
    "codes": {"eng_Latn": "en", "deu_Latn": "de"},
    "query": "question",
    "query_id": ["link", "question_number"],
    "passage": "flores_passage",
    "passage_id": "link",
}


def record(link, number, passage, question, **more):
    return {"link": link, "question_number": number, "flores_passage": passage, "question": question} | more


ENGLISH = [record("w/a", 1, "On A.", "A1?"), record("w/a", 2, "On A.", "A2?"), record("w/b", 1, "On B.", "B1?")]
GERMAN = [record("w/b", 1, "Über B.", "B1 de?"), record("w/a", 1, "Über A.", "A1 de?")]


def write(folder, name, records):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "data/eng_Latn.jsonl", ENGLISH)
    write(tmp_path, "data/deu_Latn.jsonl", GERMAN)
    return tmp_path


def read(folder, **changed):
    return aligned.read(str(folder), **(BELEBELE | changed))


def test_a_passage_of_several_questions_is_one_candidate(folder):
    task = read(folder)
    assert [(p.id, p.lang, p.text) for p in task.passages] == [
        ("de:w/b", "de", "Über B."),
        ("de:w/a", "de", "Über A."),
        ("en:w/a", "en", "On A."),
        ("en:w/b", "en", "On B."),
    ]
    assert task.name == folder.name
    assert task.settings == ("mono", "cross", "multi")
    assert task.sources.keys() == {"data/deu_Latn.jsonl", "data/eng_Latn.jsonl"}


def test_relevance_is_by_passage_id_in_all_languages(folder):
    task = read(folder)
    assert task.qrels["en:w/a#2"] == task.qrels["de:w/a#1"] == {"en:w/a": 1, "de:w/a": 1}
    assert {q.id: (q.lang, q.group_id, q.text) for q in task.queries}["de:w/a#1"] == ("de", "w/a#1", "A1 de?")
    assert len(task.queries) == 5


def test_languages_restrict_the_task_by_tag(folder):
    task = read(folder, languages=["de"])
    assert task.languages == ["de"]
    assert task.qrels["de:w/a#1"] == {"de:w/a": 1}


def test_a_name_that_codes_does_not_have_is_a_tag(folder):
    write(folder, "data/ibo_Latn.jsonl", GERMAN)
    assert read(folder, languages=["ibo_Latn", "en"]).languages == ["en", "ibo_Latn"]


def test_keys_and_files_are_free(tmp_path):
    for lang in ("en", "sw"):
        records = [{"qid": 7, "q": f"{lang}?", "pid": 3, "p": f"{lang}."}]
        packed = gzip.compress(json.dumps(records[0]).encode())
        (tmp_path / f"set.{lang}.jsonl.gz").write_bytes(packed)
    task = aligned.read(
        str(tmp_path), files="set.{lang}.jsonl.gz", query="q", query_id="qid", passage="p", passage_id="pid"
    )
    assert task.qrels == {"en:7": {"en:3": 1, "sw:3": 1}, "sw:7": {"en:3": 1, "sw:3": 1}}


def test_parquet_gives_what_json_lines_do(folder):
    for code, records in (("eng_Latn", ENGLISH), ("deu_Latn", GERMAN)):
        (folder / code).mkdir()
        pq.write_table(pa.Table.from_pylist(records), folder / code / "test-00000-of-00001.parquet")
    task = read(folder, files="{lang}/test-00000-of-00001.parquet")
    assert task.fingerprint == read(folder).fingerprint


def test_passage_texts_that_differ_are_counted(folder, caplog):
    write(folder, "data/deu_Latn.jsonl", [*GERMAN, record("w/a", 2, "Anders.", "A2 de?")])
    task = read(folder)
    assert task.drops == {"texts that differ from the first of their passage id (de)": 1}
    assert {p.id: p.text for p in task.passages}["de:w/a"] == "Über A."
    assert "deu_Latn.jsonl: 1 texts that differ" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "is a JSON list"),
        (json.dumps(record("w/c", 1, "", "C?")), "'flores_passage' is empty"),
        (json.dumps(record("w/c", 1, "On C.", " ")), "'question' is empty"),
        (json.dumps(record("w/c", 1, "On C.", 5)), "'question' is 5, not text"),
        (json.dumps(record("w c", 1, "On C.", "C?")), "'link' is 'w c': empty, or with white space"),
        (json.dumps(record("w/a", 2, "On A.", "again?")), r"query id 'w/a#2' stands at .*eng_Latn\.jsonl:2 already"),
    ],
)
def test_malformed_line(folder, line, message):
    file = folder / "data" / "eng_Latn.jsonl"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=rf"eng_Latn\.jsonl:4: {message}"):
        read(folder)


@pytest.mark.parametrize("key", ["query", "passage", "query_id", "passage_id"])
def test_wrong_key_gets_the_nearest_one(folder, key):
    right = {"query": "question", "passage": "flores_passage", "query_id": "link", "passage_id": "link"}[key]
    with pytest.raises(DataError, match=rf"deu_Latn\.jsonl:1: no key '{right}s' in the record; did you mean '{right}'"):
        read(folder, **{key: f"{right}s"})


def test_an_id_that_is_not_shared(folder):
    write(folder, "data/eng_Latn.jsonl", [ENGLISH[0] | {"question": "A1"}])
    write(folder, "data/deu_Latn.jsonl", [GERMAN[0] | {"question": "B1"}])
    with pytest.raises(DataError, match=r"no passage id is there in two languages \(de: 'B1', en: 'A1'\).*question"):
        read(folder, passage_id="question")


def test_missing_language(folder):
    with pytest.raises(DataError, match=r"has no data/dee\.jsonl for language 'dee'; did you mean 'de'"):
        read(folder, languages=["en", "dee"])
    with pytest.raises(DataError, match=r"has no data/fra_Latn\.jsonl for language 'fr'"):
        read(folder, languages=["en", "fr"], codes=BELEBELE["codes"] | {"fra_Latn": "fr"})


def test_empty_language(folder):
    write(folder, "data/fra_Latn.jsonl", [])
    with pytest.raises(DataError, match=r"fra_Latn\.jsonl: has no record; .*leave 'fra_Latn' out"):
        read(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"languages": []}, "no language is asked for"),
        ({"files": "data/*.jsonl"}, r"files is 'data/\*\.jsonl'; it must have \{lang\} once"),
        ({"files": "{lang}/{lang}.jsonl"}, "must have {lang} once"),
        ({"files": "test/{lang}.jsonl"}, r"has no file of the form test/\{lang\}\.jsonl"),
        ({"codes": {"arb_Arab": "ar", "arb_Latn": "ar"}}, "codes maps two codes to 'ar'"),
    ],
)
def test_arguments_that_do_not_fit(folder, changed, message):
    with pytest.raises(DataError, match=message):
        read(folder, **changed)


def test_missing_folder_says_what_to_place(tmp_path):
    with pytest.raises(DataError, match=r"place these files in it: data/deu_Latn\.jsonl, data/sw\.jsonl\."):
        read(tmp_path / "none", languages=["de", "sw"])


@pytest.mark.parametrize("reader", [aligned.read, aligned.read_bitext])
def test_only_the_languages_that_are_asked_for_come_from_the_hub(folder, monkeypatch, reader):
    write(folder, "data/eng_Latn.jsonl", [{"id": 1, "passage_id": 1, "question": "A?", "passage": "A", "text": "A"}])
    write(folder, "data/deu_Latn.jsonl", [{"id": 1, "passage_id": 1, "question": "B?", "passage": "B", "text": "B"}])

    def snapshot(repository, **arguments):
        assert (repository, arguments["revision"]) == ("organisation/set", REVISION)
        assert arguments["allow_patterns"] == ["data/deu_Latn.jsonl", "data/eng_Latn.jsonl"]
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    where = {name: BELEBELE[name] for name in ("files", "codes")}
    task = reader(str(folder / "none"), "organisation/set", REVISION, languages=["de", "en"], **where)
    assert task.sources["revision"] == REVISION
    assert task.name == "none"


def bitext(folder, **lines):
    for lang, sentences in lines.items():
        (folder / f"{lang}.txt").write_text("".join(f"{line}\n" for line in sentences), encoding="utf-8")
    return folder


def test_every_sentence_has_to_find_its_translations(tmp_path):
    task = aligned.read_bitext(str(bitext(tmp_path, en=["One.", "Two."], de=["Eins.", "Zwei."], fr=["Un.", "Deux."])))
    assert task.qrels["de:2"] == {"en:2": 1, "fr:2": 1}
    assert task.settings == ("cross", "multi")
    assert {q.id: (q.lang, q.group_id, q.text) for q in task.queries}["de:2"] == ("de", "2", "Zwei.")
    assert [(p.id, p.text) for p in task.passages][:2] == [("de:1", "Eins."), ("de:2", "Zwei.")]
    assert len(task.queries) == len(task.passages) == 6


def test_a_sentence_is_no_candidate_for_itself(tmp_path):
    task = aligned.read_bitext(str(bitext(tmp_path, en=["One."], de=["Eins."])))
    assert task.excluded == {"de:1": frozenset(["de:1"]), "en:1": frozenset(["en:1"])}


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_sentences_with_ids_need_not_be_in_order_or_complete(tmp_path, ending):
    columns = {"en": {"a": "One.", "b": "Two.", "c": "Three."}, "de": {"b": "Zwei.", "a": "Eins."}}
    for lang, column in columns.items():
        records = [{"key": name, "text": text} for name, text in column.items()]
        if ending == "tsv":
            (tmp_path / f"{lang}.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in column.items()))
        elif ending == "jsonl":
            write(tmp_path, f"{lang}.jsonl", records)
        else:
            pq.write_table(pa.Table.from_pylist(records), tmp_path / f"{lang}.parquet")
    text_id = None if ending == "tsv" else "key"
    task = aligned.read_bitext(str(tmp_path), files=f"{{lang}}.{ending}", text_id=text_id)
    assert task.qrels == {"de:a": {"en:a": 1}, "de:b": {"en:b": 1}, "en:a": {"de:a": 1}, "en:b": {"de:b": 1}}
    assert len(task.passages) == 5  # a sentence without a translation stays a candidate
    assert task.drops == {"queries without a translation (en)": 1}


def test_different_numbers_of_lines(tmp_path):
    bitext(tmp_path, en=["One.", "Two."], de=["Eins.", "Zwei."], fr=["Un."])
    with pytest.raises(
        DataError, match=r"fr\.txt: has 1 sentences, de\.txt has 2; the n-th lines must be translations"
    ):
        aligned.read_bitext(str(tmp_path))


def test_a_blank_line_does_not_shift_the_rest(tmp_path):
    bitext(tmp_path, en=["One.", "", "Three."], de=["Eins.", "Zwei.", "Drei."])
    with pytest.raises(DataError, match=r"en\.txt:2: is blank, which would shift what follows"):
        aligned.read_bitext(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a one", "must be an id, a tab and a sentence; is 'a one'"),
        ("a\t ", "must be an id, a tab and a sentence"),
        ("\tone", "'id' is '': empty"),
        ("x\tagain", r"id 'x' stands at .*en\.tsv:1 already"),
    ],
)
def test_malformed_tsv(tmp_path, line, message):
    (tmp_path / "de.tsv").write_text("x\tEins.\n")
    (tmp_path / "en.tsv").write_text(f"x\tOne.\n{line}\n")
    with pytest.raises(DataError, match=rf"en\.tsv:2: {message}"):
        aligned.read_bitext(str(tmp_path), files="{lang}.tsv")


def test_wrong_key_of_a_sentence(tmp_path):
    for lang in ("de", "en"):
        write(tmp_path, f"{lang}.jsonl", [{"sentence": "One."}])
    with pytest.raises(DataError, match=r"de\.jsonl:1: no key 'sentences' in the record; did you mean 'sentence'"):
        aligned.read_bitext(str(tmp_path), files="{lang}.jsonl", text="sentences")


def test_ids_that_are_not_shared(tmp_path):
    for lang in ("de", "en"):
        (tmp_path / f"{lang}.tsv").write_text(f"{lang}1\tOne.\n")
    with pytest.raises(DataError, match="no id is there in two files"):
        aligned.read_bitext(str(tmp_path), files="{lang}.tsv")


def test_one_language_is_no_bitext(tmp_path):
    with pytest.raises(DataError, match="has en only; a sentence needs a translation"):
        aligned.read_bitext(str(bitext(tmp_path, en=["One."])))


def test_bitext_without_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"de\.txt: has no sentence"):
        aligned.read_bitext(str(bitext(tmp_path, en=["One."], de=[])))


BENCHMARKS = ["belebele", "bitext", "flores", "mlqa_r", "tatoeba", "xquad_r"]


@pytest.fixture(scope="module")
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"eval=[{','.join(BENCHMARKS)}]", "benchmark_dir=sets"])
    return OmegaConf.to_container(config.eval, resolve=True, throw_on_missing=True)


def test_every_benchmark_composes_and_fits_its_reader(composed):
    assert sorted(composed) == BENCHMARKS
    for name, benchmark in composed.items():
        arguments = dict(benchmark["source"])
        reader = locate(benchmark["source"], name)
        arguments.pop("_target_")
        inspect.signature(reader).bind(**arguments)
        assert arguments["path"].startswith("sets/")
        assert (arguments["hub"] is None) == (arguments["revision"] is None)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("belebele", "data/{}.jsonl"),
        ("flores", "devtest/{}.devtest"),
        ("tatoeba", "tatoeba.deu-eng.{}"),
        ("bitext", "{}.txt"),
    ],
)
def test_benchmarks_read_their_layout(composed, tmp_path, name, file):
    source = dict(composed[name]["source"])
    reader = locate(source, name)
    codes = {"tatoeba": ["deu", "eng"], "bitext": ["de", "en"]}.get(name, list(source["codes"]))
    for code in codes:
        place = tmp_path / file.format(code)
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(ENGLISH[0]) + "\n" if name == "belebele" else "A sentence.\n")
    del source["_target_"]
    task = reader(**source | {"path": str(tmp_path)})
    assert {"de", "en"} <= set(task.languages)
    assert set(task.languages) == set(source["languages"] or ["de", "en"])

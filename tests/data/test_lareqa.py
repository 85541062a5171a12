import json

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clirscale.data import lareqa, sentences
from clirscale.errors import DataError

COUNTS = {
    "ar": 1222, "de": 1276, "el": 1234, "en": 1180, "es": 1215, "hi": 1244,
    "ru": 1219, "th": 852, "tr": 1167, "vi": 1209, "zh": 1196,
}  # fmt: skip


def paragraph(*sentences, **questions):
    """A paragraph of sentences joined by blanks; each question's value is where its answer starts."""
    text, breaks = " ".join(sentences), []
    for sentence in sentences:
        begin = breaks[-1][1] + 1 if breaks else 0
        breaks.append([begin, begin + len(sentence)])
    qas = [
        {"id": name, "question": f"{name}?", "answers": [{"answer_start": start, "text": "x"}]}
        for name, start in questions.items()
    ]
    return {"context": text, "sentence_breaks": breaks, "qas": qas}


def write(folder, lang, *articles):
    content = {"data": [{"title": "t", "paragraphs": list(paragraphs)} for paragraphs in articles], "version": "1.1"}
    (folder / f"{lang}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "en", [paragraph("One is.", "Two is.", a=0, b=8)], [paragraph("Three.", c=2)])
    write(tmp_path, "de", [paragraph("Eins ist. Und zwei.", a=0, b=11)], [paragraph("Drei.", "Vier.", c=6)])
    return tmp_path


def test_every_sentence_is_a_candidate(folder):
    task = lareqa.read(str(folder))
    assert {p.id: (p.lang, p.text) for p in task.passages} == {
        "de_0_0": ("de", "Eins ist. Und zwei."),
        "de_1_0": ("de", "Drei."),
        "de_1_1": ("de", "Vier."),
        "en_0_0": ("en", "One is."),
        "en_0_1": ("en", "Two is."),
        "en_1_0": ("en", "Three."),
    }
    assert task.name == folder.name
    assert task.sources.keys() == {"de.json", "en.json"}


def test_relevance_is_shared_by_the_translations_of_a_question(folder):
    task = lareqa.read(str(folder))
    assert task.qrels["en:b"] == task.qrels["de:b"] == {"en_0_1": 1, "de_0_0": 1}
    assert task.qrels["de:c"] == {"en_1_0": 1, "de_1_1": 1}
    assert {q.id: (q.lang, q.group_id, q.text) for q in task.queries}["de:b"] == ("de", "b", "b?")


@pytest.mark.parametrize(("start", "sentence"), [(0, 0), (6, 0), (8, 1), (14, 1)])
def test_the_answer_is_in_the_sentence_from_its_start_to_before_its_end(tmp_path, start, sentence):
    write(tmp_path, "en", [paragraph("One is.", "Two is.", a=start)])  # [0, 7) and [8, 15)
    assert lareqa.read(str(tmp_path)).qrels == {"en:a": {f"en_0_{sentence}": 1}}


def test_a_question_without_a_sentence_is_left_out_with_a_warning(tmp_path, caplog):
    write(tmp_path, "en", [paragraph("One is.", "Two is.", a=7, b=0, c=99)])
    write(tmp_path, "de", [paragraph("Eins.", "Zwei.", a=0, b=0, c=0)])
    task = lareqa.read(str(tmp_path))
    assert [q.id for q in task.queries if q.lang == "en"] == ["en:b"]
    assert task.qrels["de:a"] == {"de_0_0": 1}
    assert "2 questions left out" in caplog.text
    assert "en.json" in caplog.text


def test_identical_sentences_of_a_paragraph_are_both_relevant(tmp_path):
    write(tmp_path, "en", [paragraph("Yes.", "No.", "Yes.", a=9), paragraph("Yes.", b=0)])
    assert lareqa.read(str(tmp_path)).qrels == {"en:a": {"en_0_0": 1, "en_0_2": 1}, "en:b": {"en_1_0": 1}}


def test_context_appends_the_paragraph(folder):
    texts = {p.id: p.text for p in lareqa.read(str(folder), context=True).passages}
    assert texts["en_0_1"] == "Two is. One is. Two is."


def test_languages_restrict_queries_passages_and_relevance(folder):
    task = lareqa.read(str(folder), languages=["de"])
    assert task.languages == ["de"]
    assert task.qrels["de:a"] == {"de_0_0": 1}


def test_missing_language(folder):
    with pytest.raises(DataError, match=r"has no dee\.json; did you mean 'de'"):
        lareqa.read(str(folder), languages=["en", "dee"])


def test_no_language(folder):
    with pytest.raises(DataError, match="no language is asked for"):
        lareqa.read(str(folder), languages=[])


def test_missing_folder(tmp_path):
    (tmp_path / "xquad_r").mkdir()
    with pytest.raises(DataError, match="no such folder; did you mean 'xquad_r'"):
        lareqa.read(str(tmp_path / "xquad-r"))


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.json file"):
        lareqa.read(str(tmp_path))


def broken(**change):
    content = paragraph("One is.", a=0) | change
    return {key: value for key, value in content.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (broken(sentence_breaks=[[0, 99]]), r"sentence_breaks\[0\]: must be \[start, end\] inside the context of 7"),
        (broken(sentence_breaks=[[0, 3], [5, 5]]), r"sentence_breaks\[1\]: must be"),
        (broken(sentence_breaks=["0-7"]), r"sentence_breaks\[0\]: must be .* is \"0-7\""),
        (broken(context=None), r"paragraphs\[0\]: no 'context'"),
        (broken(qas={}), r"paragraphs\[0\]\.qas: must be of type list, is {}"),
        (broken(qas=[{"id": "a", "question": "?", "answers": []}]), r"qas\[0\]: has 0 answers"),
        (broken(qas=[{"id": "a", "question": "?", "answers": [{}]}]), r"qas\[0\]\.answers\[0\]: no 'answer_start'"),
        (broken(qas=[{"id": "a", "answers": [{"answer_start": 0}]}]), r"qas\[0\]: no 'question'"),
        (broken(qas=[*paragraph("x", a=0)["qas"]] * 2), r"qas\[1\]: question id 'a' occurs twice"),
        ("text", r"paragraphs\[0\]: must be a JSON object with 'context', is a str"),
    ],
)
def test_malformed_content(tmp_path, content, message):
    write(tmp_path, "en", [content])
    with pytest.raises(DataError, match=rf"en\.json: data.*{message}|en\.json: {message}"):
        lareqa.read(str(tmp_path))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"data": [\n{"x": }]}', r"en\.json:2: not JSON"),
        (b"\xff\xfe", r"en\.json: not UTF-8"),
        (b"[]", r"en\.json: must be a JSON object with 'data', is a list"),
        (b"{}", r"en\.json: no 'data'"),
    ],
)
def test_malformed_file(tmp_path, raw, message):
    (tmp_path / "en.json").write_bytes(raw)
    with pytest.raises(DataError, match=message):
        lareqa.read(str(tmp_path))


def test_paragraphs_without_breaks_among_others_that_have_them(tmp_path):
    write(tmp_path, "en", [broken(), broken(sentence_breaks=None, qas=[])])
    with pytest.raises(DataError, match=r"paragraphs\[1\]: no 'sentence_breaks', which other paragraphs have"):
        lareqa.read(str(tmp_path))


def test_several_answers_in_lareqas_format(tmp_path):
    answers = [{"answer_start": 0}, {"answer_start": 4}]
    write(tmp_path, "en", [broken(qas=[{"id": "a", "question": "?", "answers": answers}])])
    with pytest.raises(DataError, match=r"qas\[0\]: has 2 answers; LAReQA's format has exactly one"):
        lareqa.read(str(tmp_path))


@pytest.mark.parametrize("articles", [[], [[]], [[{"context": "One is.", "qas": []}]]])
def test_language_without_questions(folder, articles):
    write(folder, "es", *articles)
    with pytest.raises(DataError, match=r"es\.json: no question with an answer in it; leave 'es' out"):
        lareqa.read(str(folder))


def test_questions_that_are_not_in_every_language(tmp_path):  # MLQA-R
    write(tmp_path, "en", [paragraph("One is.", "Two is.", a=0, b=8)])
    write(tmp_path, "de", [paragraph("Eins.", a=0)])
    write(tmp_path, "es", [paragraph("Dos.", b=0)])
    task = lareqa.read(str(tmp_path))
    assert task.qrels["en:a"] == {"en_0_0": 1, "de_0_0": 1}
    assert task.qrels["es:b"] == {"en_0_1": 1, "es_0_0": 1}
    assert task.drops == {}


PLAIN = [
    {
        "context": "One is. Two is.",
        "qas": [
            {"id": "a", "question": "a?", "answers": [{"answer_start": 9}, {"answer_start": 0}]},
            {"id": "b", "question": "b?", "answers": [{"answer_start": 0}]},
        ],
    }
]


@pytest.mark.parametrize("name", ["en", "xquad.en", "dev-context-en-question-en"])
def test_sets_without_breaks_are_rebuilt_and_say_so(tmp_path, caplog, name):
    write(tmp_path, name, PLAIN)
    write(tmp_path, "dev-context-en-question-de", PLAIN)  # not read: its passages are those of en
    task = lareqa.read(str(tmp_path))
    assert {p.id: p.text for p in task.passages} == {"en_0_0": "One is.", "en_0_1": "Two is."}
    assert task.qrels == {"en:a": {"en_0_1": 1}, "en:b": {"en_0_0": 1}}
    assert task.drops == {"answers after the first of a question (en)": 1}
    assert task.sources["sentences"] == f"rebuilt: {sentences.NAME}"
    assert task.sources.keys() == {f"{name}.json", "sentences"}
    assert "no sentence breaks (en)" in caplog.text
    assert "the candidates differ from LAReQA's" in caplog.text


def test_published_breaks_come_before_sets_without_them(folder, caplog):
    write(folder, "xquad.en", PLAIN)
    task = lareqa.read(str(folder))
    assert task.sources.keys() == {"de.json", "en.json"}
    assert not caplog.text


def parquet(folder, name, rows):
    (folder / name).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name / "validation-00000-of-00001.parquet")


def rows(paragraphs):
    return [
        {
            "id": question["id"],
            "context": content["context"],
            "question": question["question"],
            "answers": {"text": ["x"], "answer_start": [answer["answer_start"] for answer in question["answers"]]},
        }
        for content in paragraphs
        for question in content["qas"]
    ]


@pytest.mark.parametrize("name", ["xquad.en", "mlqa.en.en", "en"])
def test_parquet_gives_what_the_json_does(tmp_path, name):
    more = {"context": "Three is.", "qas": [{"id": "c", "question": "c?", "answers": [{"answer_start": 0}]}]}
    (tmp_path / "json").mkdir()
    write(tmp_path / "json", "en", [*PLAIN, more])
    first, second, third = rows([*PLAIN, more])
    parquet(tmp_path / "parquet", name, [first, third, second])  # the rows of a paragraph need not be neighbours
    found, expected = (lareqa.read(str(tmp_path / kind)) for kind in ("parquet", "json"))
    assert list(found.passages) == list(expected.passages)
    assert found.qrels == expected.qrels
    assert found.drops == expected.drops


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": [], "answer_start": []}}, "row 1: has 0 answers"),
        ({"answers": None}, "row 1.answers: must be of type dict, is null"),
        ({"context": None}, "row 1.context: must be of type str"),
        ({"id": 7}, "row 1.id: must be of type str, is 7"),
    ],
)
def test_malformed_parquet(tmp_path, change, message):
    parquet(tmp_path, "xquad.en", [rows(PLAIN)[0] | change])
    with pytest.raises(DataError, match=rf"validation-00000-of-00001\.parquet: {message}"):
        lareqa.read(str(tmp_path))


def test_missing_part_of_a_parquet_series(tmp_path):
    parquet(tmp_path, "xquad.en", rows(PLAIN))
    file = tmp_path / "xquad.en" / "validation-00000-of-00001.parquet"
    file.rename(file.with_name("validation-00001-of-00002.parquet"))
    with pytest.raises(DataError, match=r"validation-00000-of-00002\.parquet: this part of the series is missing"):
        lareqa.read(str(tmp_path))


def test_the_hub_is_asked_for_the_languages_only(tmp_path, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    parquet(tmp_path / "fetched", "xquad.en", rows(PLAIN))

    def snapshot(repository, **arguments):
        assert (repository, arguments["revision"]) == ("organisation/name", revision)
        assert "xquad.en/validation-*.parquet" in arguments["allow_patterns"]
        assert not any("*" in pattern.split("/")[0] for pattern in arguments["allow_patterns"])
        return str(tmp_path / "fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    task = lareqa.read(str(tmp_path / "xquad_r"), "organisation/name", revision, languages=["en"])
    assert task.name == "xquad_r"
    assert task.sources["revision"] == revision
    assert "xquad.en/validation-00000-of-00001.parquet" in task.sources


def test_a_missing_folder_without_a_hub_says_what_to_place(tmp_path):
    with pytest.raises(DataError, match=r"place these files in it: de\.json, en\.json\."):
        lareqa.read(str(tmp_path / "none"), languages=["de", "en"])


@pytest.mark.shared
def test_published_counts(shared):
    task = lareqa.read(str(shared / "data" / "xquad_r"))
    assert {lang: sum(p.lang == lang for p in task.passages) for lang in task.languages} == COUNTS
    assert {lang: sum(q.lang == lang for q in task.queries) for lang in task.languages} == dict.fromkeys(COUNTS, 1190)
    assert (len(task.queries), len(task.passages)) == (13_090, 13_014)
    language = {p.id: p.lang for p in task.passages}
    for relevant in task.qrels.values():  # one relevant passage in each language
        assert sorted(language[p] for p in relevant) == list(COUNTS)
    assert task.drops == {}
    assert "sentences" not in task.sources

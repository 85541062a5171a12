from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from clirscale.data.cldr import wording
from clirscale.data.cldr.facts import RELATIONS, Fact, Name, facts
from clirscale.data.cldr.names import LANGUAGES
from clirscale.data.cldr.wording import PARTS, read_templates, render, templates
from clirscale.errors import DataError

ENGLISH = Path(wording.__file__).parent / "templates" / "en.yaml"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_file_is_valid(lang: str) -> None:
    assert templates(lang).keys() == RELATIONS.keys()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_two_relations_share_a_template(lang: str) -> None:
    lines = [line for t in templates(lang).values() for line in (*t.train, *t.test, *t.passages)]
    assert len(set(lines)) == len(lines) == len(RELATIONS) * sum(PARTS.values())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_template_has_stray_spaces_or_two_full_stops(lang: str) -> None:
    for relation, t in templates(lang).items():
        for line in (*t.train, *t.test, *t.passages):
            assert line == " ".join(line.split(" ")).strip(), (relation, line)
            assert "  " not in line, (relation, line)
            assert ".." not in line, (relation, line)


def edited(tmp_path: Path, relation: str, part: str, number: int, line: str) -> Path:
    content = yaml.safe_load(ENGLISH.read_text(encoding="utf-8"))
    content[relation][part][number] = line
    path = tmp_path / "xx.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("part", "line", "problem"),
    [
        ("train", "What is it?", r"must name \{territory\} and no other slot"),
        ("train", "Is {currency} the money of {territory}?", "no other slot"),
        ("passages", "{territory} has the {currency}.", r"\{code\}, \{currency\}, \{since\}, \{territory\}"),
        ("test", "What is the money of {teritory}?", "no other slot"),
        ("test", "What is the money of {territory?", "braces are for slots only"),
        ("test", "What is the money of territory}?", "braces are for slots only"),
        ("train", "What is the legal tender of {territory}?", "a template occurs twice"),
    ],
)
def test_a_wrong_template_is_named_with_file_and_relation(tmp_path: Path, part: str, line: str, problem: str) -> None:
    path = edited(tmp_path, "territory_currency", part, 0, line)
    with pytest.raises(DataError, match=rf"xx\.yaml: territory_currency: .*{problem}"):
        read_templates(path)


def test_a_training_question_must_not_return_in_the_task(tmp_path: Path) -> None:
    line = templates("en")["language_script"].train[1]
    with pytest.raises(DataError, match="language_script: a template occurs twice"):
        read_templates(edited(tmp_path, "language_script", "test", 0, line))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.pop("language_code"), "language_code: the section is missing"),
        (lambda content: content.update(langauge_code={}), "did you mean 'language_code'"),
        (lambda content: content["language_code"].pop("test"), "language_code: must have exactly the keys"),
        (lambda content: content["language_code"]["test"].pop(), "language_code: test must be a list of 2 texts"),
        (lambda content: content["language_code"].update(passages="x"), "passages must be a list of 3 texts"),
    ],
)
def test_wrong_sections_are_named(tmp_path: Path, change: object, problem: str) -> None:
    content = yaml.safe_load(ENGLISH.read_text(encoding="utf-8"))
    assert callable(change)
    change(content)
    path = tmp_path / "xx.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(DataError, match=problem):
        read_templates(path)


@pytest.mark.parametrize("text", ["- a list\n", "a: [\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "xx.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"xx\.yaml"):
        read_templates(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"xx\.yaml: cannot be read"):
        read_templates(tmp_path / "xx.yaml")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_rendered_text_is_whole(lang: str) -> None:
    for fact in facts():
        for held_out in (False, True):
            pair = render(fact, lang, held_out=held_out)
            for text in (pair.query, pair.passage):
                assert text.strip() == text != "", fact.group_id
                assert not set("{}") & set(text), fact.group_id


@pytest.mark.parametrize("lang", ["de", "el", "en", "es", "ru", "tr", "vi"])
def test_sentences_begin_with_a_capital(lang: str) -> None:
    for fact in facts():
        for held_out in (False, True):
            pair = render(fact, lang, held_out=held_out)
            for text in (pair.query, pair.passage):
                initial = text.lstrip("¿¡«\"„“'‘ʻ")[0]
                quoted = [value for value in fact.slots.values() if isinstance(value, str)]
                assert not initial.islower() or text.startswith(tuple(quoted)), text


def filled(monkeypatch: pytest.MonkeyPatch, template: str, lang: str, name: Name) -> str:
    fact = Fact("language_script", name.code, {"x": name, "c": "tr"}, frozenset(), frozenset())
    chosen = wording.Templates((template,), (template,), (template,))
    monkeypatch.setattr(wording, "templates", lambda _: {"language_script": chosen})
    return render(fact, lang, held_out=False).query


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{x} is a place.", "The United States is a place."),
        ("In {x} people live.", "In the United States people live."),
        ("A fact. {x} has it.", "A fact. The United States has it."),
        ('"{x}" is a name.', '"The United States" is a name.'),
        ("A place: {x}.", "A place: the United States."),
        ("{c} is a code. {c}!", "tr is a code. tr!"),
    ],
)
def test_names_take_a_capital_where_they_begin_a_sentence(
    monkeypatch: pytest.MonkeyPatch, template: str, expected: str
) -> None:
    assert filled(monkeypatch, template, "en", Name("territory", "US")) == expected


def test_spanish_question_marks_do_not_hide_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled(monkeypatch, "¿{x}?", "es", Name("language", "fr")) == "¿Francés?"

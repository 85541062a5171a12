"""A study small enough to run many times: 60 groups and 24 questions in three languages, a random encoder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clirscale.study.compose import plan

ROOT = Path(__file__).parents[2]
LANGUAGES = ("de", "en", "th")
WORDS = {
    "de": ["Haus", "Baum", "Fluss", "Stadt", "Berg", "Wolke", "Garten", "Straße"],
    "en": ["house", "tree", "river", "town", "mountain", "cloud", "garden", "street"],
    "th": ["บ้าน", "ต้นไม้", "แม่น้ำ", "เมือง", "ภูเขา", "เมฆ", "สวน", "ถนน"],
}


def sentence(lang, number):
    words = WORDS[lang]
    return f"{words[number % 8]} {words[number // 8 % 8]} {words[number // 3 % 8]} {number}."


def write_pairs(path, groups=60):
    with path.open("w", encoding="utf-8") as file:
        for number in range(groups):
            for lang in LANGUAGES:
                record = {
                    "group_id": f"g{number}",
                    "lang": lang,
                    "query": sentence(lang, number)[:-1] + "?",
                    "passage": sentence(lang, number) * 2,
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def write_xquad(folder, paragraphs=6, per_paragraph=4, first=1000):
    folder.mkdir()
    for lang in LANGUAGES:
        content = []
        for paragraph in range(paragraphs):
            numbers = [first + paragraph * per_paragraph + i for i in range(per_paragraph)]
            context, breaks, questions = "", [], []
            for number in numbers:
                start = len(context)
                text = sentence(lang, number)
                context += text + " "
                breaks.append([start, start + len(text)])
                answer = {"answer_start": start, "text": text.split()[0]}
                questions.append({"id": f"q{number}", "question": text[:-1] + "?", "answers": [answer]})
            content.append({"context": context, "qas": questions, "sentence_breaks": breaks})
        (folder / f"{lang}.json").write_text(
            json.dumps({"data": [{"title": "t", "paragraphs": content}]}, ensure_ascii=False), encoding="utf-8"
        )
    return folder


@pytest.fixture
def arguments(tmp_path):
    """Command-line arguments of a small study in ``tmp_path``."""
    return [
        "data=parallel",
        f"data.path={write_pairs(tmp_path / 'pairs.jsonl')}",
        "eval=xquad_r",
        f"eval.xquad_r.path={write_xquad(tmp_path / 'xquad')}",
        "backbone=tiny",
        "trainer=cpu",
        "trainer.progress=false",
        "contrast.batch_size=4",
        "adapt.batch_size=4",
        "budget.contrast=2",
        "budget.adapt=1",
        "logger=csv",
        "study=test",
        f"output_dir={tmp_path / 'multirun'}",
        f"report_dir={tmp_path / 'reports'}",
    ]


@pytest.fixture
def config(arguments):
    """The checked config of one job: ``config("method=mono", "seed=1")``."""

    def compose(*more):
        (job,) = plan([*arguments, *more], ROOT / "conf").jobs
        return job

    return compose


@pytest.fixture
def train(arguments, tmp_path):
    """Run ``python train.py`` as a user does and return the finished process."""

    def run(*more, small=True):
        given = {argument.split("=")[0] for argument in more}
        defaults = [argument for argument in arguments if small and argument.split("=")[0] not in given]
        line = [sys.executable, str(ROOT / "train.py"), *more, *defaults]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "WANDB_MODE": "offline", "COLUMNS": "160"}
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)

    return run

"""What is in a job's fingerprint, and what is not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clirscale.study.identity import identify


def fingerprint(config):
    return identify(config).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        "data.fraction=0.5",
        "data.languages=[de,en]",
        "seed=1",
        "method=mono",
        "method.alpha=0.4",
        "contrast.lr=5e-3",
        "contrast.temperature=0.1",
        "budget.contrast=3",
        "budget=steps",
        "backbone.pooling=cls",
    ],
)
def test_what_changes_the_result_changes_the_fingerprint(config, change):
    assert fingerprint(config()) != fingerprint(config(change))


@pytest.mark.parametrize(
    "change",
    [
        "eval.xquad_r.measures=[P@5]",
        "eval.xquad_r.languages=[de,en]",
        "eval.xquad_r.run_depth=5",
        "search.index=ivf",
        "search.seed=1",
    ],
)
def test_what_changes_an_evaluation_changes_its_fingerprint_and_not_the_job_s(config, change):
    before, after = identify(config()), identify(config(change))
    assert before.fingerprint == after.fingerprint
    assert before.evaluations.keys() == after.evaluations.keys() == {"xquad_r"}
    assert before.evaluations != after.evaluations


def test_another_benchmark_leaves_the_job_and_its_other_evaluations_as_they_are(config):
    before, after = identify(config()), identify(config("eval=[xquad_r,cldr]"))
    assert before.fingerprint == after.fingerprint
    assert after.evaluations.keys() == {"xquad_r", "cldr"}
    assert after.evaluations["xquad_r"] == before.evaluations["xquad_r"]


def test_bm25_depends_on_no_backbone(config):
    line = ["method=bm25", "data.fraction=0.5"]
    assert fingerprint(config(*line)) == fingerprint(config(*line, "backbone.pooling=cls", "seed=3"))
    assert identify(config(*line)).folder.startswith("bm25_")


@pytest.mark.parametrize(
    "change",
    [
        "study=other",
        "output_dir=elsewhere",
        "trainer.threads=1",
        "logger=wandb",
        "references=[]",
        "adapt.lr=1e-3",
        "budget.adapt=7",
    ],
)
def test_what_does_not_change_the_result_does_not(config, change):
    assert fingerprint(config()) == fingerprint(config(change))


def test_the_adaptive_stage_counts_where_it_runs(config):
    assert fingerprint(config("method=dapt")) != fingerprint(config("method=dapt", "adapt.lr=1e-3"))


def test_content_counts_and_path_does_not(config, tmp_path):
    before = config()
    moved = Path(before.data.source["path"]).rename(tmp_path / "moved.jsonl")
    after = replace(before, data=replace(before.data, source={**before.data.source, "path": str(moved)}))
    assert fingerprint(after) == fingerprint(after)
    same = fingerprint(after)
    lines = moved.read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[0])
    record["query"] += " really?"
    lines[0] = json.dumps(record)
    moved.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert fingerprint(after) != same


def test_zero_shot_does_not_depend_on_training(config):
    changes = ["data.fraction=0.5", "contrast.lr=5e-3", "budget.contrast=9"]
    assert fingerprint(config("method=zero_shot")) == fingerprint(config("method=zero_shot", *changes))


def test_folder_names_axes_and_fingerprint(config):
    identity = identify(config("data.fraction=0.25", "seed=0"))
    assert identity.folder == f"hybrid_parallel_f0.25_s0_tiny_{identity.fingerprint}"

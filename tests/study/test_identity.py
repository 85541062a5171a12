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
        "eval.measures=[P@5]",
        "eval.languages=[de,en]",
    ],
)
def test_what_changes_the_result_changes_the_fingerprint(config, change):
    extra = ["objective=cross/P@5"]
    assert fingerprint(config(*extra)) != fingerprint(config(*extra, change))


@pytest.mark.parametrize(
    "change",
    [
        "study=other",
        "output_dir=elsewhere",
        "trainer.threads=1",
        "logger=wandb",
        "reference=false",
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
    assert identity.folder == f"hybrid_parallel_f0.25_s0_tiny_xquad_r_{identity.fingerprint}"

"""Jobs as a user runs them: records, resuming, failures."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from clirscale.errors import ClirscaleError, ConfigError, TrainingError
from clirscale.study.identity import identify
from clirscale.study.job import preflight, read_record, run_job


def folder_of(config):
    return Path(config.output_dir) / config.study / identify(config).folder


def run(config):
    return run_job(config, folder_of(config))


def measured(record):
    return {k: v for k, v in record.items() if k in ("fingerprint", "measures", "counts", "training", "hashes")}


def test_record_of_a_finished_job(config):
    job = config("method=dapt", "data.fraction=0.5")
    record = run(job)
    assert record == json.loads((folder_of(job) / "job.json").read_text(encoding="utf-8"))
    assert record["state"] == "finished"
    assert record["axes"] == {
        "data": "parallel", "fraction": 0.5, "seed": 0, "method": "dapt", "backbone": "tiny", "eval": "xquad_r",
    }  # fmt: skip
    counts = record["counts"]
    assert (counts["groups"], counts["pairs"], counts["languages"]) == (30, 90, {"de": 30, "en": 30, "th": 30})
    assert (counts["contrast_steps"], counts["contrast_pairs"]) == (15, 60)
    assert counts["adapt_steps"] == 8
    assert counts["adapt_tokens"] > 0
    assert (counts["queries"], counts["passages"]) == (72, 72)
    assert set(record["measures"]) == {"mono", "cross", "multi"}
    assert set(record["measures"]["cross"]) == {"P@5", "R@20", "AP", "nDCG@10"}
    assert record["training"].keys() == {
        "mlm_loss_before",
        "mlm_loss_after",
        "contrast_loss_first",
        "contrast_loss_last",
    }
    assert {"load", "adapt", "contrast", "embed", "search", "total"} <= record["timings"].keys()
    assert set(record["hashes"]) == {"data", "eval", "backbone"}
    per_query = pd.read_parquet(folder_of(job) / "per_query.parquet")
    assert per_query.groupby("setting", observed=True).size().to_dict() == {"mono": 72, "cross": 144, "multi": 72}
    metrics = pd.read_csv(folder_of(job) / "metrics.csv")
    assert metrics["contrast/loss"].notna().sum() == 15
    assert metrics["adapt/loss"].notna().sum() == 8


def test_same_seed_gives_the_same_numbers_and_another_seed_does_not(config, tmp_path):
    first = run(config("reference=false"))
    again = run_job(config("reference=false"), tmp_path / "again")
    other = run(config("reference=false", "seed=1"))
    assert measured(first) == measured(again)
    assert first["training"] != other["training"]


def test_arms_see_the_same_groups_and_steps(config):
    counts = []
    for method in ("hybrid", "mono", "cross", "dapt", "dapt_hybrid"):
        record = run(config(f"method={method}", "data.fraction=0.5", "reference=false"))
        counts.append([record["counts"][key] for key in ("groups", "pairs", "contrast_steps", "contrast_pairs")])
    assert counts == [counts[0]] * 5


def test_finished_job_is_not_run_again(config, caplog):
    job = config("reference=false")
    first = run(job)
    stamp = (folder_of(job) / "per_query.parquet").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert run(job) == first
    assert "is finished: not run again" in caplog.text
    assert (folder_of(job) / "per_query.parquet").stat().st_mtime_ns == stamp


def test_reference_is_the_untrained_encoder_and_runs_once(config):
    run(config("data.fraction=0.5"))
    run(config("data.fraction=1.0"))
    (reference,) = Path(config().output_dir).glob("test/zero_shot_*")
    record = read_record(reference)
    assert record["state"] == "finished"
    assert record["counts"]["groups"] == 0
    assert record["axes"]["fraction"] is None


def test_unfinished_job_is_run_again(config):
    job = config("reference=false")
    first = run(job)
    record = {**first, "state": "running", "measures": {}}
    (folder_of(job) / "job.json").write_text(json.dumps(record), encoding="utf-8")
    assert measured(run(job)) == measured(first)


def test_truncated_record_is_no_record(config):
    job = config("reference=false")
    folder_of(job).mkdir(parents=True)
    (folder_of(job) / "job.json").write_text('{"state": "fini', encoding="utf-8")
    assert run(job)["state"] == "finished"


def test_nan_loss_fails_the_job_with_the_step_and_leaves_a_traceback(config):
    job = config("contrast.lr=1e30", "contrast.warmup=0", "reference=false", "budget.contrast=4")
    with pytest.raises(TrainingError, match=r"loss of the contrast stage is nan at step \d+ of 60"):
        run(job)
    record = read_record(folder_of(job))
    assert record["state"] == "failed"
    assert re.match(r"TrainingError: the loss of the contrast stage is nan at step \d+", record["error"])
    assert "Traceback" in (folder_of(job) / "error.txt").read_text(encoding="utf-8")
    assert record["measures"] == {}


def test_leaking_groups_are_dropped_and_counted(config):
    job = config("reference=false")
    pairs, task = Path(job.data.source["path"]), Path(job.eval.source["path"]) / "en.json"
    question = json.loads(task.read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]["qas"][0]["question"]
    lines = pairs.read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        record = json.loads(line)
        if record["group_id"] == "g7" and record["lang"] == "en":
            lines[i] = json.dumps({**record, "query": f"  {question.upper()} "})
    pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = run(job)
    assert record["counts"]["groups"] == 59
    assert record["warnings"] == ["1 of 60 training groups share text or an id with xquad_r: dropped"]


def test_preflight_finds_a_small_language(config):
    job = config("contrast.batch_size=32")
    pairs = Path(job.data.source["path"])
    kept = [line for line in pairs.read_text(encoding="utf-8").splitlines() if '"th"' not in line or '"g1' in line]
    pairs.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"contrast\.batch_size: is 32, but th has 11 pair"):
        preflight(job)


def test_preflight_finds_a_subset_too_small_for_a_batch(config):
    with pytest.raises(TrainingError, match="no language of pairs can fill a batch of 32"):
        preflight(config("data.fraction=0.1", "contrast.batch_size=32"))


@pytest.mark.parametrize("key", ["output_dir", "report_dir"])
def test_preflight_finds_a_folder_that_cannot_be_written(config, tmp_path, key):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=rf"{key}: cannot write to .*file/test"):
        preflight(config(f"{key}={tmp_path / 'file'}"))


def test_record_that_cannot_be_written_is_an_error_that_names_it(config, tmp_path):
    job = config("reference=false")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "job.json").mkdir()
    with pytest.raises((ClirscaleError, IsADirectoryError), match=r"job\.json"):
        run_job(job, tmp_path / "occupied")

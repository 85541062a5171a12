"""Jobs as a user runs them: records, resuming, failures."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_xquad

from clirscale.errors import ClirscaleError, ConfigError, TrainingError
from clirscale.retrieval.evaluate import BIAS
from clirscale.study.identity import identify
from clirscale.study.job import preflight, read_record, run_job


def folder_of(config):
    return Path(config.output_dir) / config.study / identify(config).folder


def run(config):
    return run_job(config, folder_of(config))


def measured(record):
    return {k: v for k, v in record.items() if k in ("fingerprint", "counts", "training", "hashes")} | {
        name: found["measures"] for name, found in record["benchmarks"].items()
    }


def test_record_of_a_finished_job(config):
    job = config("method=dapt", "data.fraction=0.5")
    record = run(job)
    assert record == json.loads((folder_of(job) / "job.json").read_text(encoding="utf-8"))
    assert record["state"] == "finished"
    assert record["axes"] == {
        "data": "parallel", "fraction": 0.5, "seed": 0, "method": "dapt", "backbone": "tiny",
    }  # fmt: skip
    counts = record["counts"]
    assert (counts["groups"], counts["pairs"], counts["languages"]) == (30, 90, {"de": 30, "en": 30, "th": 30})
    assert (counts["contrast_steps"], counts["contrast_pairs"]) == (15, 60)
    assert counts["adapt_steps"] == 8
    assert counts["adapt_tokens"] > 0
    found = record["benchmarks"]["xquad_r"]
    assert found["counts"] == {"queries": 72, "passages": 72}
    assert set(found["measures"]) == {"mono", "cross", "multi"}
    assert set(found["measures"]["cross"]) == {"P@5", "R@20", "AP", "nDCG@10"}
    assert set(found["measures"]["multi"]) == {"P@5", "R@20", "AP", "nDCG@10", *BIAS}
    assert found["search"] == {"index": "exact"}
    assert found["sources"].keys() >= {"de.json", "en.json", "th.json"}
    assert {"embed", "search", "save"} <= found["timings"].keys()
    assert record["training"].keys() == {
        "mlm_loss_before",
        "mlm_loss_after",
        "contrast_loss_first",
        "contrast_loss_last",
    }
    assert {"load", "adapt", "contrast", "total"} <= record["timings"].keys()
    assert set(record["hashes"]) == {"data", "backbone"}
    per_query = pd.read_parquet(folder_of(job) / "xquad_r" / "per_query.parquet")
    assert per_query.groupby("setting", observed=True).size().to_dict() == {"mono": 72, "cross": 144, "multi": 72}
    metrics = pd.read_csv(folder_of(job) / "metrics.csv")
    assert metrics["contrast/loss"].notna().sum() == 15
    assert metrics["adapt/loss"].notna().sum() == 8


def test_same_seed_gives_the_same_numbers_and_another_seed_does_not(config, tmp_path):
    first = run(config("references=[]"))
    again = run_job(config("references=[]"), tmp_path / "again")
    other = run(config("references=[]", "seed=1"))
    assert measured(first) == measured(again)
    assert first["training"] != other["training"]


def test_arms_see_the_same_groups_and_steps(config):
    counts = []
    for method in ("hybrid", "mono", "cross", "dapt", "dapt_hybrid"):
        record = run(config(f"method={method}", "data.fraction=0.5", "references=[]"))
        counts.append([record["counts"][key] for key in ("groups", "pairs", "contrast_steps", "contrast_pairs")])
    assert counts == [counts[0]] * 5


def test_finished_job_is_not_run_again(config, caplog):
    job = config("references=[]")
    first = run(job)
    stamp = (folder_of(job) / "xquad_r" / "per_query.parquet").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert run(job) == first
    assert "is finished: not run again" in caplog.text
    assert (folder_of(job) / "xquad_r" / "per_query.parquet").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["zero_shot", "bm25"])
def test_references_run_once(config, name):
    run(config("data.fraction=0.5"))
    run(config("data.fraction=1.0"))
    (reference,) = Path(config().output_dir).glob(f"test/{name}_*")
    record = read_record(reference)
    assert record["state"] == "finished"
    assert record["counts"]["groups"] == 0
    assert record["axes"]["fraction"] is None
    assert record["benchmarks"]["xquad_r"]["measures"]["mono"]["P@5"] > 0
    assert (record["axes"]["backbone"] is None) == (name == "bm25")


def two_benchmarks(folder):
    other = folder / "other"
    if not other.exists():
        write_xquad(other, paragraphs=3, first=2000)
    return "eval=[xquad_r,mlqa_r]", f"eval.mlqa_r.path={other}"


def test_a_benchmark_is_added_to_a_saved_job_without_training(config, tmp_path):
    two = two_benchmarks(tmp_path)
    first = run(config("references=[]", "save_model=true"))
    more = run(config("references=[]", "save_model=true", *two))
    assert more["benchmarks"]["xquad_r"] == first["benchmarks"]["xquad_r"]
    assert more["timings"]["contrast"] == first["timings"]["contrast"]
    together = run(config("references=[]", "study=together", *two))
    assert together["fingerprint"] == first["fingerprint"]
    assert measured(together) == measured(more)


def test_a_benchmark_is_added_to_an_unsaved_job_by_training_again(config, tmp_path):
    two = two_benchmarks(tmp_path)
    first = run(config("references=[]"))
    more = run(config("references=[]", *two))
    assert more["benchmarks"]["xquad_r"] == first["benchmarks"]["xquad_r"]
    assert more["benchmarks"].keys() == {"xquad_r", "mlqa_r"}
    assert more["training"] == first["training"]
    assert run(config("references=[]")) == more  # the smaller line finds all that it asks for


def test_a_model_is_saved_when_it_is_asked_for_later(config):
    run(config("references=[]"))
    job = config("references=[]", "save_model=true")
    assert run(job)["model"] == "model"
    assert (folder_of(job) / "model" / "model.safetensors").is_file()


def test_unfinished_job_is_run_again(config):
    job = config("references=[]")
    first = run(job)
    record = {**first, "state": "running", "benchmarks": {}}
    (folder_of(job) / "job.json").write_text(json.dumps(record), encoding="utf-8")
    assert measured(run(job)) == measured(first)


def test_truncated_record_is_no_record(config):
    job = config("references=[]")
    folder_of(job).mkdir(parents=True)
    (folder_of(job) / "job.json").write_text('{"state": "fini', encoding="utf-8")
    assert run(job)["state"] == "finished"


def test_nan_loss_fails_the_job_with_the_step_and_leaves_a_traceback(config):
    job = config("contrast.lr=1e30", "contrast.warmup=0", "references=[]", "budget.contrast=4")
    with pytest.raises(TrainingError, match=r"loss of the contrast stage is nan at step \d+ of 60"):
        run(job)
    record = read_record(folder_of(job))
    assert record["state"] == "failed"
    assert re.match(r"TrainingError: the loss of the contrast stage is nan at step \d+", record["error"])
    assert "Traceback" in (folder_of(job) / "error.txt").read_text(encoding="utf-8")
    assert record["benchmarks"] == {}


def test_leaking_groups_are_dropped_and_counted(config):
    job = config("references=[]")
    pairs, task = Path(job.data.source["path"]), Path(job.eval["xquad_r"].source["path"]) / "en.json"
    question = json.loads(task.read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]["qas"][0]["question"]
    lines = pairs.read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        record = json.loads(line)
        if record["group_id"] == "g7" and record["lang"] == "en":
            lines[i] = json.dumps({**record, "query": f"  {question.upper()} "})
    pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = run(job)
    assert record["counts"]["groups"] == 59
    assert record["warnings"] == ["1 of 60 training groups share text or an id with a benchmark: dropped"]
    assert record["leaks"] == {"action": "remove", "groups": 1, "counts": {"en": {"query": 1}}}
    kept = run(config("references=[]", "leaks.action=report"))
    assert kept["counts"]["groups"] == 60
    assert kept["fingerprint"] != record["fingerprint"]
    assert "KEPT" in kept["warnings"][0]
    with pytest.raises(ConfigError, match=r"leaks\.action: is fail, and 1 groups .* group 'g7' by its query"):
        preflight(config("references=[]", "leaks.action=fail"))


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
    job = config("references=[]")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "job.json").mkdir()
    with pytest.raises((ClirscaleError, IsADirectoryError), match=r"job\.json"):
        run_job(job, tmp_path / "occupied")

"""The command line as users type it, in processes of its own."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clirscale import __main__ as command

CONF = Path(__file__).parents[2] / "conf"


def records(folder):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/job.json"))]


def test_help_is_a_page(train):
    page = train("--help", small=False)
    assert page.returncode == 0
    for word in ("data.fraction=", "method=hybrid,dapt", "backbone: labse, local, mini, tiny, xlm_r", "report STUDY"):
        assert word in page.stdout
    assert len(page.stdout.splitlines()) < 60


@pytest.mark.slow
def test_a_sweep_reports_resumes_and_extends(train, tmp_path):
    first = train("-m", "data.fraction=0.5,1.0", "method=hybrid,dapt")
    assert first.returncode == 0, first.stdout + first.stderr
    found = records(tmp_path / "multirun/test")
    assert [r["state"] for r in found] == ["finished"] * 6  # four jobs, the untrained encoder and BM25
    points = pd.read_csv(tmp_path / "reports/test/points.csv")
    assert set(points["method"]) == {"hybrid", "dapt", "zero_shot", "bm25"}
    for row in points.itertuples():  # every number of the report is that of a record
        (record,) = (r for r in found if r["fingerprint"] == row.fingerprint)
        assert record["benchmarks"][row.eval]["measures"][row.setting][row.measure] == pytest.approx(
            row.value, abs=1e-6
        )
    assert "hybrid" in first.stdout
    assert "P@5" in first.stdout
    assert "R@20" in first.stdout
    assert (tmp_path / "reports/test/index.html").stat().st_size > 10_000

    again = train("-m", "data.fraction=0.5,1.0,0.75", "method=hybrid")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("hybrid_parallel_f0.5") >= 1
    assert len(re.findall(r"hybrid_\S+ is finished: not run again", again.stdout)) == 2
    after = records(tmp_path / "multirun/test")
    assert len(after) == 7
    unchanged = {r["fingerprint"]: r["finished"] for r in found}
    assert all(unchanged.get(r["fingerprint"], r["finished"]) == r["finished"] for r in after)


@pytest.mark.slow
def test_a_failed_job_leaves_its_traceback_and_the_others_go_on(train, tmp_path):
    result = train("-m", "contrast.lr=1e30,1e-3", "contrast.warmup=0", "budget.contrast=4", "references=[]")
    assert result.returncode == 1
    states = {r["config"]["contrast"]["lr"]: r for r in records(tmp_path / "multirun/test")}
    assert states[1e30]["state"] == "failed"
    assert re.search(r"contrast stage is nan at step \d+", states[1e30]["error"])
    assert states[1e-3]["state"] == "finished"
    (trace,) = (tmp_path / "multirun/test").glob("*/error.txt")
    assert "TrainingError" in trace.read_text(encoding="utf-8")
    assert "contrast stage is nan" in result.stdout + result.stderr


@pytest.mark.slow
def test_wandb_runs_are_one_a_job_and_offline(train, tmp_path):
    result = train("-m", "method=hybrid,mono", "logger=wandb")
    assert result.returncode == 0, result.stdout + result.stderr
    runs = sorted((tmp_path / "multirun/test").glob("*/wandb/offline-run-*"))
    fingerprints = {r["fingerprint"] for r in records(tmp_path / "multirun/test")}
    assert len(runs) == len(fingerprints) == 4
    assert {run.name.rsplit("-", 1)[1] for run in runs} == fingerprints
    assert "wandb sync" in result.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.fraction=1.5", r"data\.fraction: must be in \(0, 1\], is 1\.5"),
        ("method=hybird", r"method: there is no 'hybird'; did you mean 'hybrid'\?"),
        ("data.path=nowhere.jsonl", r"nowhere\.jsonl"),
        ("eval.xquad_r.path=nowhere", r"nowhere"),
        ("eval=[xquad_r,mlqaR]", r"eval: there is no 'mlqaR'; did you mean 'mlqa_r'"),
        ("eval.xquad_r.measures=[NDCG@10]", r"eval\.xquad_r\.measures: 'NDCG@10'"),
        ("objective=xquad_r/cros/P@5", r"objective: is 'xquad_r/cros/P@5'; did you mean 'xquad_r/cross/P@5'"),
        ("contrast.batch_size=1000", r"no language of pairs can fill a batch of 1000"),
        ("data.languages=[de,xx]", r"data\.languages: no pair in 'xx'"),
    ],
)
def test_bad_input_stops_before_any_job(train, tmp_path, argument, message):
    result = train(argument)
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("multirun/test/*/job.json"))


def test_malformed_line_is_named(train, tmp_path):
    lines = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    lines[6] = lines[6][:-5]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = train()
    assert result.returncode == 2
    assert "pairs.jsonl:7:" in result.stderr.replace("\n", "")


def test_report_of_an_unknown_study_is_an_error(tmp_path, capsys):
    assert command.main(["report", "nothing", "--output-dir", str(tmp_path)]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_training_beats_the_untrained_encoder(train, tmp_path):
    """Real text, the pretrained default encoder: R@20 across languages rises by 0.1 at the very least."""
    shutil.rmtree(tmp_path / "multirun", ignore_errors=True)
    line = ["data.fraction=0.3", "budget.contrast=2", "references=[zero_shot]"]
    line += ["logger=csv", "trainer=cpu", "trainer.progress=false"]
    result = train(*line, small=False)
    assert result.returncode == 0, result.stdout + result.stderr
    by_method = {r["axes"]["method"]: r["benchmarks"]["cldr"]["measures"] for r in records(tmp_path / "multirun/main")}
    for setting in ("mono", "cross"):
        gain = by_method["hybrid"][setting]["R@20"] - by_method["zero_shot"][setting]["R@20"]
        assert gain > 0.1, f"{setting}: {by_method}"

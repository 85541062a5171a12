"""Records are read as they are: what is missing stays missing, what is malformed is named."""

import json

import pytest
from simulated_study import SimulatedStudy

from clirscale.analysis.records import load_study
from clirscale.errors import DataError


@pytest.fixture
def study(tmp_path):
    return SimulatedStudy(tmp_path / "study", n_groups=5, languages=("de", "en"))


def edit(folder, **changes):
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_jobs_are_listed_by_state(study):
    study.job("hybrid", 1.0)
    study.job("dapt", 1.0, state="failed", error="TrainingError: the loss\nis not finite")
    study.job("mono", 1.0, state="running")
    found = load_study(study.folder)
    assert [job.method for job in found.finished] == ["hybrid"]
    assert [(job.method, job.error) for job in found.failed] == [("dapt", "TrainingError: the loss is not finite")]
    assert [job.method for job in found.running] == ["mono"]
    assert found.name == "study"
    assert len(found.jobs) == 3


def test_axes_and_counts_of_a_trained_and_an_untrained_job(study):
    study.job("hybrid", 0.25, seed=3)
    study.job("zero_shot")
    hybrid, untrained = load_study(study.folder).finished
    assert (hybrid.method, hybrid.fraction, hybrid.seed, hybrid.groups) == ("hybrid", 0.25, 3, 600)
    assert (untrained.method, untrained.fraction, untrained.seed, untrained.groups) == ("zero_shot", None, None, 0)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_measure_is_missing_and_never_zero(study, value):
    folder = study.job("hybrid", 1.0)
    edit(folder, benchmarks={"xquad_r": {"measures": {"mono": {"P@5": value, "R@20": 0.0}, "cross": {}}}})
    (job,) = load_study(study.folder).results
    assert job.measures == {("mono", "R@20"): 0.0}


def test_folders_without_a_record_are_no_jobs(study):
    study.job("hybrid", 1.0)
    (study.folder / ".submitit").mkdir()
    (study.folder / "multirun.yaml").touch()
    assert len(load_study(study.folder).jobs) == 1


def test_no_record_at_all(tmp_path):
    with pytest.raises(DataError, match=r"no \*/job\.json"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema": 1}, "schema is 1"),
        ({"state": "done"}, "state is 'done'"),
        ({"fingerprint": None}, "fingerprint is missing"),
        ({"axes": {"data": "cldr"}}, "axes.fraction is missing"),
        ({"axes": []}, "axes is not a JSON object"),
        ({"counts": {}}, "counts.groups is None"),
        ({"benchmarks": {"b": {"measures": {"mono": {"P@5": "0.3"}}}}}, "benchmarks.b.measures.mono.P@5 is '0.3'"),
        ({"benchmarks": {"b": {"measures": {"mono": 0.3}}}}, "benchmarks.b.measures.mono is not a JSON object"),
    ],
)
def test_a_malformed_record_is_named(study, changes, problem):
    folder = study.job("hybrid", 1.0)
    edit(folder, **changes)
    with pytest.raises(DataError) as caught:
        load_study(study.folder)
    assert str(folder / "job.json") in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", b"\xff"])
def test_a_file_that_is_no_record_is_named(study, content):
    path = study.job("hybrid", 1.0) / "job.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=str(path)):
        load_study(study.folder)


def test_a_failed_job_needs_no_counts(study):
    folder = study.job("hybrid", 1.0, state="failed")
    edit(folder, counts={}, benchmarks={})
    assert len(load_study(study.folder).failed) == 1


def test_a_job_on_several_benchmarks_gives_a_result_for_each(study):
    study.job("hybrid", 1.0, benchmarks=("cldr", "xquad_r"))
    found = load_study(study.folder)
    assert len(found.finished) == 1
    assert [job.axes["eval"] for job in found.results] == ["cldr", "xquad_r"]
    assert found.finished[0].axes["eval"] == "cldr, xquad_r"
    cldr, xquad_r = found.results
    assert cldr.scores == study.folder / cldr.name / "cldr" / "per_query.parquet"
    assert cldr.timings["embed"] == xquad_r.timings["embed"] == 41.0
    assert found.finished[0].measures == {}


def test_what_a_job_measured_before_it_failed_counts(study):
    folder = study.job("hybrid", 1.0)
    edit(folder, state="failed")
    found = load_study(study.folder)
    assert (len(found.finished), len(found.failed), len(found.results)) == (0, 1, 1)

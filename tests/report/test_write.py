"""The report as files: complete, self-contained, reproducible, safe."""

import csv
import html.parser
import json
import re
from urllib.parse import unquote

import pytest
from conftest import HOSTILE
from simulated_study import SimulatedStudy

from clirscale.errors import ClirscaleError, DataError
from clirscale.report import write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Collects elements and text, and fails on tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def main_report(main_study, tmp_path_factory):
    return write_report(main_study, tmp_path_factory.mktemp("report") / "main")


@pytest.fixture(scope="session")
def seeds_report(seeds_study, tmp_path_factory):
    return write_report(seeds_study, tmp_path_factory.mktemp("report") / "seeds")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files(main_report, main_study):
    folder = main_report.index.parent
    assert set(contents(folder)) == {
        "index.html",
        "points.csv",
        *(f"figures/{name}.{ending}" for name in ("scores", "rank_distance") for ending in ("svg", "png")),
        *(f"records/{job.name}.json" for job in main_study.iterdir()),
    }
    assert main_report.points == folder / "points.csv"
    assert len(main_report.figures) == 4
    assert all(path.exists() for path in (*main_report.figures, *main_report.records))


def test_two_runs_are_byte_identical(main_study, main_report, tmp_path):
    again = write_report(main_study, tmp_path / "again")
    first, second = contents(main_report.index.parent), contents(again.index.parent)
    assert [name for name in first if first[name] != second[name]] == []
    assert first.keys() == second.keys()


@pytest.mark.parametrize("report", ["main_report", "seeds_report"])
def test_page_is_well_formed_and_needs_no_network(report, request):
    page = Page(request.getfixturevalue(report).index)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not [tag for tag, _ in page.elements if tag in ("script", "link", "img", "iframe")]
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    for attributes in page.all("a"):
        target = attributes["href"]
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert (request.getfixturevalue(report).index.parent / unquote(target)).is_file()
    text = request.getfixturevalue(report).index.read_text(encoding="utf-8")
    assert not re.findall(r"url\((?!#)|@import", text)
    references = re.findall(r"url\(#([^)]*)\)|xlink:href=\"#([^\"]*)\"", text)
    assert references
    assert {a or b for a, b in references} <= set(ids)


def test_page_shows_every_section(main_report):
    page = Page(main_report.index)
    assert len([a for a in page.all("svg") if a.get("role") == "img"]) == 7
    for heading in ("Summary", "Results", "Differences", "Language bias", "Cost", "Limits of this study", "Provenance"):
        assert heading in page.words
    assert "How does hybrid batch training scale with the size of the training set" in page.words
    assert "python train.py -m data.fraction=0.1,0.25,0.5,1.0 method=hybrid,dapt" in page.words
    assert "3.412 → 2.713" in page.words
    assert "contrast.lr 2e-4" in page.words
    assert "data.fraction" not in page.words.split("Configuration that all jobs share")[1]
    assert "e" * 64 in page.words
    assert "9 finished" in page.words
    assert "over queries only, as there is one seed" in page.words


def test_text_of_records_is_escaped(seeds_report):
    assert "<script" not in seeds_report.index.read_text(encoding="utf-8")
    words = Page(seeds_report.index).words
    assert words.count(HOSTILE) == 3  # error, command, warning


def test_failures_and_warnings_are_listed(seeds_report):
    words = Page(seeds_report.index).words
    failures = words.split("Failures and warnings")[-1].split("Limits of this study")[0]
    assert "dapt, 100%, seed 3, mini, xquad_r : TrainingError" in failures
    assert "hybrid, 100%, seed 3, mini, xquad_r" in failures
    assert "12 of 240 training groups dropped hybrid, 10%, seed 3" in failures
    assert "20 finished, 1 failed, 1 not finished" in words


def test_points_are_tidy(main_study, main_report):
    with main_report.points.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 10  # jobs × (3 measures in 3 settings, rank distance in one)
    records = {p.parent.name: json.loads(p.read_text()) for p in main_study.glob("*/job.json")}
    for row in rows:
        record = records[row["job"]]
        assert row["fingerprint"] == record["fingerprint"]
        assert float(row["value"]) == pytest.approx(
            record["benchmarks"]["xquad_r"]["measures"][row["setting"]][row["measure"]], abs=1e-6
        )
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        assert row["covers"] == "queries"
        assert row["seed"] == ("" if row["method"] == "zero_shot" else "0")
    assert len({(row["job"], row["setting"], row["measure"]) for row in rows}) == len(rows)


def test_records_are_copies(main_study, main_report):
    for path in main_report.records:
        assert path.read_bytes() == (main_study / path.stem / "job.json").read_bytes()


def test_figures_for_print(main_report):
    svg, png = (next(p for p in main_report.figures if p.name == f"scores.{ending}") for ending in ("svg", "png"))
    text = svg.read_text(encoding="utf-8")
    for words in ("P@5, monolingual", "R@20, multilingual", "hybrid", "dapt", "zero_shot", "2,400"):
        assert f">{words}<" in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_what_is_no_longer_part_of_the_report_is_removed(main_study, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "gone.json").touch()
    (tmp_path / "notes.txt").touch()
    write_report(main_study, tmp_path)
    assert not (tmp_path / "records" / "gone.json").exists()
    assert (tmp_path / "notes.txt").exists()
    assert not list(tmp_path.rglob(".*"))  # no partial file


def test_folder_that_cannot_be_written_is_named(main_study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClirscaleError, match=str(tmp_path / "file" / "report")):
        write_report(main_study, tmp_path / "file" / "report")


def test_malformed_input_leaves_the_old_report(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=4, languages=("de", "en"))
    job = study.job("hybrid", 1.0)
    before = contents(write_report(study.folder, tmp_path / "out").index.parent)
    (job / "xquad_r" / "per_query.parquet").unlink()
    with pytest.raises(DataError, match=r"per_query\.parquet"):
        write_report(study.folder, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_scores_that_contradict_the_record_are_reported(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=4, languages=("de", "en"))
    study.job("hybrid", 1.0, measures={"mono": {"P@5": 0.987}})
    words = Page(write_report(study.folder, tmp_path / "out").index).words
    assert "job.json and per_query.parquet differ in P@5 mono: 0.987 and 0." in words


@pytest.mark.parametrize("state", ["failed", "running"])
def test_study_without_a_finished_job(tmp_path, state):
    study = SimulatedStudy(tmp_path / "study")
    study.job("hybrid", 1.0, state=state, error="DataError: no such file" if state == "failed" else None)
    page = Page(write_report(study.folder, tmp_path / "out").index)
    assert "No job has finished" in page.words
    assert "hybrid, 100%, seed 0, mini, xquad_r" in page.words


def test_reference_alone(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=4, languages=("de", "en"))
    study.job("zero_shot")
    report = write_report(study.folder, tmp_path / "out")
    assert "No trained job has finished" in Page(report.index).words
    assert len(report.figures) == 4


def test_two_backbones_are_reported_apart(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=4, languages=("de", "en"))
    for backbone in ("mini", "xlmr"):
        study.job("zero_shot", config={"backbone.name": backbone})
        for method in ("hybrid", "dapt"):
            study.job(method, 1.0, config={"backbone.name": backbone})
    report = write_report(study.folder, tmp_path / "out")
    assert "Results: backbone=xlmr" in Page(report.index).words
    assert {p.name for p in report.figures if p.suffix == ".svg"} == {
        f"{kind}_backbone-{backbone}.svg" for kind in ("scores", "rank_distance") for backbone in ("mini", "xlmr")
    }


def test_one_language_has_monolingual_scores_only(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=4, languages=("en",))
    study.job("hybrid", 1.0)
    page = Page(write_report(study.folder, tmp_path / "out").index)
    assert "P@5, cross-lingual" not in page.words
    assert "P@5, monolingual" in page.words


def test_what_the_evaluation_left_out_and_approximate_search_are_shown(tmp_path):
    study = SimulatedStudy(tmp_path / "study", n_groups=8)
    folder = study.job("hybrid", 1.0)
    record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    record["benchmarks"]["xquad_r"] |= {
        "drops": {"questions whose answer begins in no sentence (th)": 3},
        "search": {"index": "ivf", "recall": 0.973, "recall_sample": 200},
    }
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    words = Page(write_report(study.folder, tmp_path / "out").index).words
    assert "xquad_r: questions whose answer begins in no sentence (th): 3" in words
    assert "approximate search by ivf, which found 97.3% of the top of exact search on 200 queries" in words

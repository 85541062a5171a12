"""Writes a study's report: page, figures, tidy scores and copies of the records."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clirscale.analysis.bootstrap import Bootstrap
from clirscale.analysis.curves import Arrangement, Comparison, arrange
from clirscale.analysis.records import SETTINGS, Job, Study, load_study
from clirscale.errors import ClirscaleError
from clirscale.report import figures, page, style
from clirscale.report.page import Bootstraps
from clirscale.report.words import RANK_DISTANCE, main_measures

AXES = ("data", "backbone", "eval")
COLUMNS = ("study", "job", "fingerprint", *AXES, "curve", "method", "fraction", "groups", "seed")
SCORE_COLUMNS = ("setting", "measure", "value", "low", "high", "level", "covers")


@dataclass(frozen=True)
class ReportFiles:
    """What was written.

    Attributes:
        index: the page.
        points: scores of every job, one row per setting and measure.
        figures: each figure as SVG and as PNG.
        records: a copy of every job's record.
    """

    index: Path
    points: Path
    figures: tuple[Path, ...]
    records: tuple[Path, ...]


def write_report(study_dir: Path, out_dir: Path) -> ReportFiles:
    """Write the report of a study from its records and per-query scores.

    The same records give the same bytes. Files are replaced one by one, each in one go, the page last; figures and
    records of an earlier report that are no longer part of it are removed.

    Args:
        study_dir: the folder with a folder per job.
        out_dir: where the report goes; made if it is not there.

    Raises:
        DataError: a record or the scores of a finished job are missing or malformed.
        ClirscaleError: ``out_dir`` cannot be written.
    """
    study = load_study(study_dir)
    arrangement = arrange(study)
    bootstraps = _bootstraps(arrangement)
    styles = style.assign(arrangement)
    names = _figure_names(arrangement)

    contents: dict[str, bytes] = {}
    drawn = {}
    for comparison in arrangement.comparisons:
        bootstrap = bootstraps[comparison.evaluation]
        for kind, measures in (("scores", main_measures(bootstrap.measures)), ("rank_distance", [RANK_DISTANCE])):
            panels = figures.panels(comparison, bootstrap, measures, styles)
            if panels:
                stem = f"figures/{kind}{names[comparison]}"
                contents[f"{stem}.svg"], contents[f"{stem}.png"] = figures.combined(panels, min(3, len(panels)))
                drawn[comparison] = names[comparison]
    for job in study.jobs:
        contents[f"records/{job.name}.json"] = (job.folder / "job.json").read_bytes()
    contents["points.csv"] = _points(study, arrangement, bootstraps).encode()
    contents["index.html"] = page.render(study, arrangement, bootstraps, styles, drawn).encode()

    _replace(out_dir, contents)
    return ReportFiles(
        index=out_dir / "index.html",
        points=out_dir / "points.csv",
        figures=tuple(out_dir / name for name in contents if name.startswith("figures/")),
        records=tuple(out_dir / name for name in contents if name.startswith("records/")),
    )


def _bootstraps(arrangement: Arrangement) -> Bootstraps:
    """Score all jobs of an evaluation on the same resamples."""
    evaluations = dict.fromkeys(comparison.evaluation for comparison in arrangement.comparisons)
    return {
        evaluation: Bootstrap(
            dict.fromkeys(job for c in arrangement.comparisons if c.evaluation == evaluation for job in c.jobs)
        )
        for evaluation in evaluations
    }


def _figure_names(arrangement: Arrangement) -> Mapping[Comparison, str]:
    """Return what is added to the file names of each comparison's figures: nothing if there is one comparison."""
    names: dict[Comparison, str] = {}
    for comparison in arrangement.comparisons:
        words = re.findall(r"[\w.-]+", comparison.title.replace("=", "-"), flags=re.ASCII)
        name = "_".join(["", *words])
        names[comparison] = f"{name}_{len(names)}" if name in names.values() else name
    return names


def _points(study: Study, arrangement: Arrangement, bootstraps: Bootstraps) -> str:
    """Return a CSV with one row per job, setting and measure; intervals cover the queries."""
    rows = []
    written: set[Job] = set()  # a reference can belong to several comparisons
    for comparison in arrangement.comparisons:
        bootstrap = bootstraps[comparison.evaluation]
        for curve in comparison.references + comparison.curves:
            for job in (job for job in curve.jobs if job not in written):
                written.add(job)
                axes = [job.axes[axis] for axis in AXES]
                about = [study.name, job.name, job.fingerprint, *axes]
                about += [curve.label, job.method, job.fraction, job.groups, job.seed]
                for setting in SETTINGS:
                    for measure in bootstrap.measures:
                        estimate = bootstrap.job(job, setting, measure)
                        if estimate is not None:
                            ends = (estimate.value, estimate.low, estimate.high)
                            scores = [f"{value:.6f}" for value in ends]
                            rows.append([*about, setting, measure, *scores, bootstrap.level, estimate.covers])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS + SCORE_COLUMNS)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return buffer.getvalue()


def _replace(out_dir: Path, contents: Mapping[str, bytes]) -> None:
    try:
        for name, content in contents.items():
            path = out_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                part.write_bytes(content)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        for pattern in ("figures/*.svg", "figures/*.png", "records/*.json"):
            for path in out_dir.glob(pattern):
                if path.relative_to(out_dir).as_posix() not in contents:
                    path.unlink()
    except OSError as error:
        raise ClirscaleError(
            f"{out_dir}: cannot write the report there ({error}); free it or choose another folder"
        ) from error

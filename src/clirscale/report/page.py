"""The page: gathers what is shown and renders the template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2

from clirscale.analysis.bootstrap import Bootstrap
from clirscale.analysis.curves import Arrangement, Comparison, Curve, flatten, format_value
from clirscale.analysis.records import SETTINGS, Job, Study
from clirscale.report import figures, tables
from clirscale.report.head_to_head import Duel, duels
from clirscale.report.limits import limits
from clirscale.report.style import Key, Style, key
from clirscale.report.summary import Summary, question, recipe, summarise
from clirscale.report.tables import Table
from clirscale.report.words import (
    ABSENT,
    BIAS,
    RANK_DISTANCE,
    count,
    duration,
    listed,
    main_measures,
    percent,
)

Bootstraps = Mapping[tuple[str, str], Bootstrap]
TOLERANCE = 1e-6  # of what per-query scores give against what the record says


@dataclass(frozen=True)
class Block:
    """What the page shows of one comparison."""

    title: str
    summary: Summary
    legend: list[tuple[str, Style]]
    panels: list[str]
    covers: str
    scores: list[Table]
    other_scores: list[Table]
    differences: list[Table]
    gains: list[Table]
    duels: list[Duel]
    bias_panels: list[str]
    bias: list[Table]
    cost: Table | None
    figure: str | None

    @property
    def n_differences(self) -> int:
        """Number of differences between methods in the tables."""
        shown = [table for table in (*self.differences, *self.bias) if table.heading == "Difference"]
        return sum(bool(cell.emphasis) for t in shown for group in t.groups for row in group.rows for cell in row)


def render(
    study: Study,
    arrangement: Arrangement,
    bootstraps: Bootstraps,
    styles: Mapping[Key, Style],
    figure_names: Mapping[Comparison, str],
) -> str:
    """Return the page.

    Args:
        study: the records.
        arrangement: their curves.
        bootstraps: of each evaluation.
        styles: of each curve.
        figure_names: file name of the figure of each comparison, without ending.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clirscale.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["swatch"] = figures.swatch
    blocks = [
        _block(comparison, bootstraps[comparison.evaluation], styles, figure_names.get(comparison), f"c{i}")
        for i, comparison in enumerate(arrangement.comparisons)
    ]
    bootstrap = next(iter(bootstraps.values()), None)
    return environment.get_template("report.html.j2").render(
        css=files("clirscale.report").joinpath("templates/report.css").read_text(encoding="utf-8"),
        study=study,
        question=question(study),
        facts=_facts(study),
        blocks=blocks,
        limits=limits(
            study, arrangement, bootstrap.level if bootstrap else 0.0, sum(block.n_differences for block in blocks)
        ),
        methods=_methods(arrangement, styles),
        measures=bootstrap.measures if bootstrap else (),
        bootstrap=bootstrap,
        failed=[(job, _axes(job)) for job in study.failed],
        running=[(job, _axes(job)) for job in study.running],
        superseded=arrangement.superseded,
        warnings=_warnings(study, bootstraps, arrangement),
        drops=_drops(study),
        searches=_searches(study),
        commands=list(dict.fromkeys(str(job.record.get("command") or "") for job in study.jobs)),
        versions=_shared(study.jobs, "versions"),
        hashes=_hashes(study),
        common=_common_config(study),
        jobs=[_job_row(job) for job in sorted(study.jobs, key=lambda job: job.name)],
    )


def _block(
    comparison: Comparison, bootstrap: Bootstrap, styles: Mapping[Key, Style], figure: str | None, salt: str
) -> Block:
    main = main_measures(bootstrap.measures)
    others = [name for name in bootstrap.measures if name not in main and name not in BIAS]

    def drawn(measures: Sequence[str], name: str) -> list[str]:
        shown = figures.panels(comparison, bootstrap, measures, styles)
        return [figures.panel_svg(panel, f"{salt}-{name}-{i}") for i, panel in enumerate(shown)]

    def present(made: Sequence[Table | None]) -> list[Table]:
        return [table for table in made if table is not None]

    bias = [tables.scores(comparison, bootstrap, name, styles) for name in BIAS]
    bias += [tables.differences(comparison, bootstrap, name) for name in (RANK_DISTANCE, "AP_other")]
    return Block(
        title=comparison.title,
        summary=summarise(comparison, bootstrap),
        legend=[(curve.label, styles[key(curve)]) for curve in comparison.curves + comparison.references],
        panels=drawn(main, "scores"),
        covers=_covers(comparison, bootstrap),
        scores=present([tables.scores(comparison, bootstrap, m, styles) for m in main]),
        other_scores=present([tables.scores(comparison, bootstrap, m, styles) for m in others]),
        differences=present([tables.differences(comparison, bootstrap, m) for m in main]),
        gains=present([tables.gains(comparison, bootstrap, m, styles) for m in main]),
        duels=duels(comparison, bootstrap, main),
        bias_panels=drawn([RANK_DISTANCE], "bias"),
        bias=present(bias),
        cost=tables.cost(comparison, styles),
        figure=figure,
    )


def _covers(comparison: Comparison, bootstrap: Bootstrap) -> str:
    """Return what the bands cover."""
    covered = {
        estimate.covers
        for curve in comparison.curves
        for point in curve.points
        for setting in SETTINGS
        for measure in main_measures(bootstrap.measures)
        if (estimate := bootstrap.point(point, setting, measure)) is not None
    }
    if covered == {"queries"}:
        return "over queries only, as there is one seed"
    return "over seeds and queries" + (", over queries only where there is one seed" if "queries" in covered else "")


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return what was run on what, in a line each."""
    done = study.finished
    trained = [job for job in study.jobs if job.fraction is not None]
    state = [f"{len(done)} finished"]
    state += [f"{len(study.failed)} failed"] if study.failed else []
    state += [f"{len(study.running)} not finished"] if study.running else []
    facts = [("Jobs", ", ".join(state))]
    pools = defaultdict(list)
    for job in done:
        if job.fraction is not None:
            pools[str(job.axes["data"])].append(job)
    if pools:
        facts.append(("Training data", "; ".join(_pool(name, jobs) for name, jobs in sorted(pools.items()))))
    for label, axis in (("Backbone", "backbone"), ("Evaluation", "eval")):
        names = sorted({str(job.axes[axis]) for job in study.results if job.axes[axis] is not None})
        if axis == "eval":
            names = [_task(name, study.results) for name in names]
        facts.append((label, listed(names)))
    if trained:
        fractions = sorted({job.fraction for job in trained if job.fraction is not None})
        facts.append(("Sizes", listed([percent(fraction) for fraction in fractions])))
        facts.append(
            ("Seeds", listed([str(seed) for seed in sorted({job.seed for job in trained if job.seed is not None})]))
        )
    started = sorted(job.started for job in study.jobs if job.started)
    ended = sorted(str(job.record["finished"]) for job in study.jobs if job.record.get("finished"))
    if started and ended:
        facts.append(("Run", f"{_moment(started[0])} to {_moment(ended[-1])}"))
    return facts


def _pool(name: str, jobs: Sequence[Job]) -> str:
    largest = max(jobs, key=lambda job: job.groups)
    languages = largest.counts.get("languages") or {}
    sizes = f"up to {count(largest.groups)} parallel groups, {count(largest.counts.get('pairs'))} pairs"
    return f"{name}: {sizes}" + (
        f" in {len(languages)} languages ({', '.join(map(str, languages))})" if languages else ""
    )


def _task(name: str, jobs: Sequence[Job]) -> str:
    counts = next((job.counts for job in jobs if str(job.axes["eval"]) == name and job.counts.get("queries")), None)
    return f"{name}: {count(counts['queries'])} queries, {count(counts.get('passages'))} passages" if counts else name


def _moment(iso: str) -> str:
    return iso[:16].replace("T", " ") + (" UTC" if iso.endswith(("+00:00", "Z")) else iso[19:])


def _methods(arrangement: Arrangement, styles: Mapping[Key, Style]) -> list[tuple[str, Style, str]]:
    found: dict[Key, Curve] = {}
    for comparison in arrangement.comparisons:
        for curve in comparison.curves + comparison.references:
            found.setdefault(key(curve), curve)
    return [(curve.label, styles[name], recipe(curve)) for name, curve in found.items()]


def _axes(job: Job) -> str:
    parts = [job.method] + ([percent(job.fraction)] if job.fraction is not None else [])
    parts += [f"seed {job.seed}"] if job.seed is not None else []
    parts += [str(job.axes["backbone"])] if job.axes["backbone"] is not None else []
    return ", ".join([*parts, *([job.axes["eval"]] if job.axes["eval"] else [])])


def _warnings(study: Study, bootstraps: Bootstraps, arrangement: Arrangement) -> list[tuple[str, list[str]]]:
    """Return each warning with the jobs that gave it, and what is inconsistent between records and scores."""
    found: dict[str, list[str]] = defaultdict(list)
    for job in study.jobs:
        for line in dict.fromkeys(job.warnings):
            found[line].append(_axes(job))
    for comparison in arrangement.comparisons:
        bootstrap = bootstraps[comparison.evaluation]
        for job in comparison.jobs:
            for (setting, measure), value in job.measures.items():
                scored = bootstrap.job(job, setting, measure)
                if scored is not None and abs(scored.value - value) > TOLERANCE * max(1.0, abs(value)):
                    shown = " and ".join(f"{v:.6g}" for v in (value, scored.value))
                    line = f"job.json and per_query.parquet differ in {measure} {setting}: {shown}"
                    found[f"{line}; the report shows the latter"].append(_axes(job))
        for curve in comparison.curves:
            if len({job.hashes.get("data") for job in curve.jobs}) > 1:
                found[f"the jobs of {curve.label} were trained on data with different content"].append(curve.label)
    return sorted(found.items())


def _drops(study: Study) -> list[tuple[str, str, str]]:
    """Return what each benchmark was evaluated without, in words, with the count."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for job in study.results:
        for what, n in (job.result.get("drops") or {}).items():
            found[str(job.benchmark), str(what)].add(int(n))
    return [(name, what, " or ".join(map(count, sorted(ns)))) for (name, what), ns in sorted(found.items())]


def _searches(study: Study) -> list[str]:
    """Return a line for each approximate search, with its recall."""
    lines = {
        f"{_axes(job)}: approximate search by {how['index']}, which found {percent(how.get('recall', 0.0))} of the top "
        f"of exact search on {count(how.get('recall_sample'))} queries"
        for job in study.results
        if (how := job.result.get("search") or {}).get("index", "exact") != "exact"
    }
    return sorted(lines)


def _shared(jobs: Sequence[Job], section: str) -> list[tuple[str, str]]:
    """Return the values of a section, all of them where jobs differ."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for job in jobs:
        for name, value in getattr(job, section).items():
            found[str(name)][str(value)] = None
    return [(name, ", ".join(sorted(values))) for name, values in found.items()]


def _hashes(study: Study) -> list[tuple[str, str]]:
    found = {
        (kind, str(job.axes[kind]), str(job.hashes[kind]))
        for job in (*study.jobs, *study.results)
        for kind in ("data", "eval", "backbone")
        if job.hashes.get(kind)
    }
    return [(f"{kind} {name}", digest) for kind, name, digest in sorted(found)]


def _common_config(study: Study) -> list[tuple[str, str]]:
    """Return the config keys that all jobs have with the same value."""
    flat = [flatten(job.config) for job in study.jobs]
    return [
        (name, format_value(value))
        for name, value in sorted(flat[0].items())
        if all(name in other and other[name] == value for other in flat)
    ]


def _job_row(job: Job) -> dict[str, Any]:
    return {
        "href": f"records/{quote(job.name)}.json",
        "fingerprint": job.fingerprint,
        "state": {"running": "not finished"}.get(job.state, job.state),
        "method": job.method,
        "share": ABSENT if job.fraction is None else percent(job.fraction),
        "seed": ABSENT if job.seed is None else str(job.seed),
        "backbone": ABSENT if job.axes["backbone"] is None else str(job.axes["backbone"]),
        "eval": job.axes["eval"] or ABSENT,
        "time": duration(job.timings.get("total")),
    }

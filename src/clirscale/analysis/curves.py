"""Which jobs make up a curve, which curves can be compared, and what they are called.

A *curve* is all jobs that are equal in config up to ``data.fraction`` and ``seed``; its *points* are the fractions,
with one job per seed. Curves with the same data, backbone and evaluation form a *comparison*, together with the
untrained references (``zero_shot``) of that backbone and evaluation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clirscale.analysis.records import Job, Study

# The order of the arms in tables, legends and differences (earlier minus later); others follow by name.
METHOD_ORDER = ("hybrid", "mono", "cross", "dapt", "dapt_hybrid", "dapt_irrelevant", "zero_shot", "bm25")
# Where an input lies or what is reported does not make a curve: its content does, by hash.
IGNORED = {
    "data": {"fraction", "source", "path", "languages"},
    "backbone": {"source", "path", "model", "revision", "lr"},
}
NAMED = ("method", "backbone", "data", "budget")  # sections that are chosen by name


@dataclass(frozen=True, eq=False)
class Point:
    """The jobs of one curve at one fraction, one per seed."""

    fraction: float | None
    jobs: tuple[Job, ...]

    @property
    def groups(self) -> float:
        """Parallel groups in training: the mean over seeds, which can differ by what leak checks drop."""
        return sum(job.groups for job in self.jobs) / len(self.jobs)


@dataclass(frozen=True, eq=False)
class Curve:
    """A method over sizes, or a reference: an untrained encoder or BM25 (one point, without fraction).

    Attributes:
        method: name of the training recipe.
        variant: the config keys that tell it from the other curves of its comparison, as ``alpha=0.3``.
        points: by increasing fraction.
        backbone: the settings of the encoder, by which a reference belongs to a curve; empty for BM25.
    """

    method: str
    variant: tuple[str, ...]
    points: tuple[Point, ...]
    backbone: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """Method and variant, for legends and tables: ``hybrid, alpha=0.3``."""
        return ", ".join([self.method, *self.variant])

    @property
    def phrase(self) -> str:
        """Method and variant, for sentences: ``hybrid (alpha=0.3)``."""
        return f"{self.method} ({', '.join(self.variant)})" if self.variant else self.method

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of all points."""
        return tuple(job for point in self.points for job in point.jobs)

    def at(self, fraction: float | None) -> Point | None:
        """Return the point at a fraction, if there is one."""
        return next((point for point in self.points if point.fraction == fraction), None)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Curves that differ in method and hyper-parameters only, and their references.

    Attributes:
        axes: names of data, backbone and eval.
        title: those of the axes that differ between the study's comparisons; "" if there is one comparison.
        evaluation: name and content hash of the evaluation set, within which scores can be paired.
    """

    axes: Mapping[str, str]
    title: str
    evaluation: tuple[str, str]
    curves: tuple[Curve, ...]
    references: tuple[Curve, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of all curves and references."""
        return tuple(job for curve in self.curves + self.references for job in curve.jobs)

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions at which any curve has a point, increasing."""
        return tuple(sorted({p.fraction for c in self.curves for p in c.points if p.fraction is not None}))

    def references_of(self, curve: Curve) -> tuple[Curve, ...]:
        """Return the references of the curve: untrained with its backbone, or without any."""
        return tuple(reference for reference in self.references if reference.backbone in (curve.backbone, ()))


@dataclass(frozen=True)
class Arrangement:
    """The finished jobs of a study, arranged.

    Attributes:
        comparisons: in the order of their titles.
        superseded: pairs (older, newer) of jobs that are the same point of the same curve, for example run before and
            after a measure was added; the older is in no curve.
    """

    comparisons: tuple[Comparison, ...]
    superseded: tuple[tuple[Job, Job], ...]


def arrange(study: Study) -> Arrangement:
    """Arrange the finished jobs of a study into comparisons, curves and points."""
    current, superseded = _latest(study.results)
    trained: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    untrained: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    lexical: dict[tuple[str, ...], list[Job]] = defaultdict(list)  # has no backbone: a reference of all
    for job in current:
        if job.fraction is not None:
            trained[(str(job.axes["data"]), str(job.axes["backbone"]), *_evaluation(job))].append(job)
        elif job.axes["backbone"] is not None:
            untrained[(str(job.axes["backbone"]), *_evaluation(job))].append(job)
        else:
            lexical[_evaluation(job)].append(job)
    # A reference alone is shown, too.
    for key in untrained.keys() - {key[1:] for key in trained}:
        trained[("", *key)] = []
    for key in lexical.keys() - {key[2:] for key in trained}:
        trained[("", "", *key)] = []
    titles = _titles(trained)
    comparisons = [
        Comparison(
            axes={"data": key[0], "backbone": key[1], "eval": key[2]},
            title=titles[key],
            evaluation=(key[2], key[3]),
            curves=_curves(trained[key]),
            references=_curves(untrained[key[1:]]) + _curves(lexical[key[2:]]),
        )
        for key in sorted(trained)
    ]
    return Arrangement(tuple(comparisons), tuple(superseded))


def format_value(value: Any) -> str:
    """Write a config value as on the command line, numbers in their shortest form.

    >>> [format_value(v) for v in (1e-4, 0.3, 32, True, None, ["de", "en"], "cls")]
    ['1e-4', '0.3', '32', 'true', 'null', '[de,en]', 'cls']
    """
    if isinstance(value, (list, tuple)):
        return f"[{','.join(format_value(item) for item in value)}]"
    if isinstance(value, float):
        if value and not 1e-3 <= abs(value) < 1e6:
            mantissa, exponent = f"{value:.12e}".split("e")
            return f"{float(mantissa):.12g}e{int(exponent)}"
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping with dotted keys.

    >>> flatten({"contrast": {"lr": 3e-5}, "seed": 0})
    {'contrast.lr': 3e-05, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _evaluation(job: Job) -> tuple[str, str]:
    return str(job.axes["eval"]), str(job.hashes.get("eval", ""))


def _settings(job: Job) -> dict[str, Any]:
    """Return what determines the curve of a job, by dotted key: the config of what its stages use, and content hashes.

    Mirrors what makes up a fingerprint, less fraction, seed and measures.
    """
    sections = ["method"] + (["backbone"] if job.axes["backbone"] is not None else [])
    if job.fraction is not None:
        sections += ["data", "budget", "contrast"]
        stages = job.config.get("method", {}).get("stages")
        if stages is None or "adapt" in stages:
            sections += ["adapt"]
    used = {
        name: {k: v for k, v in job.config.get(name, {}).items() if k not in IGNORED.get(name, ())} for name in sections
    }
    flat = flatten(used)
    if "adapt" not in sections:
        flat.pop("budget.adapt", None)
    for name in ("method", "backbone", "data"):
        if name in sections:
            flat[f"{name}.name"] = str(job.axes[name])
    for name in ("backbone", "data"):
        if name in sections:
            flat[f"{name}.hash"] = str(job.hashes.get(name, ""))
    if job.fraction is not None and job.hashes.get("leaks"):
        flat["leaks.hash"] = str(job.hashes["leaks"])
    return flat


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _latest(jobs: Iterable[Job]) -> tuple[list[Job], list[tuple[Job, Job]]]:
    """Keep the job that started last where several are the same point with the same seed."""
    same: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        same[_key(_settings(job)), _evaluation(job), job.fraction, job.seed].append(job)
    current, superseded = [], []
    for candidates in same.values():
        *older, newest = sorted(candidates, key=lambda job: (job.started, job.name))
        current.append(newest)
        superseded += [(job, newest) for job in older]
    return current, superseded


def _curves(jobs: Sequence[Job]) -> tuple[Curve, ...]:
    settings = {job: _settings(job) for job in jobs}
    alike: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        alike[_key(settings[job])].append(job)
    curves = []
    for members in alike.values():
        own = settings[members[0]]
        varying = _varying(own, settings.values())
        variant = tuple(_describe(key, members[0], jobs) for key in varying)
        backbone = tuple((key, format_value(own[key])) for key in sorted(own) if key.startswith("backbone."))
        curve = Curve(members[0].method, variant, _points(members), backbone)
        curves.append((_method_rank(curve.method), [_sort_key(own[key]) for key in varying], curve))
    return tuple(curve for *_, curve in sorted(curves, key=lambda entry: entry[:2]))


def _points(jobs: Sequence[Job]) -> tuple[Point, ...]:
    by_fraction: dict[float | None, list[Job]] = defaultdict(list)
    for job in jobs:
        by_fraction[job.fraction].append(job)
    return tuple(
        Point(fraction, tuple(sorted(members, key=lambda job: (-1 if job.seed is None else job.seed, job.name))))
        for fraction, members in sorted(by_fraction.items(), key=lambda item: item[0] or 0.0)
    )


def _varying(own: Mapping[str, Any], everyone: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys to name in a label, in the order of the config.

    Keys of a section that is chosen by name (``budget=steps``) vary if they differ under that name; the name itself
    stands for the rest. Keys of another section vary if they differ among all that have them.
    """
    everyone = list(everyone)
    keys = []
    for key in own:
        section = key.partition(".")[0]
        peers = everyone
        if section in NAMED and key != f"{section}.name":
            peers = [other for other in everyone if other.get(f"{section}.name") == own.get(f"{section}.name")]
        values = {_key({"": other[key]}) for other in peers if key in other}
        if len(values) > 1 and key != "method.name":
            keys.append(key)
    return keys


def _describe(key: str, job: Job, jobs: Sequence[Job]) -> str:
    if key == "data.hash":
        languages = {j.hashes.get("data"): format_value(j.config.get("data", {}).get("languages")) for j in jobs}
        if len(set(languages.values())) == len(languages):
            return f"languages={languages[job.hashes.get('data')]}"
    section, _, name = key.partition(".")
    value = _settings(job)[key]
    if name == "hash":
        return f"{section} content {str(value)[:8]}"
    # The recipe's own keys and those of the contrastive stage, which every method has, go by their short names.
    short = section if name == "name" else name if section in ("method", "contrast") else key
    return f"{short}={format_value(value)}"


def _titles(keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    keys = list(keys)
    hashes: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        hashes[key[2]].add(key[3])
    names = {
        key: (key[0], key[1], f"{key[2]} (content {key[3][:8]})" if len(hashes[key[2]]) > 1 else key[2]) for key in keys
    }
    varies = [len({name[i] for name in names.values()}) > 1 for i in range(3)]
    return {
        key: ", ".join(
            f"{axis}={value}"
            for axis, value, shown in zip(("data", "backbone", "eval"), name, varies, strict=True)
            if shown and value
        )
        for key, name in names.items()
    }


def _method_rank(method: str) -> tuple[int, str]:
    return (METHOD_ORDER.index(method) if method in METHOD_ORDER else len(METHOD_ORDER), method)


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, format_value(value))

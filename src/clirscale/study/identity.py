"""A job is known by the fingerprint of what determines its result, never by a time stamp or a number."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from clirscale.config import JobConfig
from clirscale.models import backbone
from clirscale.study import inputs


@dataclass(frozen=True)
class Identity:
    """Fingerprint, axes and content hashes of a job, and the fingerprints of its evaluations.

    Attributes:
        fingerprint: of what determines the encoder.
        axes: data, fraction, seed, method, backbone; null where one does not matter to the job.
        hashes: of the content of pool, weights and, where there are some, of the groups dropped as leaks.
        evaluations: by benchmark, the fingerprint of what, beside the encoder, determines its scores.
    """

    fingerprint: str
    axes: dict[str, Any]
    hashes: dict[str, str]
    evaluations: dict[str, str]

    @property
    def folder(self) -> str:
        """Folder name: the axes, readable, and the fingerprint, unique."""
        a = self.axes
        trained = f"{a['data']}_f{a['fraction']:g}_s{a['seed']}" if a["fraction"] is not None else None
        return "_".join(filter(None, [a["method"], trained, a["backbone"], self.fingerprint]))


def identify(config: JobConfig) -> Identity:
    """Return the identity of a job.

    In it: the sections of the config that its stages use, and the *content* of pool and weights. Not in it: where
    those lie, hardware, loggers, output folders and the name of the study, so that a job is the same on every machine;
    nor the code's version, which the record holds; nor the benchmarks, so that one can be added later. They count only
    by the training groups that their leaks take away.

    Raises:
        DataError, ModelError: an input is missing or malformed.
        ConfigError: there are leaks, and ``leaks.action`` is ``fail``.
    """
    hashes: dict[str, str] = {}
    axes: dict[str, Any] = {"data": None, "fraction": None, "seed": None, "backbone": None}
    parts: dict[str, Any] = {}
    if config.method.retriever == "encoder":
        hashes["backbone"] = backbone.fingerprint(config.backbone)
        axes["backbone"] = config.backbone.name
        parts["backbone"] = asdict(config.backbone)
        for key in ("path", "model", "revision", "source", "lr"):  # where it lies, and a default that other keys take
            del parts["backbone"][key]
        if config.backbone.source == "random":
            axes["seed"] = parts["seed"] = config.seed
    else:
        parts["retriever"] = config.method.retriever
    if config.method.stages:
        hashes["data"] = inputs.pool(config.data).fingerprint
        dropped = {leak.group_id for leak in inputs.leaks(config)} if config.leaks.action != "report" else set()
        if dropped:
            hashes["leaks"] = _digest(sorted(dropped))
        axes |= {"data": config.data.name, "fraction": config.data.fraction, "seed": config.seed}
        parts |= {
            "data": {"name": config.data.name, "fraction": config.data.fraction},
            "method": asdict(config.method),
            "budget": {"unit": config.budget.unit, "contrast": config.budget.contrast},
            "contrast": asdict(config.contrast),
            "seed": config.seed,
        }
    if "adapt" in config.method.stages:
        parts["adapt"] = asdict(config.adapt)
        parts["budget"]["adapt"] = config.budget.adapt
    axes["method"] = config.method.name
    evaluations = {name: _evaluation(config, name) for name in config.eval}
    return Identity(_digest([parts, hashes])[:10], axes, hashes, evaluations)


def _evaluation(config: JobConfig, name: str) -> str:
    benchmark = config.eval[name]
    search = asdict(config.search) if config.search.index != "exact" else {"seed": config.search.seed}
    return _digest([inputs.task(config, name).fingerprint, benchmark.measures, benchmark.run_depth, search])[:10]


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()

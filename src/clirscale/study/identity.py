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
    """Fingerprint, axes and content hashes of a job."""

    fingerprint: str
    axes: dict[str, Any]
    hashes: dict[str, str]

    @property
    def folder(self) -> str:
        """Folder name: the axes, readable, and the fingerprint, unique."""
        a = self.axes
        trained = f"_{a['data']}_f{a['fraction']:g}_s{a['seed']}" if a["fraction"] is not None else ""
        return f"{a['method']}{trained}_{a['backbone']}_{a['eval']}_{self.fingerprint}"


def identify(config: JobConfig) -> Identity:
    """Return the identity of a job.

    In it: the sections of the config that its stages use, and the *content* of pool, task and weights. Not in it:
    where those lie, hardware, loggers, output folders and the name of the study, so that a job is the same on
    every machine; nor the code's version, which the record holds.

    Raises:
        DataError, ModelError: an input is missing or malformed.
    """
    hashes = {"eval": inputs.task(config.eval).fingerprint, "backbone": backbone.fingerprint(config.backbone)}
    encoder = asdict(config.backbone)
    for key in ("path", "model", "revision", "source", "lr"):  # where it lies, and a default that other keys take
        del encoder[key]
    parts: dict[str, Any] = {
        "backbone": encoder,
        "eval": {"name": config.eval.name, "measures": config.eval.measures, "run_depth": config.eval.run_depth},
    }
    axes: dict[str, Any] = {"data": None, "fraction": None, "seed": None}
    if config.method.stages:
        hashes["data"] = inputs.pool(config.data).fingerprint
        axes = {"data": config.data.name, "fraction": config.data.fraction, "seed": config.seed}
        parts |= {
            "data": {"name": config.data.name, "fraction": config.data.fraction},
            "method": asdict(config.method),
            "budget": {"unit": config.budget.unit, "contrast": config.budget.contrast},
            "contrast": asdict(config.contrast),
            "seed": config.seed,
        }
    elif config.backbone.source == "random":
        axes["seed"] = parts["seed"] = config.seed
    if "adapt" in config.method.stages:
        parts["adapt"] = asdict(config.adapt)
        parts["budget"]["adapt"] = config.budget.adapt
    axes |= {"method": config.method.name, "backbone": config.backbone.name, "eval": config.eval.name}
    canonical = json.dumps([parts, hashes], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return Identity(hashlib.sha256(canonical.encode()).hexdigest()[:10], axes, hashes)

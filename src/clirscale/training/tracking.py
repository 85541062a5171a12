"""Loggers of a job: functions that conf/logger names and that give Lightning loggers."""

from __future__ import annotations

import netrc
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger


@dataclass(frozen=True)
class JobInfo:
    """What a logger may want to know of its job."""

    folder: Path
    study: str
    method: str
    fingerprint: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The job's folder name: its axes and fingerprint."""
        return self.folder.name


def csv_logger(job: JobInfo) -> Logger:
    """Per-step metrics in ``metrics.csv`` of the job's folder."""
    # The folder holds the record already, and a job that was cut off is run again in its own.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    return CSVLogger(save_dir=job.folder, name="", version="")


def wandb_logger(
    job: JobInfo,
    project: str,
    entity: str | None = None,
    mode: Literal["auto", "online", "offline", "disabled"] = "auto",
) -> Logger:
    """One W&B run for this job: id = fingerprint, group = study, job type = method.

    Args:
        job: gives id, name, group and config.
        project, entity: where the run belongs.
        mode: ``auto`` is online where an API key is configured and offline elsewhere; WANDB_MODE goes before.
    """
    if mode == "auto":
        mode = "online" if has_account() else "offline"
    # A run that an earlier job in this process left open would swallow this one (wandb#1314, LHT#289).
    wandb.finish()
    run = wandb.init(
        project=project,
        entity=entity,
        id=job.fingerprint,
        name=job.name,
        group=job.study,
        job_type=job.method,
        tags=[job.method, job.study],
        config=dict(job.config),
        dir=job.folder,
        mode=os.environ.get("WANDB_MODE", mode),  # type: ignore[arg-type]
        resume="allow",
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
    )
    return WandbLogger(experiment=run)


def has_account() -> bool:
    """Tell whether a W&B API key is configured, in the environment or by ``wandb login``, without a prompt."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def finish(exit_code: int) -> None:
    """Close the open W&B run, if any, with the job's exit code: Lightning leaves it open."""
    wandb.finish(exit_code=exit_code)

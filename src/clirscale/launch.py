"""A command line from start to end: plan and check, let Hydra run the jobs, report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from clirscale.config import JobConfig
from clirscale.errors import ClirscaleError
from clirscale.report import terminal_table, write_report
from clirscale.study.compose import job_config, plan, register_resolvers
from clirscale.study.identity import identify
from clirscale.study.job import is_finished, objective, preflight, read_record, run_job

log = logging.getLogger(__name__)

# Hydra answers these by itself, and runs no job.
INFORMATION = ("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")


def run(cfg: DictConfig) -> float:
    """Run the job that Hydra composed and return its objective; NaN if it failed, so that the others go on."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = job_config(cfg)
        return objective(config, run_job(config, folder))
    except ClirscaleError as error:
        log.error("%s failed: %s", folder.name, error)
    except Exception:
        log.exception("%s failed", folder.name)
    return float("nan")


def launch(task: Callable[[], None], conf: Path) -> int:
    """Check the command line, run its jobs with Hydra and write the report of each study.

    Args:
        task: the function decorated with ``hydra.main``.
        conf: the folder of YAML files.

    Returns:
        The exit status: 0, 1 if a job failed, 2 if the command line was refused.
    """
    register_resolvers()
    argv = sys.argv[1:]
    if any(argument.split("=")[0] in INFORMATION for argument in argv):
        task()
        return 0
    console = Console()
    try:
        jobs = plan(argv, conf).jobs
        for config in jobs:
            preflight(config)
    except ClirscaleError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        return 2
    log.info("%d job(s)", len(jobs))
    task()
    failed = 0
    for config in jobs:
        identity = identify(config)
        failed += not is_finished(read_record(study_dir(config) / identity.folder), identity)
    for config in {config.study: config for config in jobs}.values():
        report(study_dir(config), Path(config.report_dir), console)
        if any(study_dir(config).glob("*/wandb/offline-run-*")):
            line = f"wandb sync {study_dir(config)}/*/wandb/offline-run-*"
            console.print(f"W&B runs are offline; to upload them: {line}", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def study_dir(config: JobConfig) -> Path:
    """Return the folder of a job's study."""
    return Path(config.output_dir) / config.study


def report(study: Path, report_dir: Path, console: Console) -> None:
    """Write the report of a study from its records, and print its table.

    Args:
        study: folder of the study's jobs.
        report_dir: the report goes to the folder of the same name in it.
        console: where the table goes.
    """
    files = write_report(study, report_dir / study.name)
    console.print(terminal_table(study))
    console.print(f"report: {files.index}", highlight=False, soft_wrap=True)

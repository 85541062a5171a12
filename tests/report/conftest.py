"""Simulated studies, written once per session."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[1] / "analysis"))  # simulated_study

from simulated_study import SimulatedStudy

from clirscale.analysis.bootstrap import Bootstrap
from clirscale.analysis.curves import arrange
from clirscale.analysis.records import load_study

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'here'"


@pytest.fixture(scope="session")
def main_study(tmp_path_factory):
    """Untrained, hybrid and dapt at four sizes, one seed."""
    return SimulatedStudy(tmp_path_factory.mktemp("multirun") / "main").grid()


@pytest.fixture(scope="session")
def seeds_study(tmp_path_factory):
    """Three methods, three seeds; a failed job, a running one, warnings; text from records that HTML must escape."""
    study = SimulatedStudy(tmp_path_factory.mktemp("multirun") / "seeds")
    study.grid(methods=("hybrid", "mono", "dapt"), fractions=(0.1, 1.0), seeds=(0, 1, 2))
    study.job("dapt", 1.0, 3, state="failed", error=f"TrainingError: {HOSTILE}", command=f"python train.py {HOSTILE}")
    study.job("hybrid", 1.0, 3, state="running")
    study.job("hybrid", 0.1, 3, warnings=[f"language 'zh' skipped {HOSTILE}", "12 of 240 training groups dropped"])
    return study.folder


def analyse(folder):
    study = load_study(folder)
    arrangement = arrange(study)
    comparison = arrangement.comparisons[0] if arrangement.comparisons else None
    bootstrap = Bootstrap(comparison.jobs) if comparison else None
    return SimpleNamespace(study=study, arrangement=arrangement, comparison=comparison, bootstrap=bootstrap)


@pytest.fixture(scope="session")
def main_analysis(main_study):
    return analyse(main_study)


@pytest.fixture(scope="session")
def seeds_analysis(seeds_study):
    return analyse(seeds_study)

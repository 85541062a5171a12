"""Train and evaluate one point of a scaling study, or, with -m, all of them. ``python train.py --help``."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from clirscale.launch import launch, run

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def train(cfg: DictConfig) -> float:
    """Run one job and return its objective."""
    return run(cfg)


if __name__ == "__main__":
    sys.exit(launch(train, CONF))

"""What all stages share: the optimiser, its schedule, the guard against divergence and the Lightning trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from clirscale.config import TrainerConfig
from clirscale.errors import TrainingError


def resolve_precision(config: TrainerConfig) -> str:
    """Return the Lightning precision; ``auto`` is bf16 where the hardware computes in it, else 32 bits."""
    if config.precision != "auto":
        return config.precision
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if bf16 else "32-true"


class Stage(L.LightningModule):
    """A training stage with AdamW, linear warm-up and linear decay to zero.

    Args:
        name: prefix of the logged metrics.
        steps: number of optimisation steps.
        lr, weight_decay, warmup: peak learning rate, AdamW's decay (not on biases and norms), share of the steps
            in which the rate rises.
    """

    def __init__(self, name: str, *, steps: int, lr: float, weight_decay: float, warmup: float) -> None:
        super().__init__()
        self.name, self.steps, self.lr, self.weight_decay, self.warmup = name, steps, lr, weight_decay, warmup
        self.losses: list[float] = []

    def configure_optimizers(self) -> Any:
        """Return AdamW and the schedule, stepped after every batch."""
        decayed = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        others = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.lr,
        )
        schedule = LambdaLR(optimiser, linear_warmup_and_decay(self.steps, self.warmup))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def record(self, loss: Tensor, **metrics: float | Tensor) -> Tensor:
        """Log the step and return the loss.

        Raises:
            TrainingError: the loss is not finite; it names the stage and the step.
        """
        value = float(loss.detach())
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of the {self.name} stage is {value} at step {self.global_step + 1} of {self.steps}: "
                f"training diverged. Lower {self.name}.lr (now {self.lr:g}) or use trainer.precision=32-true."
            )
        self.losses.append(value)
        learning_rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        values: dict[str, float | Tensor] = {"loss": value, "lr": learning_rate, **metrics}
        self.log_dict({f"{self.name}/{key}": value for key, value in values.items()})
        return loss

    def on_fit_start(self) -> None:
        """Switch dropout on: encoders are loaded in evaluation mode, which Lightning leaves as it is."""
        self.train()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to the norm and log what it was before."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, float(gradient_clip_val or float("inf")))
        self.log(f"{self.name}/grad_norm", norm)


def linear_warmup_and_decay(steps: int, warmup: float) -> Callable[[int], float]:
    """Return the factor of the learning rate at each step: up to 1 over ``warmup``·steps, then down to 0."""
    rising = round(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return max(0.0, (steps - step) / max(1, steps - rising))

    return factor


class _Batches(IterableDataset[Any]):
    def __init__(self, batches: Iterable[Any], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return self.steps  # of the progress bar


def fit(
    stage: Stage,
    batches: Iterable[Any],
    config: TrainerConfig,
    *,
    max_grad_norm: float,
    loggers: list[Logger],
    folder: Path,
) -> None:
    """Run a stage over its batches: one pass, as many steps as there are batches.

    Raises:
        TrainingError: the loss is not finite, or the batches did not give the number of steps that was planned.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # which hardware there is, tips: once a stage is too often
    trainer = L.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=resolve_precision(config),  # type: ignore[arg-type]
        max_epochs=1,
        max_steps=stage.steps,
        gradient_clip_val=max_grad_norm,
        logger=loggers,
        log_every_n_steps=1,
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        enable_checkpointing=False,
        # Batches are planned for all ranks together; Lightning must not replace them (PL#20272, PL#21122).
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        # The batches come ready made from memory: there is nothing for worker processes to do.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*IterableDataset. has .__len__. defined.*")  # no workers
        trainer.fit(stage, DataLoader(_Batches(batches, stage.steps), batch_size=None))
    if trainer.global_step != stage.steps:
        raise TrainingError(f"the {stage.name} stage stopped after {trainer.global_step} of {stage.steps} steps")

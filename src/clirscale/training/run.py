"""Runs the stages of a method, one after the other, on one encoder."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger

from clirscale.config import BudgetConfig, JobConfig
from clirscale.data.groups import Pool
from clirscale.errors import TrainingError
from clirscale.models.encoder import DualEncoder
from clirscale.models.masked_lm import MaskedLM
from clirscale.training.adapt import AdaptStage, MaskedBatches, build_corpus, held_out_loss, vocabulary
from clirscale.training.batches import BatchSchedule
from clirscale.training.contrast import ContrastBatches, ContrastStage
from clirscale.training.loop import fit, resolve_precision

log = logging.getLogger(__name__)


@dataclass
class TrainingRecord:
    """What training did: numbers for the job's record."""

    counts: dict[str, int] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def step_count(budget: BudgetConfig, amount: float, groups: int, batch_size: int) -> int:
    """Return the number of steps that a budget gives a stage.

    An epoch is as many texts or pairs as the subset has groups, so that it depends on the fraction alone and not on
    the method or on how many languages a group has.

    Args:
        budget: its unit.
        amount: epochs or steps.
        groups: parallel groups in the subset.
        batch_size: of the stage.
    """
    if budget.unit == "steps":
        return int(amount)
    return max(1, round(amount * groups / batch_size))


def schedule(config: JobConfig, pool: Pool) -> BatchSchedule | None:
    """Return the contrastive batches of a job, or None for a method without that stage.

    Cheap enough to be called before anything is loaded, so that a subset that cannot fill a batch fails at once.

    Raises:
        ConfigError, TrainingError: see :class:`BatchSchedule`.
    """
    if "contrast" not in config.method.stages or config.method.alpha is None:
        return None
    return BatchSchedule(
        pool,
        alpha=config.method.alpha,
        batch_size=config.contrast.batch_size,
        steps=step_count(config.budget, config.budget.contrast, len(pool), config.contrast.batch_size),
        seed=config.seed,
        small_languages=config.contrast.small_languages,
    )


def run_stages(
    config: JobConfig, encoder: DualEncoder, pool: Pool, *, loggers: list[Logger], folder: Path
) -> TrainingRecord:
    """Train ``encoder`` in place on ``pool`` by the stages of the job's method.

    Raises:
        TrainingError: a batch cannot be filled, or the loss is not finite.
        ConfigError: a language is too small for a batch.
    """
    record = TrainingRecord()
    batches = schedule(config, pool)
    for stage in config.method.stages:
        start = time.perf_counter()
        if stage == "adapt":
            _adapt(config, encoder, pool, record, loggers, folder)
        elif batches is not None:
            _contrast(config, encoder, pool, batches, record, loggers, folder)
        record.timings[stage] = time.perf_counter() - start
    return record


def _adapt(
    config: JobConfig, encoder: DualEncoder, pool: Pool, record: TrainingRecord, loggers: list[Logger], folder: Path
) -> None:
    settings = config.adapt
    steps = step_count(config.budget, config.budget.adapt, len(pool), settings.batch_size)
    corpus = build_corpus(pool, encoder, settings.held_out, config.seed)
    if not corpus.held_out:
        raise TrainingError(f"{pool.name}: a subset of {len(pool)} group(s) leaves none to hold out from MLM training")
    batches = MaskedBatches(corpus.train, encoder, settings, steps, config.seed)
    pieces = vocabulary(corpus.train + corpus.held_out, encoder) if settings.vocabulary == "corpus" else None
    model = MaskedLM.from_encoder(encoder, pieces)
    stage = AdaptStage(model, settings, steps)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(resolve_precision(config.trainer))
    record.training["mlm_loss_before"] = held_out_loss(model, corpus, batches, dtype)
    fit(stage, batches, config.trainer, max_grad_norm=settings.max_grad_norm, loggers=loggers, folder=folder)
    record.training["mlm_loss_after"] = held_out_loss(model, corpus, batches, dtype)
    record.counts |= {"adapt_steps": steps, "adapt_tokens": batches.tokens, "adapt_texts": len(corpus.train)}
    log.info(
        "adapt: %d steps, held-out MLM loss %.3f → %.3f",
        steps,
        record.training["mlm_loss_before"],
        record.training["mlm_loss_after"],
    )


def _contrast(
    config: JobConfig,
    encoder: DualEncoder,
    pool: Pool,
    batches: BatchSchedule,
    record: TrainingRecord,
    loggers: list[Logger],
    folder: Path,
) -> None:
    if batches.skipped_languages:
        listed = ", ".join(f"{lang} ({n})" for lang, n in batches.skipped_languages.items())
        record.warnings.append(
            f"no mono batches in {listed}: fewer pairs than a batch of {config.contrast.batch_size} "
            "(contrast.small_languages=skip)"
        )
        log.warning(record.warnings[-1])
    stage = ContrastStage(encoder, config.contrast, len(batches))
    fit(
        stage,
        ContrastBatches(batches, pool, encoder),
        config.trainer,
        max_grad_norm=config.contrast.max_grad_norm,
        loggers=loggers,
        folder=folder,
    )
    record.counts |= {"contrast_steps": len(batches), "contrast_pairs": len(batches) * config.contrast.batch_size}
    tenth = max(1, len(stage.losses) // 10)
    record.training["contrast_loss_first"] = sum(stage.losses[:tenth]) / tenth
    record.training["contrast_loss_last"] = sum(stage.losses[-tenth:]) / tenth
    log.info(
        "contrast: %d steps, loss %.3f → %.3f",
        len(batches),
        record.training["contrast_loss_first"],
        record.training["contrast_loss_last"],
    )

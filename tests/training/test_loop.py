"""The learning-rate schedule, the guard against divergence and the budget."""

import pytest
import torch
import transformers

from clirscale.config import BudgetConfig, TrainerConfig
from clirscale.errors import TrainingError
from clirscale.training.loop import Stage, fit, linear_warmup_and_decay
from clirscale.training.run import step_count

CPU = TrainerConfig("cpu", "32-true", None, 8192, 0.0, False)


class Parabola(Stage):
    """Minimises the square of one number; the loss turns NaN at ``bad_step``."""

    def __init__(self, steps, bad_step=None):
        super().__init__("contrast", steps=steps, lr=0.1, weight_decay=0.0, warmup=0.0)
        self.x = torch.nn.Parameter(torch.tensor([3.0]))
        self.bad_step = bad_step

    def training_step(self, batch, batch_idx):
        loss = self.x.square().sum()
        return self.record(loss * float("nan") if batch_idx == self.bad_step else loss)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (10, 0.0), (50, 0.06)])
def test_schedule_rises_to_one_and_falls_to_zero(steps, warmup):
    factor = linear_warmup_and_decay(steps, warmup)
    values = [factor(step) for step in range(steps + 1)]
    peak = round(warmup * steps)
    assert values[peak] == max(values) == 1.0
    assert values[-1] == 0.0
    assert all(v > 0 for v in values[:-1]), "a step with a rate of zero is lost"
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_decay_equals_transformers():
    steps = 40
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = transformers.get_linear_schedule_with_warmup(optimiser, 0, steps).lr_lambdas[0]
    ours = linear_warmup_and_decay(steps, 0.0)
    assert [ours(i) for i in range(steps)] == pytest.approx([theirs(i) for i in range(steps)])


def test_fit_runs_every_batch_once(tmp_path):
    stage = Parabola(steps=30)
    fit(stage, range(30), CPU, max_grad_norm=1.0, loggers=[], folder=tmp_path)
    assert len(stage.losses) == 30
    assert stage.losses[-1] < stage.losses[0] / 2


def test_nan_loss_names_stage_and_step(tmp_path):
    with pytest.raises(TrainingError, match=r"contrast stage is nan at step 4 of 30.*contrast\.lr \(now 0\.1\)"):
        fit(Parabola(steps=30, bad_step=3), range(30), CPU, max_grad_norm=1.0, loggers=[], folder=tmp_path)


def test_missing_batches_are_noticed(tmp_path):
    with pytest.raises(TrainingError, match="stopped after 7 of 30 steps"):
        fit(Parabola(steps=30), range(7), CPU, max_grad_norm=1.0, loggers=[], folder=tmp_path)


@pytest.mark.parametrize(
    ("unit", "amount", "groups", "expected"),
    [("epochs", 2, 320, 20), ("epochs", 2, 3200, 200), ("epochs", 0.001, 320, 1), ("steps", 150, 320, 150)],
)
def test_step_count(unit, amount, groups, expected):
    budget = BudgetConfig(unit, unit, contrast=amount, adapt=amount)
    assert step_count(budget, amount, groups, batch_size=32) == expected

"""Jobs that differ in fraction and seed only are one curve; labels name what else differs."""

import pytest
from simulated_study import SimulatedStudy

from clirscale.analysis.curves import arrange, format_value
from clirscale.analysis.records import load_study


@pytest.fixture
def study(tmp_path):
    return SimulatedStudy(tmp_path / "study", n_groups=3, languages=("de", "en"))


def arranged(study):
    return arrange(load_study(study.folder))


def labels(comparison):
    return [curve.label for curve in comparison.curves]


def test_fractions_and_seeds_make_one_curve_per_method(study):
    study.grid(methods=("dapt", "hybrid"), fractions=(1.0, 0.1), seeds=(1, 0))
    (comparison,) = arranged(study).comparisons
    assert labels(comparison) == ["hybrid", "dapt"]
    assert comparison.title == ""
    for curve in comparison.curves:
        assert [point.fraction for point in curve.points] == [0.1, 1.0]
        assert [point.groups for point in curve.points] == [240, 2400]
        assert [[job.seed for job in point.jobs] for point in curve.points] == [[0, 1], [0, 1]]
    assert [r.label for r in comparison.references] == ["zero_shot"]
    assert comparison.fractions == (0.1, 1.0)


def test_jobs_that_did_not_finish_are_in_no_curve(study):
    study.job("hybrid", 1.0)
    study.job("hybrid", 0.5, state="failed")
    study.job("dapt", 0.5, state="running")
    (comparison,) = arranged(study).comparisons
    assert labels(comparison) == ["hybrid"]
    assert comparison.fractions == (1.0,)


def test_alpha_is_named_where_it_varies_within_a_method(study):
    for alpha in (0.7, 0.3):
        study.job("hybrid", 1.0, config={"method.alpha": alpha})
    study.job("dapt", 1.0)  # has another alpha, but always the same
    (comparison,) = arranged(study).comparisons
    assert labels(comparison) == ["hybrid, alpha=0.3", "hybrid, alpha=0.7", "dapt"]
    assert comparison.curves[0].phrase == "hybrid (alpha=0.3)"


def test_a_contrastive_key_is_named_for_every_method(study):
    for lr in (1e-4, 3e-5):
        study.job("hybrid", 1.0, config={"contrast.lr": lr})
    study.job("mono", 1.0, config={"contrast.lr": 1e-4})
    assert labels(arranged(study).comparisons[0]) == ["hybrid, lr=3e-5", "hybrid, lr=1e-4", "mono, lr=1e-4"]


def test_a_stage_that_a_method_lacks_does_not_split_its_curve(study):
    for fraction, lr in ((0.5, 1e-4), (1.0, 2e-4)):
        study.job("hybrid", fraction, config={"adapt.lr": lr, "budget.adapt": lr * 1e4})
        study.job("dapt", fraction, config={"adapt.lr": lr})
    (comparison,) = arranged(study).comparisons
    assert labels(comparison) == ["hybrid", "dapt, adapt.lr=1e-4", "dapt, adapt.lr=2e-4"]


def test_where_inputs_lie_and_how_jobs_ran_does_not_split_a_curve(study):
    study.job("hybrid", 0.5)
    other = {"backbone.path": "/elsewhere", "trainer.precision": "bf16-mixed", "report_dir": "/reports", "seed": 0}
    study.job("hybrid", 1.0, config=other | {"eval.measures": ["P@5"], "data.source._target_": "mine.read"})
    (comparison,) = arranged(study).comparisons
    (curve,) = comparison.curves
    assert curve.label == "hybrid"
    assert len(curve.points) == 2


def test_a_section_chosen_by_name_is_named_by_it(study):
    study.job("hybrid", 1.0)
    steps = {"budget.name": "steps", "budget.unit": "steps"}
    for n in (100.0, 200.0):
        study.job("hybrid", 1.0, config=steps | {"budget.contrast": n})
    assert labels(arranged(study).comparisons[0]) == [
        "hybrid, budget=epochs",
        "hybrid, budget=steps, budget.contrast=100",
        "hybrid, budget=steps, budget.contrast=200",
    ]


def test_backbones_and_evaluations_are_compared_apart_each_with_its_reference(study):
    for backbone in ("mini", "xlmr"):
        options = {"config": {"backbone.name": backbone}, "benchmarks": ("cldr", "xquad_r")}
        study.job("hybrid", 1.0, **options)
        study.job("zero_shot", **options)
    comparisons = arranged(study).comparisons
    assert [c.title for c in comparisons] == [
        "backbone=mini, eval=cldr",
        "backbone=mini, eval=xquad_r",
        "backbone=xlmr, eval=cldr",
        "backbone=xlmr, eval=xquad_r",
    ]
    for comparison in comparisons:
        (curve,) = comparison.curves
        (reference,) = comparison.references_of(curve)
        axes = ("backbone", "eval")
        assert [reference.jobs[0].axes[a] for a in axes] == [curve.jobs[0].axes[a] for a in axes]
        assert curve.label == "hybrid"


def test_a_reference_belongs_to_curves_with_its_encoder_only(study):
    for pooling in ("mean", "cls"):
        study.job("hybrid", 1.0, config={"backbone.pooling": pooling})
    study.job("zero_shot", config={"backbone.pooling": "cls"})
    (comparison,) = arranged(study).comparisons
    assert labels(comparison) == ["hybrid, backbone.pooling=cls", "hybrid, backbone.pooling=mean"]
    assert [len(comparison.references_of(curve)) for curve in comparison.curves] == [1, 0]


def test_bm25_is_a_reference_of_every_backbone(study):
    for backbone in ("mini", "xlmr"):
        study.job("hybrid", 1.0, config={"backbone.name": backbone})
        study.job("zero_shot", config={"backbone.name": backbone})
    axes = {"data": None, "fraction": None, "method": "bm25", "backbone": None, "seed": None}
    study.job("zero_shot", axes=axes, config={"backbone.name": "none", "method.retriever": "bm25"})
    comparisons = arranged(study).comparisons
    assert [c.title for c in comparisons] == ["backbone=mini", "backbone=xlmr"]
    for comparison in comparisons:
        assert [r.method for r in comparison.references_of(comparison.curves[0])] == ["zero_shot", "bm25"]


def test_bm25_alone_is_a_comparison(study):
    axes = {"data": None, "fraction": None, "method": "bm25", "backbone": None, "seed": None}
    study.job("zero_shot", axes=axes)
    (comparison,) = arranged(study).comparisons
    assert [r.label for r in comparison.references] == ["bm25"]


def test_groups_that_leaks_took_away_make_another_curve(study):
    study.job("hybrid", 1.0)
    study.job(
        "hybrid",
        1.0,
        config={"trainer.precision": "32-true"},
        hashes={"backbone": "b" * 64, "data": "d" * 64, "leaks": "c" * 64},
    )
    assert len(arranged(study).comparisons[0].curves) == 2


def test_evaluation_sets_with_one_name_and_other_content_are_not_mixed(study):
    study.job("hybrid", 1.0)
    study.job("dapt", 1.0, task="f" * 64)
    titles = [c.title for c in arranged(study).comparisons]
    assert titles == ["eval=xquad_r (content eeeeeeee)", "eval=xquad_r (content ffffffff)"]


def test_languages_of_the_pool_are_named_where_its_content_differs(study):
    study.job("hybrid", 1.0)
    study.job(
        "hybrid",
        1.0,
        config={"data.languages": ["de", "en"]},
        hashes={"backbone": "b" * 64, "data": "a" * 64},
    )
    assert labels(arranged(study).comparisons[0]) == ["hybrid, languages=[de,en]", "hybrid, languages=null"]


def test_the_later_of_two_runs_of_a_point_counts(study):
    old = study.job("hybrid", 1.0)
    new = study.job("hybrid", 1.0, config={"trainer.precision": "32-true"}, started="2025-11-21T08:00:00+00:00")
    found = arranged(study)
    assert [job.folder for job in found.comparisons[0].jobs] == [new]
    assert [(a.folder, b.folder) for a, b in found.superseded] == [(old, new)]


def test_a_reference_alone_is_a_comparison(study):
    study.job("zero_shot")
    (comparison,) = arranged(study).comparisons
    assert comparison.curves == ()
    assert [r.label for r in comparison.references] == ["zero_shot"]


def test_no_finished_job(study):
    study.job("hybrid", 1.0, state="failed")
    assert arranged(study).comparisons == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (1.5e-5, "1.5e-5"), (2e7, "2e7"), (0.05, "0.05"), (0.0, "0"), (2.0, "2"), (False, "false")],
)
def test_format_value(value, text):
    assert format_value(value) == text

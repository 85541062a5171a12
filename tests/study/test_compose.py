"""Bad command lines are refused before anything runs, with the key and the nearest valid name."""

import re
from pathlib import Path

import pytest
import yaml

from clirscale.errors import ConfigError
from clirscale.study.compose import plan

CONF = Path(__file__).parents[2] / "conf"


def refused(*argv):
    with pytest.raises(ConfigError) as caught:
        plan(argv, CONF)
    return str(caught.value)


def test_default_job():
    (job,) = plan([], CONF).jobs
    assert (job.data.name, job.method.name, job.backbone.name, *job.eval) == ("cldr", "hybrid", "mini", "cldr")
    assert (job.data.fraction, job.seed, job.method.alpha) == (1.0, 0, 0.5)


def test_the_main_line_is_eight_jobs():
    jobs = plan(["-m", "data.fraction=0.1,0.25,0.5,1.0", "method=hybrid,dapt"], CONF).jobs
    assert {(j.data.fraction, j.method.name) for j in jobs} == {
        (fraction, method) for fraction in (0.1, 0.25, 0.5, 1.0) for method in ("hybrid", "dapt")
    }
    assert len(jobs) == 8


def test_arms_differ_in_nothing_but_the_method():
    hybrid, dapt = plan(["-m", "method=hybrid,dapt"], CONF).jobs
    assert hybrid.method != dapt.method
    for section in ("data", "backbone", "eval", "budget", "contrast", "adapt", "trainer", "seed"):
        assert getattr(hybrid, section) == getattr(dapt, section)


@pytest.mark.parametrize("choice", ["eval=xquad_r", "eval=[xquad_r]"])
def test_one_benchmark(choice):
    (job,) = plan([choice], CONF).jobs
    assert list(job.eval) == ["xquad_r"]
    assert job.eval["xquad_r"].source["path"] == "benchmarks/xquad_r"


def test_several_benchmarks_in_one_job_each_with_keys_of_its_own():
    line = ["eval=[xquad_r,miracl_sw,beir_scifact]", "benchmark_dir=/data", "eval.xquad_r.path=/lareqa/xquad-r"]
    (job,) = plan([*line, "measures=[P@5,CE]", "eval.miracl_sw.measures=[R@100]"], CONF).jobs
    assert [(name, b.source["path"], b.measures) for name, b in job.eval.items()] == [
        ("xquad_r", "/lareqa/xquad-r", ("P@5", "CE")),
        ("miracl_sw", "/data/miracl", ("R@100",)),
        ("beir_scifact", "/data/scifact", ("P@5", "CE")),
    ]


def test_sweeps_over_benchmarks():
    jobs = plan(["-m", "eval=xquad_r,cldr", "seed=0,1"], CONF).jobs
    assert [list(job.eval) for job in jobs] == [["xquad_r"], ["xquad_r"], ["cldr"], ["cldr"]]


def test_preset_with_sweeper_parameters_is_expanded_and_overridden():
    jobs = plan(["-m", "experiment=log8", "seed=5"], CONF).jobs
    assert [j.seed for j in jobs] == [5] * 8
    assert jobs[0].data.fraction == 0.01


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "0.0"])
def test_fraction_out_of_range(value):
    message = refused(f"data.fraction={value}")
    assert re.fullmatch(rf"data\.fraction: must be in \(0, 1\], is {float(value)}", message)


def test_fraction_that_is_no_number():
    assert refused("data.fraction=half") == "data.fraction: must be a number, is 'half'"


def test_one_bad_job_of_a_sweep_refuses_the_sweep():
    assert refused("-m", "data.fraction=0.1,1.5").startswith("data.fraction: must be in (0, 1]")


@pytest.mark.parametrize(
    ("argument", "key", "suggestion"),
    [
        ("method=hybird", "method", "hybrid"),
        ("method=mono,hybird", "method", "hybrid"),
        ("backbone=minni", "backbone", "mini"),
        ("backbone=xlmr", "backbone", "xlm_r"),
        ("eval=xquadr", "eval", "xquad_r"),
        ("data=cdlr", "data", "cldr"),
        ("budget=epoch", "budget", "epochs"),
        ("data.fractoin=0.5", "data.fractoin", "data.fraction"),
        ("contrast.learning_rate=1", "contrast.learning_rate", None),
        ("contrast.temprature=1", "contrast.temprature", "contrast.temperature"),
        ("sed=1", "sed", "seed"),
        ("metod=mono", "metod", "method"),
        ("+data.fractions=1", "data.fractions", "data.fraction"),
        ("+contrast.batchsize=1", "contrast.batchsize", "contrast.batch_size"),
        ("budget.unit=epoch", "budget.unit", "epochs"),
        ("objective=cldr/cross/P@50", "objective", "cldr/cross/P@5"),
        ("eval.measures=[P@5]", "eval.measures", None),
        ("eval.cldr.mesures=[P@5]", "eval.cldr.mesures", "eval.cldr.measures"),
        ("eval=[cldr,xquadr]", "eval", "xquad_r"),
        ("references=[zeroshot]", "references[0]", "zero_shot"),
        ("leaks.action=drop", "leaks.action", None),
        ("search.index=hnsv", "search.index", "hnsw"),
    ],
)
def test_unknown_names_get_the_nearest_valid_one(argument, key, suggestion):
    message = refused("-m", argument)
    assert message.startswith(f"{key}: ")
    if suggestion:
        assert re.search(rf"did you mean '({re.escape(suggestion)}|{suggestion.rpartition('.')[2]})'\?", message)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seed=-1", "seed: must be in"),
        ("seed=1.5", "seed: must be a whole number"),
        ("seed=true", "seed: must be a whole number"),
        ("method.alpha=1.5", r"method.alpha: must be in \[0, 1\]"),
        ("contrast.batch_size=1", "contrast.batch_size: must be at least 2"),
        ("contrast.temperature=0", "contrast.temperature: must be above 0"),
        ("contrast.lr=nan", "contrast.lr: must be a number"),
        ("adapt.mask_probability=0", "adapt.mask_probability: must be in"),
        ("budget.contrast=0", "budget.contrast: must be above 0"),
        ("eval.cldr.measures=[]", "eval.cldr.measures: is empty"),
        ("eval.cldr.run_depth=0", "eval.cldr.run_depth: must be at least 1"),
        ("search.sample=0", "search.sample: must be at least 1"),
        ("trainer.cache_gb=-1", "trainer.cache_gb: must not be negative"),
        ("data.languages=[]", "data.languages: is empty"),
        ("backbone.layers=[3,1]", "backbone.layers: must list layer numbers"),
        ("study=a/b", "study: must be a plain folder name"),
        ("method.stages=[contrast,adapt]", "method.stages: must be"),
        ("trainer.precision=fp8", "trainer.precision: is 'fp8'"),
        ("data.source._target_=clirscale.nothing", "data.source._target_: cannot import"),
    ],
)
def test_values_that_are_refused(argument, message):
    assert re.match(message, refused(argument))


def test_steps_must_be_whole():
    assert refused("budget=steps", "budget.contrast=2.5").startswith("budget.contrast: must be a whole number of steps")


def test_missing_path_is_asked_for_by_its_key():
    assert refused("data=parallel").startswith("data.path: is missing")


def test_local_backbone_needs_a_path():
    assert refused("backbone=local").startswith("backbone.path: is missing")


def test_seed_zero_is_a_seed():
    zero, one = plan(["-m", "seed=0,1"], CONF).jobs
    assert (zero.seed, one.seed) == (0, 1)


def yaml_files():
    return sorted(CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: str(path.relative_to(CONF)))
def test_every_config_file_says_what_it_is_for_and_every_key_is_commented(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#"), "the first line is a comment: what the file is for"
    if path.parent.name in ("experiment", "eval") or path.name == "config.yaml":
        return  # presets set keys that are described in their own groups, benchmarks those of conf/benchmark
    assert isinstance(yaml.safe_load("\n".join(lines)), dict)
    self_evident = ("source:", "_target_:", "defaults:", "path: ${", "languages: ${", "context: ${", "csv:", "wandb:")
    for line in lines:
        bare = line.strip()
        if (
            bare.startswith(("#", "- "))
            or not bare
            or bare.startswith(self_evident)
            or re.fullmatch(r"(\w+): \$\{\.\.\1\}", bare)  # a reader's argument, offered one level up
            or bare in ("batch_size: 100", "lr: 3e-5")
        ):
            continue
        if bare.startswith(("name: ", "stages: ", "unit: ")) and path.parent.name in ("method", "budget"):
            continue  # said in the first line
        assert "  # " in line or f" {bare.split(':')[0]}" in lines[0], f"{bare!r} has no comment"


def test_every_experiment_composes():
    for path in (CONF / "experiment").glob("*.yaml"):
        required = ["data=cldr", "eval=cldr"]
        assert plan(["-m", f"experiment={path.stem}", *required], CONF).jobs

"""What a job is made of: typed, checked once at start, immutable after.

The YAML files in ``conf/`` are composed by Hydra into one mapping; :func:`parse` turns it into a :class:`JobConfig`
and refuses unknown keys, wrong types and values out of range with the key as it is written on the command line.
Every key is described where its default is set, in ``conf/``.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union

from clirscale.errors import ConfigError, nearest

StageName = Literal["adapt", "contrast"]
SETTINGS = ("mono", "cross", "multi")
SECTIONS = ("data", "method", "backbone", "search", "budget", "contrast", "adapt", "trainer")


def _require(condition: bool, key: str, problem: str) -> None:
    if not condition:
        raise ConfigError(key, problem)


def _is_plain(name: str) -> bool:
    return bool(name) and not set(name) & set("/\\: ") and not name.startswith(".")


@dataclass(frozen=True)
class DataConfig:
    """The pool: ``source`` is a callable of ``clirscale.data`` by dotted name with its arguments."""

    name: str
    fraction: float
    languages: tuple[str, ...] | None
    source: Mapping[str, Any]

    def check(self, prefix: str) -> None:
        """Check ranges."""
        _require(0 < self.fraction <= 1, f"{prefix}.fraction", f"must be in (0, 1], is {self.fraction}")
        _require(self.languages != (), f"{prefix}.languages", "is empty; null takes all languages of the pool")
        check_source(self.source, f"{prefix}.source")


@dataclass(frozen=True)
class EvalConfig:
    """A benchmark and what is measured on it."""

    source: Mapping[str, Any]
    measures: tuple[str, ...]
    run_depth: int | None

    def check(self, prefix: str) -> None:
        """Check what needs no data; the retrieval room checks the measures."""
        check_source(self.source, f"{prefix}.source")
        _require(len(self.measures) > 0, f"{prefix}.measures", "is empty; name at least one, for example P@5")
        depth = self.run_depth
        _require(depth is None or depth >= 1, f"{prefix}.run_depth", f"must be at least 1, or null for all; is {depth}")


@dataclass(frozen=True)
class SearchConfig:
    """How passages are found: exactly, or through an approximate index of FAISS."""

    index: Literal["exact", "ivf", "hnsw", "sq"]
    sample: int
    seed: int

    def check(self, prefix: str) -> None:
        """Check ranges."""
        _require(self.sample >= 1, f"{prefix}.sample", f"must be at least 1 query, is {self.sample}")
        _require(0 <= self.seed < 2**32, f"{prefix}.seed", f"must be in [0, 2^32), is {self.seed}")


@dataclass(frozen=True)
class LeaksConfig:
    """What happens to training groups whose text or id is in an evaluation set of the job."""

    action: Literal["remove", "fail", "report"]


@dataclass(frozen=True)
class MethodConfig:
    """A training recipe: the stages in order and the share of monolingual batches in the contrastive one."""

    name: str
    stages: tuple[StageName, ...]
    alpha: float | None
    retriever: Literal["encoder", "bm25"] = "encoder"

    def check(self, prefix: str) -> None:
        """Check the order of the stages and alpha."""
        _require(
            self.stages in ((), ("contrast",), ("adapt", "contrast")),
            f"{prefix}.stages",
            f"must be [], [contrast] or [adapt, contrast], contrast being the last; is {list(self.stages)}",
        )
        if "contrast" in self.stages:
            _require(self.alpha is not None, f"{prefix}.alpha", "is missing: the share of monolingual batches, 0 to 1")
        if self.alpha is not None:
            _require(0 <= self.alpha <= 1, f"{prefix}.alpha", f"must be in [0, 1], is {self.alpha}")
        _require(self.retriever == "encoder" or not self.stages, f"{prefix}.stages", "must be []: bm25 is not trained")


@dataclass(frozen=True)
class BackboneConfig:
    """The pretrained encoder and the conventions that it was trained with."""

    name: str
    source: Literal["embedded", "hub", "local", "random"]
    model: str | None
    revision: str | None
    path: str | None
    layers: tuple[int, ...] | None
    freeze_embeddings: bool
    dropout: float | None
    pooling: Literal["mean", "cls", "pooler"]
    query_prefix: str
    passage_prefix: str
    max_query_length: int
    max_passage_length: int
    lr: float

    def check(self, prefix: str) -> None:
        """Check that the source has what it needs, and the lengths."""
        if self.source == "local":
            _require(
                self.path is not None, f"{prefix}.path", "is missing: a folder that transformers' save_pretrained wrote"
            )
        if self.source == "hub":
            _require(self.model is not None, f"{prefix}.model", "is missing: the model's name on the Hugging Face hub")
        if self.layers is not None:
            increasing = list(self.layers) == sorted(set(self.layers)) and len(self.layers) > 0
            _require(
                increasing and min(self.layers) >= 0,
                f"{prefix}.layers",
                f"must list layer numbers from 0, increasing; is {list(self.layers)}",
            )
        for key in ("max_query_length", "max_passage_length"):
            _require(getattr(self, key) >= 4, f"{prefix}.{key}", f"must be at least 4 tokens, is {getattr(self, key)}")
        if self.dropout is not None:
            _require(0 <= self.dropout < 1, f"{prefix}.dropout", f"must be in [0, 1), is {self.dropout}")
        _require(self.lr > 0, f"{prefix}.lr", f"must be above 0, is {self.lr}")


@dataclass(frozen=True)
class ContrastConfig:
    """The contrastive stage. It stands once, so that every method has the same."""

    batch_size: int
    lr: float
    weight_decay: float
    warmup: float
    temperature: float
    symmetric: bool
    max_grad_norm: float
    small_languages: Literal["error", "skip"]

    def check(self, prefix: str) -> None:
        """Check ranges."""
        _require(
            self.batch_size >= 2,
            f"{prefix}.batch_size",
            f"must be at least 2 (one pair has no negative), is {self.batch_size}",
        )
        _check_optimiser(self, prefix)
        _require(self.temperature > 0, f"{prefix}.temperature", f"must be above 0, is {self.temperature}")


@dataclass(frozen=True)
class AdaptConfig:
    """The masked-language-modelling stage of DAPT."""

    batch_size: int
    lr: float
    weight_decay: float
    warmup: float
    max_grad_norm: float
    mask_probability: float
    vocabulary: Literal["corpus", "all"]
    held_out: float

    def check(self, prefix: str) -> None:
        """Check ranges."""
        _require(self.batch_size >= 1, f"{prefix}.batch_size", f"must be at least 1, is {self.batch_size}")
        _check_optimiser(self, prefix)
        p = self.mask_probability
        _require(0 < p < 1, f"{prefix}.mask_probability", f"must be in (0, 1), is {p}")
        _require(0 < self.held_out < 1, f"{prefix}.held_out", f"must be in (0, 1), is {self.held_out}")


def _check_optimiser(config: ContrastConfig | AdaptConfig, prefix: str) -> None:
    _require(config.lr > 0, f"{prefix}.lr", f"must be above 0, is {config.lr}")
    _require(config.weight_decay >= 0, f"{prefix}.weight_decay", f"must not be negative, is {config.weight_decay}")
    _require(0 <= config.warmup < 1, f"{prefix}.warmup", f"is a share of the steps in [0, 1), is {config.warmup}")
    _require(config.max_grad_norm > 0, f"{prefix}.max_grad_norm", f"must be above 0, is {config.max_grad_norm}")


@dataclass(frozen=True)
class BudgetConfig:
    """What is held equal across fractions: epochs (each group as often) or steps (as many updates)."""

    name: str
    unit: Literal["epochs", "steps"]
    contrast: float
    adapt: float

    def check(self, prefix: str) -> None:
        """Check that there is something to do, and that steps are whole."""
        for key in ("contrast", "adapt"):
            amount = getattr(self, key)
            _require(amount > 0, f"{prefix}.{key}", f"must be above 0 {self.unit}, is {amount}")
            if self.unit == "steps":
                _require(float(amount).is_integer(), f"{prefix}.{key}", f"must be a whole number of steps, is {amount}")


@dataclass(frozen=True)
class TrainerConfig:
    """Resources and how numbers are computed; not part of a job's identity."""

    accelerator: str
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: int | None
    eval_batch_tokens: int
    cache_gb: float
    progress: bool

    def check(self, prefix: str) -> None:
        """Check ranges."""
        _require(
            self.threads is None or self.threads >= 1, f"{prefix}.threads", f"must be at least 1, is {self.threads}"
        )
        _require(
            self.eval_batch_tokens >= 512,
            f"{prefix}.eval_batch_tokens",
            f"must be at least 512, is {self.eval_batch_tokens}",
        )
        _require(self.cache_gb >= 0, f"{prefix}.cache_gb", f"must not be negative, is {self.cache_gb}")


@dataclass(frozen=True)
class JobConfig:
    """One point of a study."""

    study: str
    seed: int
    data: DataConfig
    method: MethodConfig
    backbone: BackboneConfig
    eval: Mapping[str, EvalConfig]
    search: SearchConfig
    leaks: LeaksConfig
    budget: BudgetConfig
    contrast: ContrastConfig
    adapt: AdaptConfig
    trainer: TrainerConfig
    logger: Mapping[str, Any]
    objective: str | None
    references: tuple[Literal["zero_shot", "bm25"], ...]
    save_model: bool
    output_dir: str
    report_dir: str

    def check(self) -> None:
        """Check every section.

        Raises:
            ConfigError: naming the first key that is wrong.
        """
        _require(_is_plain(self.study), "study", f"must be a plain folder name, is {self.study!r}")
        _require(0 <= self.seed < 2**32, "seed", f"must be in [0, 2^32), is {self.seed}")
        for section in SECTIONS:
            getattr(self, section).check(section)
        _require(len(self.eval) > 0, "eval", "names no benchmark; give one, or several: eval=[xquad_r,mlqa_r]")
        for name, benchmark in self.eval.items():
            _require(_is_plain(name), f"eval.{name}", "must be a plain folder name")
            benchmark.check(f"eval.{name}")
        if self.objective is not None:
            valid = [
                f"{name}/{setting}/{measure}"
                for name, benchmark in self.eval.items()
                for setting in SETTINGS
                for measure in benchmark.measures
            ]
            _require(self.objective in valid, "objective", f"is {self.objective!r}; {nearest(self.objective, valid)}")


def locate(source: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Return the callable that ``source["_target_"]`` names.

    Raises:
        ConfigError: there is no such callable.
    """
    target = source.get("_target_")
    _require(isinstance(target, str), f"{key}._target_", "is missing: the dotted name of a function")
    module_name, _, attribute = str(target).rpartition(".")
    try:
        found = getattr(__import__(module_name, fromlist=[attribute]), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_", f"cannot import {target!r}: {error}") from error
    _require(callable(found), f"{key}._target_", f"{target!r} is not callable")
    return typing.cast(Callable[..., Any], found)


def check_source(source: Mapping[str, Any], key: str) -> None:
    """Check the arguments in ``source`` against the signature of the callable that it names.

    Raises:
        ConfigError: an argument is unknown or a required one is missing.
    """
    parameters = inspect.signature(locate(source, key)).parameters
    for name in source.keys() - {"_target_"}:
        _require(name in parameters, f"{key}.{name}", f"is unknown; {nearest(name, parameters)}")
    for name, parameter in parameters.items():
        missing = source.get(name) is None and parameter.default is inspect.Parameter.empty
        _require(not missing, _user_key(key, name), "is missing; give it on the command line, KEY=VALUE")


def _user_key(key: str, name: str) -> str:
    # conf/ offers the arguments of a source one level up (data.path for data.source.path)
    return f"{key.removesuffix('.source')}.{name}"


def build(source: Mapping[str, Any], key: str) -> Any:
    """Call what ``source`` names with its arguments."""
    return locate(source, key)(**{name: value for name, value in source.items() if name != "_target_"})


T = TypeVar("T")


def parse(mapping: Mapping[str, Any], cls: type[T] = JobConfig, prefix: str = "") -> T:  # type: ignore[assignment]
    """Build and check a config dataclass from a plain mapping.

    Args:
        mapping: keys and values as YAML gives them.
        cls: the dataclass to build.
        prefix: where the mapping stands in the whole, for messages.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        _require(key in fields, f"{prefix}{key}", f"is unknown; {nearest(str(key), fields)}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        optional = field.default is not dataclasses.MISSING
        _require(field.name in mapping or optional, f"{prefix}{field.name}", "is missing")
    config = cls(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in mapping.items()})
    if not prefix and isinstance(config, JobConfig):
        config.check()
    return config


def _convert(value: Any, hint: Any, key: str) -> Any:
    """Return ``value`` as the type ``hint`` says, or raise a :class:`ConfigError`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(value, next(a for a in args if a is not type(None)), key)
    if dataclasses.is_dataclass(hint):
        _require(isinstance(value, Mapping), key, f"must be a section with keys, is {value!r}")
        return parse(value, typing.cast(type, hint), f"{key}.")
    if origin is Literal:
        _require(value in args, key, f"is {value!r}; {nearest(str(value), map(str, args))}")
        return value
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), key, f"must be a list such as [a,b], is {value!r}")
        return tuple(_convert(item, args[0], f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        _require(is_number, key, f"must be a number, is {value!r}")
        return float(value)
    if hint is int:
        _require(isinstance(value, int) and not isinstance(value, bool), key, f"must be a whole number, is {value!r}")
        return value
    if hint is bool:
        _require(isinstance(value, bool), key, f"must be true or false, is {value!r}")
        return value
    if hint is str:
        _require(isinstance(value, str), key, f"must be text, is {value!r}")
        return value
    _require(isinstance(value, Mapping), key, f"must be a section with keys, is {value!r}")
    if len(args) == 2 and dataclasses.is_dataclass(args[1]):
        return {str(name): _convert(item, args[1], f"{key}.{name}") for name, item in value.items()}
    return dict(value)

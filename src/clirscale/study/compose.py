"""From the command line to checked job configs, before anything runs. Knows Hydra, as does the entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clirscale.config import JobConfig, parse
from clirscale.errors import ConfigError, nearest
from clirscale.study.identity import identify

CONFIG_NAME = "config"


def job_config(cfg: DictConfig) -> JobConfig:
    """Return the checked config of a composed Hydra config (its ``hydra`` section is ignored).

    Raises:
        ConfigError: naming the key that is wrong.
    """
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]), resolve=True, throw_on_missing=True
        )
    except OmegaConfBaseException as error:
        raise ConfigError(str(error.full_key or "config"), str(error.msg or error)) from error
    assert isinstance(plain, dict)
    plain["data"] = _without_arguments(plain.get("data"))
    if isinstance(benchmarks := plain.get("eval"), dict):
        plain["eval"] = {name: _without_arguments(body) for name, body in benchmarks.items()}
    for key in ("benchmark_dir", "measures"):  # defaults that benchmarks interpolate
        plain.pop(key, None)
    return parse({str(key): value for key, value in plain.items()})


def _without_arguments(section: Any) -> Any:
    """Leave out a reader's arguments, which are offered one level up (data.path) and interpolated into its source."""
    if not isinstance(section, dict) or not isinstance(source := section.get("source"), dict):
        return section
    return {key: value for key, value in section.items() if key == "source" or key not in source}


def register_resolvers() -> None:
    """Register ``${job_folder:}``, the folder name that a job's axes and fingerprint give."""

    def job_folder(*, _root_: DictConfig) -> str:
        return identify(job_config(_root_)).folder

    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


@dataclass(frozen=True)
class Plan:
    """The jobs that a command line stands for."""

    jobs: tuple[JobConfig, ...]


def plan(argv: Sequence[str], conf: Path) -> Plan:
    """Compose and check every job of a command line.

    Args:
        argv: the arguments after ``train.py``.
        conf: the folder of YAML files.

    Raises:
        ConfigError: an unknown group, choice or key, with the nearest valid one, or a value that is refused.
    """
    args = get_args_parser().parse_args(list(argv))
    with initialize_config_dir(str(conf), version_base="1.3"):
        overrides = _parse_overrides(args.overrides)
        _check_choices(overrides, conf)
        if not args.multirun:
            return Plan((job_config(_compose(args.overrides, conf)),))
        fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()]
        master = _compose(fixed, conf, with_hydra=True)
        params = OmegaConf.select(master, "hydra.sweeper.params") or {}
        # The sweeper puts its own parameters first, so that the command line overrides a preset.
        lines = [f"{key}={value}" for key, value in params.items()] + list(args.overrides)
        jobs = [job_config(_compose(job, conf)) for job in _expand(_parse_overrides(lines))]
        return Plan(tuple(jobs))


def _expand(overrides: list[Override]) -> Iterator[list[str]]:
    for batch in BasicSweeper.split_arguments(overrides, max_batch_size=None):
        yield from batch


def _parse_overrides(lines: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(lines))
    except HydraException as error:
        raise ConfigError("command line", " ".join(str(error).split())) from error


def _choices(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _check_choices(overrides: list[Override], conf: Path) -> None:
    groups = {path.name for path in conf.iterdir() if path.is_dir()}
    for override in overrides:
        if override.key_or_group not in groups or override.is_delete():
            continue
        values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
        for value in values:
            names = value if isinstance(value, list) else [value]
            for name in names:
                if name is not None and str(name) not in _choices(conf, override.key_or_group):
                    raise ConfigError(
                        override.key_or_group,
                        f"there is no {name!r}; {nearest(str(name), _choices(conf, override.key_or_group))}",
                    )


def _compose(lines: Sequence[str], conf: Path, with_hydra: bool = False) -> DictConfig:
    try:
        return compose(CONFIG_NAME, overrides=list(lines), return_hydra_config=with_hydra)
    except MissingConfigException as error:
        raise ConfigError("command line", " ".join(str(error).split())) from error
    except ConfigCompositionException as error:
        raise _unknown_key(lines, conf) or ConfigError("command line", f"{error}: {error.__cause__}") from error


def _unknown_key(lines: Sequence[str], conf: Path) -> ConfigError | None:
    """Find the override whose key does not exist, and the nearest that does."""
    groups = {path.name for path in conf.iterdir() if path.is_dir()}
    overrides = _parse_overrides(lines)
    chosen = [o.input_line or "" for o in overrides if o.key_or_group in groups]
    known = compose(CONFIG_NAME, overrides=chosen)
    for override in overrides:
        if override.key_or_group in groups or override.is_add() or override.key_or_group.startswith("hydra"):
            continue
        parent: Any = known
        path = override.key_or_group.split(".")
        for depth, part in enumerate(path):
            if not isinstance(parent, DictConfig) or part not in parent:
                siblings = {*map(str, parent)} if isinstance(parent, DictConfig) else set()
                prefix = "".join(f"{p}." for p in path[:depth])
                names = [f"{prefix}{name}" for name in siblings | (groups if depth == 0 else set())]
                return ConfigError(
                    override.key_or_group, f"there is no such key; {nearest(override.key_or_group, names)}"
                )
            parent = parent._get_node(part)
    return None

"""The errors that a user can cause, each with a message that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClirscaleError(Exception):
    """Base of all errors whose message is written for the user; shown without a traceback."""


class ConfigError(ClirscaleError):
    """A configuration value is wrong. The message names the key as it is written on the command line."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class DataError(ClirscaleError):
    """An input file is missing or malformed. The message names the file and, where there is one, the line."""


class ModelError(ClirscaleError):
    """A backbone cannot be loaded. The message says how to fetch it."""


class TrainingError(ClirscaleError):
    """Training cannot start or go on (no batch can be filled, the loss is not finite)."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return "did you mean ...?" with the valid name nearest to ``name``, then the list of all.

    >>> nearest("hybird", ["hybrid", "mono"])
    "did you mean 'hybrid'? (one of: hybrid, mono)"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}(one of: {', '.join(names)})"

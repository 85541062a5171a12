"""The words: sentence templates of each language, checked when they are read, and how a fact is put into them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from clirscale.data.cldr.facts import RELATIONS, Fact, Name, Share, Value
from clirscale.data.cldr.names import Lexicon, lexicon
from clirscale.data.groups import Pair
from clirscale.errors import DataError, nearest

PARTS: Mapping[str, int] = {"train": 4, "test": 2, "passages": 3}
"""Number of templates of each part: questions for training, questions for the held-out task, passages."""

_FOLDER = Path(__file__).parent / "templates"
_SLOT = re.compile(r"\{(\w+)\}")
# What stands before a slot that begins a sentence: nothing or a full stop, then perhaps an opening mark.
_SENTENCE_START = re.compile(r"""(?:\A|[.!?…]["»”]?\s+)[¿¡«"„“‘(]*\Z""")


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one relation in one language."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    passages: tuple[str, ...]


@cache
def templates(lang: str) -> Mapping[str, Templates]:
    """Return the templates of a language by relation.

    Raises:
        DataError: see :func:`read_templates`.
    """
    return read_templates(_FOLDER / f"{lang}.yaml")


def read_templates(path: Path) -> Mapping[str, Templates]:
    """Read and check one language file.

    Raises:
        DataError: the file is missing, is not YAML, or a relation is missing, unknown, or has a template that is
            empty, repeated or names a slot that it must not name; the message says which.
    """
    try:
        # The C loader reads the files ten times faster, where libyaml is there.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: must have one section for each relation")
    for relation in content:
        if relation not in RELATIONS:
            raise DataError(f"{path}: {relation}: no such relation; {nearest(str(relation), RELATIONS)}")
    for relation in RELATIONS:
        if relation not in content:
            raise DataError(f"{path}: {relation}: the section is missing")
    return {relation: _checked(content[relation], relation, f"{path}: {relation}") for relation in RELATIONS}


def _checked(section: Any, relation: str, where: str) -> Templates:
    entity, *answers = RELATIONS[relation]
    if not isinstance(section, dict) or section.keys() != PARTS.keys():
        raise DataError(f"{where}: must have exactly the keys {', '.join(PARTS)}")
    for part, count in PARTS.items():
        lines = section[part]
        if not isinstance(lines, list) or len(lines) != count or not all(isinstance(line, str) for line in lines):
            raise DataError(f"{where}: {part} must be a list of {count} texts")
        for line in lines:
            expected = {entity, *answers} if part == "passages" else {entity}
            try:
                named = [name for _, name, _, _ in Formatter().parse(line) if name is not None]
            except ValueError as error:
                raise DataError(f"{where}: {part}: {line!r}: {error}; braces are for slots only") from error
            if set(named) != expected:
                slots = ", ".join(f"{{{slot}}}" for slot in sorted(expected))
                raise DataError(f"{where}: {part}: {line!r} must name {slots} and no other slot")
    questions = [*section["train"], *section["test"]]
    if len(set(questions)) < len(questions) or len(set(section["passages"])) < PARTS["passages"]:
        raise DataError(f"{where}: a template occurs twice")
    return Templates(**{part: tuple(section[part]) for part in PARTS})


def render(fact: Fact, lang: str, *, held_out: bool) -> Pair:
    """Put a fact into words.

    Args:
        fact: the fact.
        lang: one of :data:`~clirscale.data.cldr.names.LANGUAGES`.
        held_out: whether the question is worded as in the held-out task rather than as in training.
    """
    worded = templates(lang)[fact.relation]
    question = _choice(worded.test if held_out else worded.train, fact.group_id, lang, "question")
    passage = _choice(worded.passages, fact.group_id, lang, "passage")
    speaker = lexicon(lang)
    return Pair(_fill(question, fact.slots, speaker), _fill(passage, fact.slots, speaker))


def _choice(options: Sequence[str], *key: str) -> str:
    """Choose by a hash of the key, so that languages vary independently and every machine chooses alike."""
    digest = hashlib.blake2b("\n".join(key).encode(), digest_size=8).digest()
    return options[int.from_bytes(digest, "big") % len(options)]


def _fill(template: str, slots: Mapping[str, Value], speaker: Lexicon) -> str:
    def text(match: re.Match[str]) -> str:
        value = slots[match[1]]
        if isinstance(value, str):  # a code, a year or an autonym is quoted as it is
            return value
        words = _worded(value, speaker)
        return speaker.capitalised(words) if _SENTENCE_START.search(template[: match.start()]) else words

    return _SLOT.sub(text, template)


def _worded(value: Name | tuple[Name | Share, ...], speaker: Lexicon) -> str:
    if isinstance(value, Name):
        return speaker.name(value.kind, value.code)
    return speaker.joined(
        [
            speaker.share(speaker.name("language", item.language.code), item.percent)
            if isinstance(item, Share)
            else speaker.name(item.kind, item.code)
            for item in value
        ]
    )

"""Checkpoint folders in the layout of transformers: which files count, what is in them.

Weights are read from safetensors only: unpickling a ``pytorch_model.bin`` can run code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from clirscale.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def check(folder: Path) -> None:
    """Check that configuration, weights and tokenizer are all there.

    Raises:
        ModelError: naming the folder and what it lacks.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder.absolute()}: no such folder; backbone.path names one that save_pretrained wrote")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: has no {CONFIG}, so it is not a checkpoint in the layout of transformers")
    if not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        found = next(
            (name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json") if (folder / name).is_file()), None
        )
        if found is not None:
            raise ModelError(
                f"{folder}: has its weights in {found} only, a format that can run code when it is read. Convert it "
                'once, if you trust it: python -c "from transformers import AutoModelForMaskedLM as M; '
                "M.from_pretrained('DIR').save_pretrained('DIR')\""
            )
        raise ModelError(f"{folder}: has no {WEIGHTS}")
    for path in weight_files(folder):
        if not path.is_file():
            raise ModelError(f"{path}: missing, although {INDEX} lists it; fetch the checkpoint again")
    if not any(
        (folder / name).is_file() for name in TOKENIZER_FILES if not name.endswith(("_config.json", "_map.json"))
    ):
        raise ModelError(
            f"{folder}: has no tokenizer.json; save the tokenizer with save_pretrained into the same folder"
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint: one, or the shards of its index."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return [folder / name for name in sorted(set(index["weight_map"].values()))]


def content_files(folder: Path) -> list[Path]:
    """Return the files that determine what the checkpoint computes: configuration, tokenizer, weights."""
    named = [folder / name for name in (CONFIG, *TOKENIZER_FILES)]
    return [path for path in named if path.is_file()] + weight_files(folder)


def tensors(folder: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Return those of the named tensors that the checkpoint has, in float32."""
    wanted = set(names)
    return {name: tensor for path in weight_files(folder) for name, tensor in _read(path, wanted)}


def _read(path: Path, wanted: set[str]) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in wanted & set(file.keys()):
            yield name, file.get_tensor(name).to(torch.float32)

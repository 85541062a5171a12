"""From a backbone's config to a loaded encoder, and to the fingerprint of what it is made of."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from clirscale.config import BackboneConfig
from clirscale.errors import ConfigError, ModelError
from clirscale.models import checkpoint, embedded, hub, untrained
from clirscale.models.digest import file_digest
from clirscale.models.encoder import CONVENTIONS_FILE, DualEncoder


def load_encoder(config: BackboneConfig, seed: int = 0) -> DualEncoder:
    """Load a backbone, in float32 and in evaluation mode.

    Args:
        config: where it is and how it is used.
        seed: of the weights of ``source=random``; the others have theirs.

    Raises:
        ModelError: the checkpoint cannot be found, fetched or read, or lacks weights that ``config`` needs.
        ConfigError: layers, lengths or pooling do not fit the model, or not the way a saved encoder was trained.
    """
    folder = _locate(config)
    with_pooler = config.pooling == "pooler"
    if folder is None:
        model, tokenizer = untrained.build(seed, with_pooler)
    else:
        _check_conventions(folder, config)
        model, tokenizer = _load_model(folder, with_pooler), _load_tokenizer(folder, _tokenizer_digest(folder))
    if not torch.cuda.is_available():
        # On a CPU the fused kernel's backward pass costs 1.7 times the plain one, at 64 texts of 40 tokens in bf16.
        model.set_attn_implementation("eager")
    if config.dropout is not None:
        _set_dropout(model, config.dropout)
    if config.layers is not None:
        _keep_layers(model, config.layers)
    _check_lengths(model, config)
    if config.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    return DualEncoder(model, tokenizer, config, folder).eval()


def fingerprint(config: BackboneConfig) -> str:
    """Return the SHA-256 of what the weights and the tokenizer come from, without loading them.

    Files are hashed once in a process. For ``source=random`` it is the recipe; the seed is not in it.

    Raises:
        ModelError: the checkpoint cannot be found or fetched.
    """
    if config.source == "embedded":
        _check_embedded(config)
        parts: list[Any] = ["embedded", embedded.fingerprint()]
    elif (folder := _locate(config)) is None:
        parts = ["random", untrained.RECIPE]
    else:
        parts = ["files", _content(folder)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _locate(config: BackboneConfig) -> Path | None:
    """Return the complete checkpoint folder, None for ``source=random``."""
    if config.source == "random":
        return None
    if config.source == "embedded":
        _check_embedded(config)
        return embedded.checkpoint()
    if config.source == "hub":
        if config.model is None:
            raise ConfigError("backbone.model", "is missing: the model's name on the Hugging Face hub")
        return hub.snapshot(config.model, config.revision)
    if config.path is None:
        raise ConfigError("backbone.path", "is missing: a folder that transformers' save_pretrained wrote")
    folder = Path(config.path).expanduser()
    checkpoint.check(folder)
    return folder


def _check_embedded(config: BackboneConfig) -> None:
    if config.model not in (None, embedded.MODEL):
        raise ConfigError(
            "backbone.source", f"embedded has {embedded.MODEL} only, not {config.model}; use hub or local"
        )


def _content(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in checkpoint.content_files(folder)}


def _load_model(folder: Path, with_pooler: bool) -> Any:
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            options = _pooler_option(config, with_pooler)
            # transformers maps the files into memory: what is dropped later is never read.
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"{folder}: transformers cannot load it: {' '.join(str(error).split())}") from error
    missing = sorted(report["missing_keys"])
    if any("pooler" in key for key in missing):
        raise ModelError(
            f"{folder}: backbone.pooling=pooler, but the checkpoint has no pooler ({missing[0]}); "
            "use backbone.pooling=mean or cls"
        )
    if missing:
        raise ModelError(f"{folder}: the checkpoint lacks {len(missing)} weights of the model, such as {missing[0]}")
    return model.float()


def _pooler_option(config: Any, with_pooler: bool) -> dict[str, bool]:
    """Return the argument that adds or leaves out the pooler, for the architectures that have a choice."""
    architecture = transformers.MODEL_MAPPING.get(type(config), None)
    if architecture is not None and "add_pooling_layer" in inspect.signature(architecture.__init__).parameters:
        return {"add_pooling_layer": with_pooler}
    if with_pooler:
        raise ConfigError("backbone.pooling", f"{config.model_type} models have no pooler; use mean or cls")
    return {}


@lru_cache(maxsize=4)
def _load_tokenizer(folder: Path, digest: str) -> Any:
    """Load a tokenizer, once in a process as long as its files stay the same: 250,000 pieces take a second."""
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises no narrower one
        raise ModelError(f"{folder}: transformers cannot load the tokenizer: {' '.join(str(error).split())}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: has no fast tokenizer (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no padding piece; set pad_token in tokenizer_config.json")
    return tokenizer


def _tokenizer_digest(folder: Path) -> str:
    weights = {path.name for path in checkpoint.weight_files(folder)}
    return json.dumps({name: digest for name, digest in _content(folder).items() if name not in weights})


def _keep_layers(model: Any, layers: tuple[int, ...]) -> None:
    stack = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList):
        raise ConfigError(
            "backbone.layers", f"layers cannot be chosen from a {model.config.model_type} model; use null"
        )
    if layers[-1] >= len(stack):
        raise ConfigError(
            "backbone.layers", f"the model has {len(stack)} layers, 0 to {len(stack) - 1}; asked for {list(layers)}"
        )
    model.encoder.layer = nn.ModuleList(stack[i] for i in layers)
    model.config.num_hidden_layers = len(layers)


def _set_dropout(model: Any, share: float) -> None:
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(model.config, name):
            setattr(model.config, name, share)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def _check_lengths(model: Any, config: BackboneConfig) -> None:
    positions = model.config.max_position_embeddings
    padding = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    if padding is not None:  # RoBERTa and XLM-R count positions from the one after the padding id
        positions -= padding + 1
    for key in ("max_query_length", "max_passage_length"):
        if getattr(config, key) > positions:
            raise ConfigError(f"backbone.{key}", f"the model has {positions} positions; is {getattr(config, key)}")


def _check_conventions(folder: Path, config: BackboneConfig) -> None:
    """Refuse to use an encoder that this program saved in another way than it was trained."""
    try:
        saved = json.loads((folder / CONVENTIONS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    differing = {key: value for key, value in saved.items() if getattr(config, key) != value}
    if differing:
        flags = " ".join(
            f"\"backbone.{key}='{value}'\"" if isinstance(value, str) else f"backbone.{key}={value}"
            for key, value in differing.items()
        )
        raise ConfigError(
            f"backbone.{next(iter(differing))}",
            f"the encoder in {folder} was saved with other conventions; add {flags}, or delete its {CONVENTIONS_FILE}",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its report of unused weights, which are expected here."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()

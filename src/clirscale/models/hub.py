"""Checkpoints of the Hugging Face hub, through its local cache."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from clirscale.errors import ModelError
from clirscale.models import checkpoint

log = logging.getLogger(__name__)

FILES = [checkpoint.CONFIG, *checkpoint.TOKENIZER_FILES, checkpoint.INDEX, checkpoint.WEIGHTS, "model-*.safetensors"]
TIMEOUT = 10.0  # seconds for the hub's first answer


@lru_cache(maxsize=16)
def snapshot(model: str, revision: str | None) -> Path:
    """Return the folder of a model in the local cache of the hub, and fetch what is missing.

    A revision that is a full commit hash and complete in the cache needs no network. Any other revision is resolved
    with the hub once in a process, so that all jobs of a sweep use the same one; without a network the cached one
    is used.

    Args:
        model: name on the hub, ``organisation/name``.
        revision: commit hash, tag or branch; None for the main branch.

    Raises:
        ModelError: the model is unknown, needs a login, has no safetensors, or the hub cannot be reached and the
            model is not in the cache.
    """
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) and (cached := _cached(model, revision)):
        return cached
    try:
        # One request without retries, so that a machine without a network knows at once.
        huggingface_hub.HfApi().model_info(model, revision=revision, timeout=TIMEOUT)
    except GatedRepoError as error:
        raise ModelError(
            f"{model}: the hub gives it to registered users only; hf auth login, after asking on its page"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{model}: the hub has no such model, or it is private (then: hf auth login)") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{model}: the hub has no revision {revision!r} of it") from error
    except Exception as error:  # whatever the hub's HTTP client raises; it differs between its releases
        if cached := _cached(model, revision):
            log.info("%s: the hub is out of reach; using %s", model, cached)
            return cached
        raise ModelError(_unreachable(model, revision, error)) from error
    try:
        folder = Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=FILES))
    except Exception as error:
        raise ModelError(
            f"{model}: the download failed ({_first_line(error)}); run the same line again to go on"
        ) from error
    checkpoint.check(folder)
    return folder


def _cached(model: str, revision: str | None) -> Path | None:
    """Return the folder of the cached snapshot if it is complete."""
    try:
        folder = Path(
            huggingface_hub.snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=FILES)
        )
        checkpoint.check(folder)
    except (OSError, ValueError, ModelError):
        return None
    return folder


def _unreachable(model: str, revision: str | None, error: Exception) -> str:
    pinned = f" --revision {revision}" if revision else ""
    files = "config.json tokenizer.json tokenizer_config.json model.safetensors"
    return (
        f"{model} is not in the local cache ({huggingface_hub.constants.HF_HUB_CACHE}) and the Hugging Face hub cannot "
        f"be reached ({_first_line(error)}). On a machine with a network: hf download {model} {files}{pinned} "
        "--local-dir DIR; then copy DIR here and add backbone.source=local backbone.path=DIR. Or, without --local-dir, "
        "copy that machine's cache (~/.cache/huggingface, or HF_HOME) here and set HF_HUB_OFFLINE=1."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Texts to vectors: each distinct text once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from clirscale.errors import ClirscaleError, ConfigError, nearest
from clirscale.retrieval.store import LOCK, EmbeddingStore, Hashes, Vectors, hash_texts

if TYPE_CHECKING:
    from clirscale.models.encoder import DualEncoder

_AUTOCAST: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
Role = Literal["query", "passage"]


class Embedder:
    """Embeds texts with one encoder and keeps the vectors, so that a text that comes again is not embedded again.

    Texts are taken in chunks. The distinct ones of a chunk that are new are brought into batches by length, so that
    these hold little padding and do not depend on the order of the texts. A text's vector can differ in its last bits
    with the texts that share its batch, and so with what was there before.

    Args:
        encoder: evaluated without dropout, on ``device``.
        folder: under which vectors are kept for other jobs; None keeps them in a temporary folder until :meth:`close`.
        batch_tokens: the most tokens of a batch, padding included; a longer text makes a batch of its own.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        device: where to compute.
        progress: show a progress bar.
        chunk: how many texts are in memory at a time.

    Raises:
        ConfigError: the precision has another name.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        *,
        folder: Path | None,
        batch_tokens: int,
        precision: str,
        device: torch.device | str,
        progress: bool,
        chunk: int = 100_000,
    ) -> None:
        if precision not in _AUTOCAST:
            raise ConfigError("trainer.precision", f"is {precision!r}; {nearest(precision, _AUTOCAST)}")
        self._encoder, self._batch_tokens, self._precision = encoder, batch_tokens, precision
        self._device, self._progress, self._chunk = torch.device(device), progress, chunk
        self._stack = ExitStack()
        self._keep = folder is not None
        if folder is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="clirscale-")))
        else:
            self._folder = folder / model_fingerprint(encoder)
        self._stores: dict[str, EmbeddingStore] = {}
        self.texts_embedded = 0
        self.texts_reused = 0

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget what is not kept; vectors that :meth:`embed` gave can no longer be read then."""
        self._stores.clear()
        self._stack.close()

    def embed(self, texts: Iterable[str], role: Role, label: str, ids: Sequence[Any]) -> Vectors:
        """Embed texts.

        Args:
            texts: any number; consumed once, a chunk at a time.
            role: which prefix and maximum length apply.
            label: of the progress bar.
            ids: of the texts, for the bar and for messages.

        Returns:
            Their vectors, in order, read from disk when they are asked for.

        Raises:
            ClirscaleError: a vector is zero or not finite, or vectors cannot be kept.
        """
        store = self._store(role)
        remaining, hashes, offset = iter(texts), [], 0
        # Another job that embeds with the same encoder goes first, and its vectors are found here.
        with FileLock(store.folder / LOCK), self._bar(label, len(ids)) as advance:
            store.refresh()
            while chunk := list(islice(remaining, self._chunk)):
                found = hash_texts(chunk)
                self._add_missing(store, chunk, found, role, ids[offset : offset + len(chunk)], advance)
                hashes.append(found)
                offset += len(chunk)
        return store.vectors(np.concatenate(hashes) if hashes else np.empty((0, 2), dtype=np.uint64))

    def _add_missing(
        self,
        store: EmbeddingStore,
        texts: Sequence[str],
        hashes: Hashes,
        role: Role,
        ids: Sequence[Any],
        advance: Callable[[int], None],
    ) -> None:
        missing = np.flatnonzero(store.missing(hashes))
        _, first = np.unique(hashes[missing], axis=0, return_index=True)
        rows = missing[np.sort(first)]
        self.texts_embedded += len(rows)
        self.texts_reused += len(texts) - len(rows)
        advance(len(texts) - len(rows))
        if not len(rows):
            return
        vectors = self._compute([texts[row] for row in rows], role, advance)
        norms = np.linalg.norm(vectors, axis=1)
        bad = rows[~np.isfinite(norms) | (norms == 0)]
        if len(bad):
            names = ", ".join(str(ids[int(row)]) for row in bad[:5])
            raise ClirscaleError(
                f"{len(bad)} of {len(rows)} embeddings are zero or not finite numbers: {names}{' …' * (len(bad) > 5)}. "
                "Training diverged, or 16-mixed overflows: lower contrast.lr, or use trainer.precision=32-true"
            )
        store.add(hashes[rows], vectors)

    def _compute(self, texts: Sequence[str], role: Role, advance: Callable[[int], None]) -> npt.NDArray[np.float32]:
        encoder, dtype = self._encoder, _AUTOCAST[self._precision]
        tokens = encoder.tokenize(texts, role)
        order = sorted(range(len(texts)), key=lambda i: (-len(tokens[i]), texts[i]))
        vectors = np.empty((len(texts), encoder.dim), dtype=np.float32)
        was_training = encoder.training
        encoder.to(self._device).eval()
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
                for batch in _batches(order, [len(t) for t in tokens], self._batch_tokens):
                    inputs = encoder.collate([tokens[i] for i in batch])
                    output = encoder(**{name: tensor.to(self._device) for name, tensor in inputs.items()})
                    vectors[batch] = output.float().cpu().numpy()
                    advance(len(batch))
        finally:
            encoder.train(was_training)
        return vectors

    def _store(self, role: Role) -> EmbeddingStore:
        """Return the store of what determines a text's vector beside the encoder; roles that do not differ share it."""
        config = self._encoder.config
        how = [getattr(config, f"{role}_prefix"), getattr(config, f"max_{role}_length"), self._precision]
        key = hashlib.sha256(json.dumps(how).encode()).hexdigest()[:16]
        if key not in self._stores:
            self._stores[key] = EmbeddingStore(self._folder / key, self._encoder.dim)
        return self._stores[key]

    @contextmanager
    def _bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = (TextColumn("embedding {task.description}"), BarColumn(), MofNCompleteColumn(), _TextsPerSecond())
        with Progress(*columns, TimeRemainingColumn(), disable=not self._progress, transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda n: progress.advance(task, n)


class _TextsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} texts/s" if speed else "", style="progress.data.speed")


def model_fingerprint(encoder: DualEncoder) -> str:
    """Return the SHA-256 of weights, tokenizer and pooling: of all that determines a vector but prefix and length."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    tokenizer = encoder.tokenizer.backend_tokenizer
    tokenizer.no_truncation()  # a state that the last call left behind
    digest.update(tokenizer.to_str().encode())
    digest.update(encoder.config.pooling.encode())
    return digest.hexdigest()[:32]


def _batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Cut ``order``, longest first, into batches of at most ``batch_tokens`` tokens with padding."""
    begin = 0
    while begin < len(order):
        size = max(1, batch_tokens // max(1, lengths[order[begin]]))
        yield list(order[begin : begin + size])
        begin += size

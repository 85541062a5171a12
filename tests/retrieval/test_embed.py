import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from clirscale.errors import ConfigError
from clirscale.retrieval.embed import embed


class TinyEncoder(nn.Module):
    """Mean of character vectors; remembers the batches that it saw."""

    dim = 8

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(128, self.dim)
        self.linear = nn.Linear(self.dim, self.dim)
        self.dropout = nn.Dropout(0.5)
        self.tokenized, self.shapes, self.batches, self.linear_dtypes = [], [], [], []
        with torch.no_grad():
            self.table.weight.copy_(torch.randn(128, self.dim, generator=torch.Generator().manual_seed(0)))

    def tokenize(self, texts, role):
        self.tokenized += texts
        return [[ord(c) % 127 + 1 for c in f"{role[0]}:{text}"] for text in texts]

    def collate(self, token_ids):
        width = max(map(len, token_ids))
        ids = torch.tensor([t + [0] * (width - len(t)) for t in token_ids])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def forward(self, input_ids, attention_mask):
        assert torch.is_inference_mode_enabled()
        self.shapes.append(tuple(input_ids.shape))
        self.batches.append(input_ids.tolist())
        mask = attention_mask.unsqueeze(-1)
        mean = (self.table(input_ids) * mask).sum(1) / mask.sum(1)
        hidden = self.linear(self.dropout(mean))
        self.linear_dtypes.append(hidden.dtype)
        return nn.functional.normalize(hidden.float(), dim=-1)


def run(texts, encoder=None, role="query", **kwargs):
    options = {"batch_tokens": 64, "precision": "32-true", "device": "cpu", "progress": False} | kwargs
    torch.manual_seed(0)
    return embed(encoder or TinyEncoder(), texts, role, **options)


texts = st.lists(st.text("abc ", max_size=40), max_size=30)


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(1, 200), st.randoms(use_true_random=False))
def test_order_and_batches_do_not_matter(texts, batch_tokens, rng):
    vectors = run(texts, batch_tokens=batch_tokens)
    assert vectors.shape == (len(texts), TinyEncoder.dim)
    assert vectors.dtype == np.float32
    order = rng.sample(range(len(texts)), len(texts))
    np.testing.assert_array_equal(run([texts[i] for i in order], batch_tokens=batch_tokens), vectors[order])
    alone = [run([text])[0] for text in texts]
    np.testing.assert_allclose(vectors, np.reshape(alone, vectors.shape), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(8, 200))
def test_batches_fit_the_budget_and_each_distinct_text_is_embedded_once(texts, batch_tokens):
    encoder = TinyEncoder()
    run(texts, encoder, batch_tokens=batch_tokens)
    assert all(n * width <= batch_tokens or n == 1 for n, width in encoder.shapes)
    assert sorted(encoder.tokenized) == sorted(set(texts))
    assert sum(n for n, _ in encoder.shapes) == len(set(texts))


def test_batches_are_of_similar_length():
    encoder = TinyEncoder()
    run(["x" * n for n in (1, 30, 2, 29, 3, 28)], encoder, batch_tokens=100)  # 2 more tokens for the role
    assert encoder.shapes == [(3, 32), (3, 5)]


def test_batches_do_not_depend_on_the_order_of_texts():
    encoders = TinyEncoder(), TinyEncoder()
    texts = [a + b for a in "abcd" for b in "efgh"]  # all of one length
    run(texts, encoders[0], batch_tokens=20)
    run(texts[::-1], encoders[1], batch_tokens=20)
    assert encoders[0].batches == encoders[1].batches
    assert len(encoders[0].batches) == 4


def test_the_role_matters():
    assert not np.allclose(run(["a"], role="query"), run(["a"], role="passage"))


def test_no_dropout_and_the_mode_is_restored():
    encoder = TinyEncoder().train()
    np.testing.assert_array_equal(run(["a", "b"], encoder), run(["a", "b"], encoder))
    assert encoder.training
    encoder.eval()
    run(["a"], encoder)
    assert not encoder.training


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision(precision, dtype):
    encoder = TinyEncoder()
    vectors = run(["abc", "b"], encoder, precision=precision)
    assert set(encoder.linear_dtypes) == {dtype}
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, run(["abc", "b"], encoder), atol=0.02)


def test_unknown_precision():
    with pytest.raises(ConfigError, match=r"^trainer\.precision: is 'bf16-mixd'; did you mean 'bf16-mixed'"):
        run(["a"], precision="bf16-mixd")


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_when_asked(monkeypatch, progress):
    screen = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("rich.progress.get_console", lambda: screen)
    run(["a"], progress=progress)
    assert ("embedding query texts" in screen.file.getvalue()) == progress

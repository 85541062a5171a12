import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from clirscale.errors import ClirscaleError, ConfigError
from clirscale.retrieval.embed import Embedder, model_fingerprint


class TinyEncoder(nn.Module):
    """Mean of character vectors; remembers the batches that it saw."""

    dim = 8

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(
            query_prefix="q:", passage_prefix="p:", max_query_length=64, max_passage_length=64, pooling="mean"
        )
        backend = SimpleNamespace(no_truncation=lambda: None, to_str=lambda: "characters")
        self.tokenizer = SimpleNamespace(backend_tokenizer=backend)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.table = nn.Embedding(128, self.dim)
            self.linear = nn.Linear(self.dim, self.dim)
        self.dropout = nn.Dropout(0.5)
        self.tokenized, self.shapes, self.batches, self.linear_dtypes = [], [], [], []

    def tokenize(self, texts, role):
        self.tokenized += texts
        prefix = getattr(self.config, f"{role}_prefix")
        return [[ord(c) % 127 + 1 for c in f"{prefix}{text}"] for text in texts]

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


def embedder(encoder=None, **kwargs):
    options = {"folder": None, "batch_tokens": 64, "precision": "32-true", "device": "cpu", "progress": False} | kwargs
    return Embedder(encoder or TinyEncoder(), **options)


def run(texts, encoder=None, role="query", **kwargs):
    with embedder(encoder, **kwargs) as made:
        return made.embed(texts, role, f"{role} texts", range(len(texts)))[:]


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


def test_the_role_matters_where_its_prefix_or_length_does():
    encoder = TinyEncoder()
    with embedder(encoder) as made:
        assert not np.allclose(*(made.embed(["a"], role, "", [0])[:] for role in ("query", "passage")))
    encoder.config.passage_prefix = encoder.config.query_prefix
    with embedder(encoder) as made:
        for role in ("query", "passage"):
            made.embed(["a"], role, "", [0])
        assert (made.texts_embedded, made.texts_reused) == (1, 1)


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


def test_each_distinct_text_once_over_benchmarks_and_chunks():
    encoder = TinyEncoder()
    with embedder(encoder, chunk=3) as made:
        first = made.embed(iter("abcabd"), "query", "one", range(6))
        second = made.embed(iter("dae"), "query", "two", range(3))
        assert encoder.tokenized == list("abcde")
        assert (made.texts_embedded, made.texts_reused) == (5, 4)
        np.testing.assert_allclose(first[:], run(list("abcabd")), atol=1e-6)
        np.testing.assert_array_equal(second[np.array([1, 0])], first[np.array([0, 5])])
        np.testing.assert_array_equal(first[2:4], first[:][2:4])


def test_no_text():
    assert run([]).shape == (0, 8)


def test_what_is_kept_is_found_again_without_the_encoder(tmp_path):
    fresh = run(["a", "bc"], folder=tmp_path)
    encoder = TinyEncoder()
    np.testing.assert_array_equal(run(["bc", "a"], encoder, folder=tmp_path), fresh[::-1])
    assert encoder.shapes == []


@pytest.mark.parametrize("change", ["weights", "prefix", "length", "precision", "pooling", "tokenizer"])
def test_what_changes_vectors_is_not_mixed_up(tmp_path, change):
    first, second = TinyEncoder(), TinyEncoder()
    options = {}
    if change == "weights":
        with torch.no_grad():
            second.linear.bias[0] += 1e-3
    elif change == "prefix":
        second.config.query_prefix = "Q:"
    elif change == "length":
        second.config.max_query_length = 32
    elif change == "pooling":
        second.config.pooling = "cls"
    elif change == "tokenizer":
        second.tokenizer.backend_tokenizer.to_str = lambda: "others"
    else:
        options = {"precision": "bf16-mixed"}
    run(["a"], first, folder=tmp_path)
    run(["a"], second, folder=tmp_path, **options)
    assert second.tokenized == ["a"]


def test_fingerprint_is_that_of_the_weights():
    first, second = TinyEncoder(), TinyEncoder()
    assert model_fingerprint(first) == model_fingerprint(second)
    with torch.no_grad():
        second.table.weight[3, 3] += 1e-6
    assert model_fingerprint(first) != model_fingerprint(second)


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_vectors_that_are_zero_or_not_finite_name_their_texts(bad):
    class Broken(TinyEncoder):
        def forward(self, input_ids, attention_mask):
            vectors = super().forward(input_ids, attention_mask)
            vectors[(input_ids == ord("x") + 1).any(dim=1)] = bad
            return vectors

    texts, ids = ["a", "x", "b", "xx", "x"], ["p0", "p1", "p2", "p3", "p4"]
    message = r"2 of 4 embeddings are zero or not finite numbers: p1, p3\. Training diverged"
    with embedder(Broken()) as made, pytest.raises(ClirscaleError, match=message):
        made.embed(texts, "passage", "", ids)

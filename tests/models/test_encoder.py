"""Prefixes, truncation, padding, pooling and saving of the dual encoder."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.errors import ConfigError
from clirscale.models.backbone import load_encoder

from .conftest import TEXTS, config, write_checkpoint


@pytest.fixture(scope="module")
def tiny():
    return load_encoder(config())


def embed(encoder, texts=TEXTS, role="query"):
    with torch.inference_mode():
        return encoder(**encoder.collate(encoder.tokenize(texts, role)))


@pytest.mark.parametrize("role", ["query", "passage"])
def test_prefix_stands_before_the_text(tiny, role):
    (ids,) = tiny.tokenize(["où?"], role)
    assert tiny.tokenizer.decode(ids) == f"<s>{role}: où?</s>"


@given(text=st.text(max_size=60).filter(lambda text: "<" not in text))  # "<s>" is a special piece, wherever it stands
@settings(deadline=None)
def test_any_text_is_cut_to_its_role_and_keeps_prefix_and_separators(tiny, text):
    for role, limit in (("query", 40), ("passage", 80)):
        (ids,) = tiny.tokenize([text], role)
        full = f"{role}: {text}".encode()
        assert len(ids) == min(limit, len(full) + 2)
        assert ids[0] == tiny.tokenizer.bos_token_id
        assert ids[-1] == tiny.tokenizer.eos_token_id
        if len(full) + 2 <= limit:
            assert tiny.tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False) == full.decode()


def test_no_texts_give_no_tokens(tiny):
    assert tiny.tokenize([], "query") == []


def test_collate_pads_on_the_right(tiny):
    pad = tiny.tokenizer.pad_token_id
    batch = tiny.collate([[0, 9, 2], [0, 8, 7, 6, 2]])
    assert batch["input_ids"].tolist() == [[0, 9, 2, pad, pad], [0, 8, 7, 6, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_padding_does_not_change_an_embedding(tmp_path, architecture, pooling):
    write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(config(source="local", path=str(tmp_path), pooling=pooling))
    together = embed(encoder)
    alone = torch.cat([embed(encoder, [text]) for text in TEXTS])
    assert torch.allclose(together, alone, atol=1e-6)
    assert together.shape == (len(TEXTS), encoder.dim)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@torch.no_grad()
def test_pooling_is_what_its_definition_says(tmp_path, architecture, pooling):
    """Against a text at a time through the model as it was before it was saved, and arithmetic by hand."""
    model = write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(config(source="local", path=str(tmp_path), pooling=pooling))
    vectors = embed(encoder, role="passage")
    for ids, vector in zip(encoder.tokenize(TEXTS, "passage"), vectors, strict=True):
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = {
            "mean": sum(hidden) / len(hidden),
            "cls": hidden[0],
            "pooler": torch.tanh(model.pooler.dense.weight @ hidden[0] + model.pooler.dense.bias),
        }[pooling]
        assert torch.allclose(vector, expected / expected.square().sum().sqrt(), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_under_bf16_autocast_the_output_is_float32_and_normalised(pooling):
    encoder = load_encoder(config(pooling=pooling))
    exact = embed(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = embed(encoder)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)
    assert (vectors * exact).sum(dim=1).min() > 0.999
    assert not torch.equal(vectors, exact)  # autocast was at work


def test_a_double_encoder_gives_double():
    encoder = load_encoder(config()).double()
    assert embed(encoder).dtype == torch.float64


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_save_and_reload_gives_the_same_embeddings_bit_by_bit(tmp_path, architecture, pooling):
    write_checkpoint(tmp_path / "published", architecture)
    how = {"pooling": pooling, "query_prefix": "Q> "}
    encoder = load_encoder(config(source="local", path=str(tmp_path / "published"), layers=(0, 2), **how))
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight.mul_(1.5)
    before = embed(encoder)
    encoder.save(tmp_path / "saved")
    reloaded = load_encoder(config(source="local", path=str(tmp_path / "saved"), **how))
    assert torch.equal(embed(reloaded), before)
    assert reloaded.backbone.config.num_hidden_layers == 2


def test_save_overwrites_the_folder_that_it_was_loaded_from(tmp_path):
    load_encoder(config()).save(tmp_path)
    encoder = load_encoder(config(source="local", path=str(tmp_path)))
    before = embed(encoder)
    encoder.save(tmp_path)
    assert torch.equal(embed(encoder), before)
    assert torch.equal(embed(load_encoder(config(source="local", path=str(tmp_path)))), before)
    assert not list(tmp_path.glob(".saving-*"))


def test_saved_tokenizer_does_not_depend_on_what_was_tokenised_last(tmp_path):
    encoder = load_encoder(config())
    for role in ("query", "passage"):
        encoder.tokenize(["x" * 200], role)
        encoder.save(tmp_path / role)
    query, passage = ((tmp_path / role / "tokenizer.json").read_bytes() for role in ("query", "passage"))
    assert query == passage
    assert json.loads(query)["truncation"] is None


def test_a_saved_encoder_is_refused_under_other_conventions(tmp_path):
    load_encoder(config(pooling="cls", query_prefix="Q: ")).save(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_encoder(config(source="local", path=str(tmp_path)))
    assert caught.value.key == "backbone.pooling"
    assert "\"backbone.pooling='cls'\" \"backbone.query_prefix='Q: '\"," in str(caught.value)

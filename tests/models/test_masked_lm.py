"""The masked language model against transformers' own, on the same weights."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from clirscale.models.backbone import load_encoder
from clirscale.models.masked_lm import IGNORED, MaskedLM

from .conftest import config, write_checkpoint
from .test_encoder import embed

HEADS = {  # names of our head's parameters in transformers' models
    "bert": {
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.bias": "cls.predictions.bias",
        "backbone": "bert",
    },
    "xlm-roberta": {
        "head.dense": "lm_head.dense",
        "head.norm": "lm_head.layer_norm",
        "head.bias": "lm_head.bias",
        "backbone": "roberta",
    },
}


def batch(seed=0, n=5, length=12, probability=0.3, pieces=261):
    """Random ids with padding at some ends, and labels."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, pieces, (n, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 7:] = 0
    input_ids[attention_mask == 0] = 1
    chosen = (torch.rand(input_ids.shape, generator=generator) < probability) & (attention_mask == 1)
    labels = input_ids.masked_fill(~chosen, IGNORED)
    return {"input_ids": input_ids.masked_fill(chosen, 4), "attention_mask": attention_mask, "labels": labels}


def theirs(architecture, name):
    for ours, prefix in HEADS[architecture].items():
        if name.startswith(ours):
            return prefix + name.removeprefix(ours)
    raise KeyError(name)


@pytest.mark.parametrize("frozen", [False, True])
def test_loss_and_gradients_equal_those_of_the_full_head(tmp_path, architecture, frozen):
    reference = write_checkpoint(tmp_path, architecture, masked_lm=True).double()
    encoder = load_encoder(config(source="local", path=str(tmp_path), freeze_embeddings=frozen)).double()
    model = MaskedLM.from_encoder(encoder)
    reference.get_input_embeddings().weight.requires_grad_(not frozen)
    inputs = batch()
    expected = reference(**inputs).loss
    loss, count = model(**inputs)
    assert count == int((inputs["labels"] != IGNORED).sum())
    assert loss.dtype == torch.float64
    assert torch.allclose(loss, expected, rtol=0, atol=1e-10)
    loss.backward()
    expected.backward()
    parameters = dict(reference.named_parameters(remove_duplicate=False))
    compared = 0
    for name, parameter in model.named_parameters():
        gradient = parameters[theirs(architecture, name)].grad
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            assert torch.allclose(parameter.grad, gradient, rtol=0, atol=1e-10), name
            compared += gradient.abs().max() > 1e-6
    assert compared > 40


@pytest.mark.parametrize("vocabulary", [None, torch.arange(5, 100)])
def test_nothing_masked_is_a_zero_loss_with_zero_gradients(vocabulary):
    model = MaskedLM.from_encoder(load_encoder(config()), vocabulary)
    loss, count = model(**batch(probability=0.0))
    assert (loss.item(), count) == (0.0, 0)
    loss.backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(gradient is not None and bool((gradient == 0).all()) for gradient in gradients)


@given(seed=st.integers(0, 1000), size=st.integers(2, 256))
@settings(deadline=None, max_examples=20)
def test_restricted_softmax_is_the_full_one_given_the_vocabulary(seed, size):
    encoder = load_encoder(config()).double()
    generator = torch.Generator().manual_seed(seed)
    vocabulary = 5 + torch.randperm(256, generator=generator)[:size]
    inputs = batch(seed)
    chosen = inputs["labels"] != IGNORED
    inputs["labels"][chosen] = vocabulary[torch.randint(size, (int(chosen.sum()),), generator=generator)]
    full = MaskedLM.from_encoder(encoder)
    torch.nn.init.normal_(full.head.bias, generator=generator)
    restricted = MaskedLM(encoder.backbone, full.head, vocabulary)

    with torch.no_grad():
        hidden = encoder.backbone(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state[chosen]
        logits = full.head(hidden) @ encoder.backbone.get_input_embeddings().weight.T + full.head.bias
        probabilities = logits.softmax(dim=1)
        of_label = probabilities.gather(1, inputs["labels"][chosen][:, None])[:, 0]
        expected = -(of_label / probabilities[:, vocabulary].sum(dim=1)).log().mean()
    loss, _ = restricted(**inputs)
    assert torch.allclose(loss, expected, atol=1e-10)


def test_a_vocabulary_of_all_pieces_changes_nothing():
    encoder = load_encoder(config()).double()
    full = MaskedLM.from_encoder(encoder)
    same = MaskedLM(encoder.backbone, full.head, torch.randperm(261))
    assert torch.allclose(full(**batch())[0], same(**batch())[0], atol=1e-12)


def test_a_label_outside_the_vocabulary_is_refused():
    model = MaskedLM.from_encoder(load_encoder(config()), torch.arange(5, 10))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model(**batch())


def test_training_adapts_the_encoder_in_place():
    encoder = load_encoder(config(freeze_embeddings=True))
    model = MaskedLM.from_encoder(encoder)
    assert model.backbone is encoder.backbone
    before, words = embed(encoder), encoder.backbone.get_input_embeddings().weight.clone()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(40):
        loss, _ = model(**batch())
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.allclose(embed(encoder), before, atol=1e-3)
    assert torch.equal(encoder.backbone.get_input_embeddings().weight, words)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_a_fresh_head_starts_near_guessing_and_from_the_hidden_states(tmp_path, architecture, scale):
    """Whatever the length of the word embeddings."""
    write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(config(source="local", path=str(tmp_path)))
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight.mul_(scale)
    model = MaskedLM.from_encoder(encoder)
    assert model(**batch())[0].item() < math.log(261) + 1
    assert torch.equal(model.head.dense.weight, torch.eye(encoder.dim))
    assert torch.equal(model.head.bias, torch.zeros(261))
    hidden = torch.randn(50, encoder.dim, generator=torch.Generator().manual_seed(0)).mul(0.5)
    standardised = (hidden - hidden.mean(dim=1, keepdim=True)) / hidden.std(dim=1, keepdim=True)
    assert torch.cosine_similarity(model.head(hidden), standardised).min() > 0.999


def test_mode_and_dtype_are_those_of_the_encoder():
    encoder = load_encoder(config()).bfloat16()
    assert not MaskedLM.from_encoder(encoder).training
    model = MaskedLM.from_encoder(encoder.train())
    assert all(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_loss_is_float32_under_autocast():
    model = MaskedLM.from_encoder(load_encoder(config()))
    exact, _ = model(**batch())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = model(**batch())
    assert loss.dtype == torch.float32
    assert abs(float((loss - exact).detach())) < 0.02


def test_head_in_the_names_of_old_checkpoints(tmp_path):
    reference = write_checkpoint(tmp_path, "bert", masked_lm=True)
    weights = load_file(tmp_path / "model.safetensors")
    for new, old in (("weight", "gamma"), ("bias", "beta")):
        prefix = "cls.predictions.transform.LayerNorm"
        weights[f"{prefix}.{old}"] = weights.pop(f"{prefix}.{new}")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = MaskedLM.from_encoder(load_encoder(config(source="local", path=str(tmp_path))))
    assert torch.allclose(model(**batch())[0], reference(**batch()).loss, atol=1e-5)


def test_a_decoder_of_its_own_is_not_mistaken_for_the_word_embeddings(tmp_path, caplog):
    write_checkpoint(tmp_path, "bert", masked_lm=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": False}))
    with caplog.at_level("INFO", logger="clirscale"):
        model = MaskedLM.from_encoder(load_encoder(config(source="local", path=str(tmp_path))))
    assert torch.equal(model.head.dense.weight, torch.eye(32))
    assert "no head" in caplog.text

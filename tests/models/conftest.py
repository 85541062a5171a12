"""Small checkpoints in the layout of transformers, made on the spot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
    logging,
)

from clirscale.config import BackboneConfig
from clirscale.models import untrained

logging.disable_progress_bar()

ARCHITECTURES = {
    "bert": (BertModel, BertForMaskedLM, BertConfig),
    "xlm-roberta": (XLMRobertaModel, XLMRobertaForMaskedLM, XLMRobertaConfig),
}
BASE = BackboneConfig(
    name="test",
    source="random",
    model=None,
    revision=None,
    path=None,
    layers=None,
    freeze_embeddings=False,
    dropout=None,
    pooling="mean",
    query_prefix="query: ",
    passage_prefix="passage: ",
    max_query_length=40,
    max_passage_length=80,
    lr=1e-3,
)
TEXTS = ["What is it?", "مرحبا بالعالم", "สวัสดีครับ", "日本語のテキスト", "👩‍👩‍👧 emoji 🏽", "x", ""]


def config(**changes):
    return replace(BASE, **changes)


def write_checkpoint(folder: Path, architecture: str, *, masked_lm: bool = False, pooler: bool = True, layers: int = 3):
    """Save a random model of an architecture, its biases random too, with a byte tokenizer; return the model."""
    base, with_head, config_class = ARCHITECTURES[architecture]
    tokenizer = untrained.build(0, with_pooler=False)[1]
    settings = config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=130,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = with_head(settings) if masked_lm else base(settings, add_pooling_layer=pooler)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request):
    return request.param

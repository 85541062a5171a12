"""Masked language modelling on the backbone of a dual encoder."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers.activations import ACT2FN

from clirscale.models import checkpoint
from clirscale.models.encoder import DualEncoder, widen

log = logging.getLogger(__name__)

IGNORED = -100  # label of a position where nothing is to be predicted


class Head(nn.Module):
    """What BERT and RoBERTa put between hidden states and word embeddings: dense layer, activation, layer norm.

    The output is multiplied with the word embeddings, and ``bias``, (vocabulary,), is added.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (n, dim) to what is compared with the word embeddings, (n, dim)."""
        output: Tensor = self.norm(self.activation(self.dense(hidden)))
        return output

    @torch.no_grad()
    def initialise(self, embeddings: Tensor) -> None:
        """Start from the standardised hidden states themselves, instead of from random ones.

        The dense layer is the identity and shifts its input to where GELU is the identity too; the norm takes the
        shift away again. Divided by the mean length of the word embeddings, the logits have a standard deviation of
        about 1, so that the first loss is near that of guessing, ln(vocabulary). In a trial with three layers of
        multilingual-e5-small it started at 11.2 (BERT's random head: 13.7, ln(vocabulary): 12.4), and 90 steps later
        was 0.7 ahead of the random head.
        """
        nn.init.eye_(self.dense.weight)
        nn.init.constant_(self.dense.bias, 3.0)
        nn.init.constant_(self.norm.weight, 1.0 / float(embeddings.norm(dim=1).mean()))


# The parts of the head in the checkpoints of RoBERTa and XLM-R, and of BERT, which once called a norm's weight gamma.
_ROBERTA = {
    "lm_head.dense.weight": "dense.weight",
    "lm_head.dense.bias": "dense.bias",
    "lm_head.layer_norm.weight": "norm.weight",
    "lm_head.layer_norm.bias": "norm.bias",
    "lm_head.bias": "bias",
}
_BERT = {
    "cls.predictions.transform.dense.weight": "dense.weight",
    "cls.predictions.transform.dense.bias": "dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "norm.bias",
    "cls.predictions.transform.LayerNorm.gamma": "norm.weight",
    "cls.predictions.transform.LayerNorm.beta": "norm.bias",
    "cls.predictions.bias": "bias",
}


class MaskedLM(nn.Module):
    """A masked language model around a backbone, which it trains in place; made by :meth:`from_encoder`.

    The decoder is the matrix of word embeddings. The head runs at masked positions only, which gives the same loss and
    gradients as running it everywhere.

    Args:
        backbone: an encoder of transformers, shared with the dual encoder.
        head: of the same size.
        vocabulary: (m,) int64 ids of the pieces that the softmax runs over, None for all. See :meth:`from_encoder`.
    """

    def __init__(self, backbone: Any, head: Head, vocabulary: Tensor | None = None) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        rows: Tensor | None = None
        if vocabulary is not None:
            rows = torch.full(head.bias.shape, -1)
            rows[vocabulary] = torch.arange(len(vocabulary))
        self.vocabulary: Tensor | None
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        self.rows: Tensor | None  # (all pieces,): where each stands in the vocabulary, -1 for those outside
        self.register_buffer("rows", rows, persistent=False)

    @classmethod
    def from_encoder(cls, encoder: DualEncoder, vocabulary: Tensor | None = None) -> MaskedLM:
        """Return the masked language model of an encoder, with the checkpoint's head where it has one.

        Args:
            encoder: its backbone is shared: training the result adapts it.
            vocabulary: (m,) int64 ids of distinct pieces, on the CPU. The softmax then runs over these only: the loss
                is that of the full softmax given that the piece is one of them. With the pieces of the corpus, no label
                is outside, and a step on a multilingual vocabulary costs a fraction. Losses over different
                vocabularies do not compare. None runs it over all pieces.
        """
        head = Head(encoder.backbone.config)
        embeddings: Tensor = encoder.backbone.get_input_embeddings().weight
        weights = _pretrained_head(encoder, head)
        if weights is None:
            log.info("masked LM: the checkpoint has no head that fits; starting from the identity")
            head.initialise(embeddings)
        else:
            head.load_state_dict(weights)
        model = cls(encoder.backbone, head, vocabulary)
        return model.to(device=embeddings.device, dtype=embeddings.dtype).train(encoder.training)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """Predict the masked pieces of a batch.

        Args:
            input_ids: (n, length) token ids, some of them masked.
            attention_mask: (n, length), 1 for tokens and 0 for padding.
            labels: (n, length), the piece at masked positions and -100 elsewhere.

        Returns:
            The mean loss in nats a masked position (zero, with gradients, if there is none) and their number.

        Raises:
            ValueError: a label lies outside the vocabulary.
        """
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        masked = labels != IGNORED
        hidden, targets = output.last_hidden_state[masked], labels[masked]  # (m, dim), (m,)
        weight: Tensor = self.backbone.get_input_embeddings().weight  # (pieces, dim)
        bias: Tensor = self.head.bias
        if self.vocabulary is not None and self.rows is not None:
            weight, bias, targets = weight[self.vocabulary], bias[self.vocabulary], self.rows[targets]
            if bool((targets < 0).any()):
                raise ValueError("a label lies outside the vocabulary of the masked language model")
        logits = linear(self.head(hidden), weight, bias)  # (m, vocabulary)
        count = len(targets)
        return cross_entropy(widen(logits), targets, reduction="sum") / max(count, 1), count


def _pretrained_head(encoder: DualEncoder, head: Head) -> dict[str, Tensor] | None:
    """Return the state of the head that the encoder's checkpoint has, None if it has none that fits."""
    if encoder.checkpoint is None or not encoder.backbone.config.tie_word_embeddings:
        return None
    shapes = {name: value.shape for name, value in head.state_dict().items()}
    for names in (_ROBERTA, _BERT):
        found = checkpoint.tensors(encoder.checkpoint, names)
        state = {names[name]: tensor for name, tensor in found.items()}
        if {name: tensor.shape for name, tensor in state.items()} == shapes:
            return state
    return None

"""torch's own layers, alone as people ship them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from catalogue import row
from inferload import CallInput

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "torch.nn"


def pairs(*shape: int) -> list[torch.Tensor]:
    """Two inputs of a shape."""
    return [torch.randn(*shape) for _ in range(2)]


@row(GROUP)
def linear() -> Made:
    """The plainest model."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), pairs(2, 16)


@row(GROUP)
def lstm() -> Made:
    """Give a tuple within a tuple."""
    return nn.LSTM(8, 16, num_layers=2, batch_first=True), pairs(2, 5, 8)


@row(GROUP)
def gru() -> Made:
    """Give a tuple."""
    return nn.GRU(8, 16, bidirectional=True), pairs(5, 2, 8)


@row(GROUP, "lstm of a packed sequence")
def lstm_packed() -> Made:
    """Take and give a PackedSequence, which is a NamedTuple."""
    lengths = torch.tensor([5, 3])
    return nn.LSTM(8, 16, batch_first=True), [
        (nn.utils.rnn.pack_padded_sequence(one, lengths, batch_first=True),)
        for one in pairs(2, 5, 8)
    ]


@row(GROUP)
def lstm_cell() -> Made:
    """Give a tuple, take one of an own state."""
    return nn.LSTMCell(8, 16), [(x, (torch.zeros(2, 16), torch.zeros(2, 16))) for x in pairs(2, 8)]


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@row(GROUP)
def transformer_encoder() -> Made:
    """Without a mask."""
    return _encoder(), pairs(2, 6, 16)


@row(GROUP, "transformer_encoder with padding")
def transformer_encoder_padded() -> Made:
    """In eval mode eager has a fast path, which leaves zeros in the padded places."""
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    return _encoder(), [{"src": x, "src_key_padding_mask": padding} for x in pairs(2, 6, 16)]


@row(GROUP)
def multihead_attention() -> Made:
    """Give a tuple: what was attended to, and the weights."""
    return nn.MultiheadAttention(16, 2, batch_first=True), [(x, x, x) for x in pairs(2, 6, 16)]


@row(GROUP, "multihead_attention, need_weights=False")
def multihead_attention_none() -> Made:
    """Give a tuple whose second part is None."""
    return nn.MultiheadAttention(16, 2, batch_first=True), [
        CallInput((x, x, x), {"need_weights": False}) for x in pairs(2, 6, 16)
    ]


@row(GROUP)
def embedding_bag() -> Made:
    """Flat ids and offsets."""
    offsets = torch.tensor([0, 4])
    return nn.EmbeddingBag(50, 8), [(torch.randint(0, 50, (9,)), offsets) for _ in range(2)]


@row(GROUP)
def embedding() -> Made:
    """A lookup."""
    return nn.Embedding(50, 8), [torch.randint(0, 50, (2, 6)) for _ in range(2)]


@row(GROUP)
def conv_batch_norm() -> Made:
    """In eval mode, as it is put into."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), pairs(2, 3, 16, 16)


@row(GROUP)
def channels_last() -> Made:
    """Weights and inputs in another memory format."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    return module.to(memory_format=torch.channels_last), [  # type: ignore[call-overload]
        x.to(memory_format=torch.channels_last) for x in pairs(2, 3, 16, 16)
    ]


@row(GROUP)
def double_precision() -> Made:
    """float64."""
    return nn.Linear(16, 4).double(), [x.double() for x in pairs(2, 16)]


@row(GROUP)
def bfloat16() -> Made:
    """bfloat16."""
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).bfloat16(), [
        x.bfloat16() for x in pairs(2, 16)
    ]


@row(GROUP)
def float16() -> Made:
    """float16 on a CPU."""
    return nn.Linear(16, 4).half(), [x.half() for x in pairs(2, 16)]


@row(GROUP)
def weight_norm() -> Made:
    """A parametrization."""
    return nn.utils.parametrizations.weight_norm(nn.Linear(16, 4)), pairs(2, 16)


@row(GROUP)
def spectral_norm() -> Made:
    """A parametrization with buffers."""
    return nn.utils.parametrizations.spectral_norm(nn.Linear(16, 4)), pairs(2, 16)


@row(GROUP)
def old_weight_norm() -> Made:
    """The older one, by a hook before each call."""
    return torch.nn.utils.weight_norm(nn.Linear(16, 4)), pairs(2, 16)


@row(GROUP)
def pruned() -> Made:
    """A mask on the weights, by a hook before each call."""
    from torch.nn.utils import prune

    module = nn.Linear(16, 4)
    prune.l1_unstructured(module, "weight", amount=0.5)
    return module, pairs(2, 16)


@row(GROUP)
def lazy_linear() -> Made:
    """Without weights until its first call."""
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(4)), pairs(2, 16)


@row(GROUP)
def identity() -> Made:
    """Give the input itself."""
    return nn.Identity(), pairs(2, 16)


@row(GROUP)
def adaptive_softmax() -> Made:
    """Give a NamedTuple; data-dependent indexing."""
    module = nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[5, 10])
    return module, [(x, torch.randint(0, 20, (6,))) for x in pairs(6, 8)]

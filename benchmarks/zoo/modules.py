"""What modules take and give: containers, numbers, texts, nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from catalogue import row
from inferload import CallInput
from layers import pairs

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "takes and gives"


class DictOut(nn.Module):
    """Give a dict within a dict."""

    def forward(self, x: torch.Tensor) -> Any:
        """Take any."""
        return {"twice": x * 2, "more": {"sum": x.sum()}}


class Pair(NamedTuple):
    """Two tensors."""

    first: torch.Tensor
    second: torch.Tensor


class NamedOut(nn.Module):
    """Give a NamedTuple."""

    def forward(self, x: torch.Tensor) -> Pair:
        """Take any."""
        return Pair(x * 2, x + 1)


@dataclass
class Found:
    """What a user's own dataclass looks like."""

    scores: torch.Tensor
    count: int


class DataclassOut(nn.Module):
    """Give a dataclass that pytree does not know."""

    def forward(self, x: torch.Tensor) -> Any:
        """Take any."""
        return Found(x * 2, 3)


class NoneOut(nn.Module):
    """Give a tuple with None in it."""

    def forward(self, x: torch.Tensor) -> Any:
        """Take any."""
        return x * 2, None


class Nothing(nn.Module):
    """Give nothing."""

    def forward(self, x: torch.Tensor) -> None:
        """Take any."""
        x.sum()


class NumbersOut(nn.Module):
    """Give a float, an int and a text, of values and of shapes."""

    def forward(self, x: torch.Tensor) -> Any:
        """Take any."""
        return x * 2, x.shape[0], 0.5, "label"


class Item(nn.Module):
    """Give a number that is read from a tensor."""

    def forward(self, x: torch.Tensor) -> Any:
        """Take any."""
        return x.sum().item()


class ZeroDim(nn.Module):
    """Give a tensor of no dimension."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take any."""
        return (x * x).mean()


class IntArgument(nn.Module):
    """Take a number beside a tensor."""

    def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """Add ``n``."""
        return x * 2 + n


class KeywordOnly(nn.Module):
    """Take keywords only."""

    def forward(self, *, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        """Scale."""
        return x * scale


class OptionalArgument(nn.Module):
    """Take a mask or None."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Mask, if there is one."""
        return x * 2 if mask is None else x * mask


class ListIn(nn.Module):
    """Take a list of tensors."""

    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        """Stack."""
        return torch.stack(xs).sum(0)


class DictIn(nn.Module):
    """Take a dict as one argument."""

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Add."""
        return batch["a"] + batch["b"]


class VarArgs(nn.Module):
    """Take any number of tensors."""

    def forward(self, *xs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        """Add them all."""
        return sum(xs, start=torch.zeros(())) + sum(named.values())


class StringArgument(nn.Module):
    """Take a text that chooses what is done."""

    def forward(self, x: torch.Tensor, mode: str = "sum") -> torch.Tensor:
        """Reduce."""
        return x.sum(1) if mode == "sum" else x.mean(1)


class DeviceArgument(nn.Module):
    """Take a dtype."""

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Convert."""
        return x.to(dtype)


@row(GROUP)
def dict_out() -> Made:
    """Build it."""
    return DictOut(), pairs(2, 16)


@row(GROUP)
def namedtuple_out() -> Made:
    """Build it."""
    return NamedOut(), pairs(2, 16)


@row(GROUP)
def dataclass_out() -> Made:
    """Build it."""
    return DataclassOut(), pairs(2, 16)


@row(GROUP)
def none_in_a_tuple_out() -> Made:
    """Build it."""
    return NoneOut(), pairs(2, 16)


@row(GROUP)
def nothing_out() -> Made:
    """Build it."""
    return Nothing(), pairs(2, 16)


@row(GROUP)
def numbers_and_text_out() -> Made:
    """Build it."""
    return NumbersOut(), pairs(2, 16)


@row(GROUP)
def item_out() -> Made:
    """Build it."""
    return Item(), pairs(2, 16)


@row(GROUP)
def zero_dim_out() -> Made:
    """Build it."""
    return ZeroDim(), pairs(2, 16)


@row(GROUP)
def int_argument() -> Made:
    """The same number in both inputs."""
    return IntArgument(), [(x, 2) for x in pairs(2, 16)]


@row(GROUP)
def int_argument_differs() -> Made:
    """Another number in each input."""
    return IntArgument(), [(x, n) for n, x in enumerate(pairs(2, 16), 2)]


@row(GROUP)
def keyword_only() -> Made:
    """Build it."""
    return KeywordOnly(), [{"x": x} for x in pairs(2, 16)]


@row(GROUP)
def optional_left_out() -> Made:
    """Build it."""
    return OptionalArgument(), pairs(2, 16)


@row(GROUP)
def optional_as_none() -> Made:
    """None is passed."""
    return OptionalArgument(), [(x, None) for x in pairs(2, 16)]


@row(GROUP)
def optional_sometimes() -> Made:
    """One input has a mask, the other has none."""
    one, other = pairs(2, 16)
    return OptionalArgument(), [(one,), (other, torch.ones(2, 16))]


@row(GROUP)
def list_in() -> Made:
    """Build it."""
    return ListIn(), [([x, x + 1],) for x in pairs(2, 16)]


@row(GROUP)
def list_in_lengths() -> Made:
    """Lists of two lengths."""
    return ListIn(), [([torch.ones(3)] * 2,), ([torch.ones(3)] * 3,)]


@row(GROUP)
def dict_in() -> Made:
    """Build it."""
    return DictIn(), [({"a": x, "b": x + 1},) for x in pairs(2, 16)]


@row(GROUP)
def var_args() -> Made:
    """Build it."""
    return VarArgs(), [CallInput((x, x), {"more": x}) for x in pairs(2, 16)]


@row(GROUP)
def string_argument() -> Made:
    """Build it."""
    return StringArgument(), [CallInput((x,), {"mode": "mean"}) for x in pairs(2, 16)]


@row(GROUP)
def dtype_argument() -> Made:
    """Build it."""
    return DeviceArgument(), [(x, torch.float64) for x in pairs(2, 16)]

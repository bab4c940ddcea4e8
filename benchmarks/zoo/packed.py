"""Models in other forms already: quantised, TorchScript, FX, exported, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from catalogue import row
from layers import pairs

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "packed"


def small() -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


def convolution() -> nn.Module:
    """What freezing folds."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()


@row(GROUP, "quantize_dynamic")
def quantized_dynamic() -> Made:
    """int8 weights, activations quantised as they come."""
    module = torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, dtype=torch.qint8)
    return module, pairs(2, 16)


@row(GROUP, "quantize_dynamic of an LSTM")
def quantized_lstm() -> Made:
    """int8 weights in a recurrent layer."""
    module = torch.ao.quantization.quantize_dynamic(nn.LSTM(8, 16), {nn.LSTM}, dtype=torch.qint8)
    return module, pairs(5, 2, 8)


@row(GROUP, "torch.ao static")
def quantized_static() -> Made:
    """int8 weights and activations, calibrated."""
    from torch.ao.quantization import DeQuantStub, QuantStub, convert, get_default_qconfig, prepare

    module = nn.Sequential(QuantStub(), nn.Linear(16, 32), nn.ReLU(), DeQuantStub()).eval()
    module.qconfig = get_default_qconfig("x86")
    prepared = prepare(module)
    for x in pairs(8, 16):
        prepared(x)
    return convert(prepared), pairs(2, 16)


@row(GROUP, "FX graph mode quantization")
def quantized_fx() -> Made:
    """A GraphModule with quantised layers."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    example = pairs(2, 16)
    prepared = prepare_fx(small(), get_default_qconfig_mapping("x86"), (example[0],))
    for x in example:
        prepared(x)
    return convert_fx(prepared), example


@row(GROUP, "torchao int8 weight-only", needs=("torchao",))
def torchao_int8() -> Made:
    """Weights that are tensor subclasses."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    module = small()
    quantize_(module, Int8WeightOnlyConfig())
    return module, pairs(2, 16)


@row(GROUP, "torch.jit.script")
def scripted() -> Made:
    """TorchScript as it is."""
    return torch.jit.script(convolution()), pairs(2, 3, 16, 16)


@row(GROUP, "torch.jit.freeze")
def frozen() -> Made:
    """Without an attribute ``training``."""
    return torch.jit.freeze(torch.jit.script(convolution())), pairs(2, 3, 16, 16)


@row(GROUP, "torch.jit.optimize_for_inference")
def optimized() -> Made:
    """Frozen, and operators replaced."""
    module = torch.jit.optimize_for_inference(torch.jit.script(convolution()))
    return module, pairs(2, 3, 16, 16)


@row(GROUP, "torch.jit.trace")
def traced() -> Made:
    """Traced with an example."""
    return torch.jit.trace(convolution(), torch.randn(2, 3, 16, 16)), pairs(2, 3, 16, 16)


@row(GROUP, "torch.jit.trace of a function")
def scripted_function() -> Made:
    """A ScriptFunction, which is no module."""

    def scale(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    return torch.jit.trace(scale, torch.randn(2, 16)), pairs(2, 16)


@row(GROUP, "torch.fx.GraphModule")
def fx_graph() -> Made:
    """Symbolically traced."""
    return torch.fx.symbolic_trace(small()), pairs(2, 16)


@row(GROUP, "ExportedProgram")
def exported() -> Made:
    """As torch.export gives it."""
    return torch.export.export(small(), (torch.randn(2, 16),)), pairs(2, 16)


@row(GROUP, "ExportedProgram.module()")
def exported_module() -> Made:
    """The module that it unflattens to."""
    return torch.export.export(small(), (torch.randn(2, 16),)).module(), pairs(2, 16)


@row(GROUP, "torch.compile of a module")
def compiled() -> Made:
    """Compiled as it is called."""
    return torch.compile(small(), backend="aot_eager"), pairs(2, 16)


@row(GROUP, "torch.compile of a function")
def compiled_function() -> Made:
    """A function, compiled as it is called."""

    def scale(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * 2

    return torch.compile(scale, backend="aot_eager"), pairs(2, 16)


@row(GROUP, "module.compile()")
def compiled_in_place() -> Made:
    """A module that compiles itself in its first call."""
    module = small()
    module.compile(backend="aot_eager")
    return module, pairs(2, 16)


@row(GROUP, "part of a model compiled")
def compiled_part() -> Made:
    """One block of it is compiled, as large models are."""
    whole = nn.Sequential(nn.Linear(16, 16), small())
    part: Any = torch.compile(whole[1], backend="aot_eager")
    whole[1] = part
    return whole, pairs(2, 16)


@row(GROUP, "torch.inference_mode weights")
def inference_weights() -> Made:
    """Built under inference mode."""
    with torch.inference_mode():
        return small(), pairs(2, 16)


@row(GROUP, "weights without gradients")
def no_gradients() -> Made:
    """requires_grad_(False), as served models are."""
    return small().requires_grad_(requires_grad=False), pairs(2, 16)

"""Models as strangers write them, turned into another form: what comes of it, and what is said."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import pytest
import torch

import inferload as il
from inferload.targets.outputs.comparing import tensors_in
from inferload.targets.outputs.same_outputs import Eager, compared
from support.converted import X, forms_of


@dataclass
class Cache:
    keys: list


class Remembers(torch.nn.Module):
    """Returns an object that neither a trace nor an exported program knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, scale=None):
        keys = self.linear(x)
        return {"y": keys * (1 if scale is None else scale), "cache": Cache([keys])}


class TakesAnything(torch.nn.Module):
    def forward(self, x, scale=None):
        return x


class TakesItsTime(torch.nn.Module):
    """Never comes to an end while it is compiled or traced."""

    def forward(self, x, *rest):
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            time.sleep(600)
        return x


def saliency(x):
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad((x * x).sum(), x)[0]


class Saliency(torch.nn.Module):
    def forward(self, x):
        return saliency(x)


def test_the_example_of_an_export_has_no_1_where_inputs_differ():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(2), torch.nn.Linear(36, 2)
    )
    grey = [torch.randn(batch, 1, 8, 8) for batch in (1, 2)]
    assert forms_of(model, "export", grey).form == "export"


def test_an_example_is_laid_out_anew_where_no_input_will_do():
    inputs = [torch.randn(1, 5, 4), torch.randn(3, 1, 4)]
    target = forms_of(torch.nn.Linear(4, 4), "export", inputs)
    assert target.python_callable()(torch.randn(7, 9, 4)).shape == (7, 9, 4)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (torch.nn.GRU(8, 16), torch.randn(4, 2, 8)),
        (torch.nn.LSTM(8, 16), torch.randn(4, 2, 8)),
        (torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4)), X),
    ],
    ids=["gru", "lstm", "weight_norm"],
)
def test_a_scripted_module_that_cannot_be_called_is_traced(model, x):
    target = forms_of(model, "script", [x])
    assert target.form == "script"
    assert il.run(target, [x], calls=5).summary.completed_calls == 5


def test_where_neither_works_both_reasons_are_said():
    class Refuses(torch.nn.Module):
        def forward(self, x, *rest):
            if torch.jit.is_tracing():
                raise ValueError("traces are not my thing")
            return x

    with pytest.raises(il.PlanError, match=r"variable number of arg.*traces are not my thing"):
        forms_of(Refuses(), "script", [X])


@pytest.mark.parametrize("form", ["script", "export"])
def test_outputs_of_unknown_classes_become_their_tensors(form: str):
    model = Remembers()
    target = forms_of(model, form, [{"x": X}])
    found = target.python_callable()(x=X)
    assert [one.shape for one in tensors_in(found)] == [(2, 4), (2, 4)]


@pytest.mark.parametrize("form", ["script", "export"])
def test_positional_and_keyword_arguments_may_be_mixed(form: str):
    target = forms_of(Remembers(), form, [il.CallInput((X,), {"scale": torch.full((1,), 2.0)})])
    assert (
        il.run(target, [il.CallInput((X,), {"scale": torch.ones(1)})], calls=3).log.calls_made == 3
    )


@pytest.mark.parametrize("form", ["script", "export"])
def test_an_input_that_torch_cannot_take_apart_is_named(form: str):
    words = "argument 'scale' is a test_forms.Cache, which the form .* leave the argument out"
    with pytest.raises(il.PlanError, match=words.replace("test_forms", r".*test_forms")):
        forms_of(TakesAnything(), form, [{"x": X, "scale": Cache([X])}])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")
def test_a_decode_step_is_exported_with_its_cache():
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=16,
        )
    )
    cache = DynamicCache(config=model.config)
    ids = torch.ones(1, 4, dtype=torch.long)
    with torch.no_grad():
        model.eval()(ids, past_key_values=cache, use_cache=True)
    step = {"input_ids": ids[:, :1], "past_key_values": cache}
    assert forms_of(model, "export", [step]).form == "export"


def test_autocast_is_traced():
    with torch.autocast("cpu", torch.bfloat16):
        target = forms_of(Remembers(), "script", [X])
        assert tensors_in(target.python_callable()(X))[0].dtype == torch.bfloat16


def test_lazy_modules_are_called_before_they_are_converted():
    lazy = torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.ReLU())
    with torch.inference_mode():
        assert forms_of(lazy, "export", [X]).form == "export"


def test_a_function_can_be_compiled_and_nothing_else():
    target = forms_of(lambda x: x * 2, "compile", [X])
    assert torch.equal(target.python_callable()(X), X * 2)
    with pytest.raises(il.PlanError, match=r"call it in the forward\(\) of a module"):
        forms_of(lambda x: x * 2, "export", [X])


@pytest.mark.parametrize(
    "model",
    [torch.nn.Linear(4, 4), torch.jit.script(torch.nn.Linear(4, 4)), lambda x: x],
    ids=["module", "script", "function"],
)
def test_the_eager_form_of_anything_is_itself(model):
    assert forms_of(model, "eager", [X]).form == forms_of(model, None, [X]).form


def test_what_depends_on_values_names_forms_that_take_it():
    class Branches(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(il.PlanError, match="depends on values of its inputs: --form compile"):
        forms_of(Branches(), "export", [X])
    assert forms_of(Branches(), "script", [X, -X]).form == "script"


def test_a_model_that_raises_is_told_as_it_is():
    with pytest.raises(il.PlanError, match="Linear raised RuntimeError on input 0 as it is"):
        forms_of(torch.nn.Linear(3, 3), "export", [X])


@pytest.mark.parametrize("form", ["script", "export", "compile"])
def test_a_conversion_has_the_time_of_a_call(form: str):
    with pytest.raises(il.PlanError, match=f"into '{form}' had not come to an end after 1 s"):
        forms_of(TakesItsTime(), form, [X], timeout_s=1.0)


def test_a_model_that_computes_gradients_is_told_how():
    with (
        torch.inference_mode(),
        pytest.raises(il.CallError, match=r"--grad on \(torch.enable_grad"),
    ):
        il.run(Saliency(), [X], calls=3)
    with torch.enable_grad():
        assert il.run(Saliency(), [X], calls=3).log.calls_made == 3


def test_a_form_that_returns_nothing_is_no_form():
    class Decodes(torch.nn.Module):
        """As decoders of tags: it cannot be scripted, and a trace holds none of its numbers."""

        def forward(self, x, *more):
            return [x.argmax(-1).tolist()]

    with pytest.raises(il.PlanError, match=r"nor traced \(.*Only tensors.*it returns no tensors"):
        forms_of(Decodes(), "script", [X])
    one = il.CallInput(args=(X,))
    with pytest.raises(il.PlanError, match="it returns nothing"):
        compared(Eager("names", lambda x: ["a"], one), "aoti", [tuple], [one])


class FixesItsLength(torch.nn.Module):
    """As models whose loops over a sequence are unrolled."""

    def forward(self, x, *more):
        return torch.stack([one * n for n, one in enumerate(x.unbind(0))])


def test_a_form_that_has_a_size_fixed_says_so_with_the_input_and_a_way_round():
    inputs = [torch.ones(3, 2), torch.ones(4, 2)]
    words = r"form 'script' fails on input 1 \(4x2:float32\): RuntimeError: .*--form compile"
    with pytest.raises(il.PlanError, match=words) as raised:
        forms_of(FixesItsLength(), "script", inputs)
    assert "RuntimeError: RuntimeError" not in str(raised.value)


@pytest.mark.parametrize("form", ["script", "export"])
def test_a_compiled_module_becomes_another_form_as_what_was_compiled(form: str):
    model = torch.compile(torch.nn.Linear(4, 4), backend="eager")
    assert forms_of(model, form, [X]).form == form
    itself = torch.nn.Linear(4, 4)
    itself.compile(backend="eager")
    assert forms_of(itself, form, [X]).form == form
    assert forms_of(itself, "eager", [X]).form == "compile"


def test_a_model_is_scripted_and_called_in_the_grad_mode_of_its_calls():
    class Attends(torch.nn.Module):
        """Scripted, it works with gradients only: its fast path returns an undefined tensor."""

        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)

    model, x = Attends().eval(), torch.randn(2, 3, 8)
    with torch.enable_grad():
        assert forms_of(model, "script", [x]).notes == ()


@pytest.mark.parametrize("change", [torch.jit.freeze, torch.jit.optimize_for_inference])
def test_frozen_modules_run(change):
    frozen = change(torch.jit.script(torch.nn.Linear(4, 4).eval()))
    assert il.run(frozen, [X], calls=20, warmup_calls=3).summary.completed_calls == 20
    bench = il.ThroughputBenchmark(frozen)
    bench.add_input(X)
    assert bench.benchmark(2, 3, 20).num_iters == 20


@pytest.mark.slow
def test_an_exported_program_becomes_a_package():
    program = torch.export.export(torch.nn.Linear(4, 4), (X,))
    assert forms_of(program, "aoti", [X]).form == "aoti"


class Branches(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


def test_an_export_that_fails_leaves_torchs_own_words_as_they_were(capfd):
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    with pytest.raises(il.PlanError, match="depends on values of its inputs"):
        forms_of(Branches(), "export", [X])
    assert capfd.readouterr().err == ""
    assert log.level == level
    with pytest.raises(Exception, match="data-dependent"):
        torch.export.export(Branches(), (X,), strict=False)
    assert "torch.ops.aten" in capfd.readouterr().err

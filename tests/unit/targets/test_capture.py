"""Inputs that a service captures while it is called: which calls, which parts, and at what cost."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import Counter

import numpy as np
import pytest
import torch

import inferload as il
from support import models
from support.captured import read


class Adds(torch.nn.Module):
    def forward(self, x):
        return x + 1


def test_inputs_come_back_as_they_were_given_before_the_model_wrote_into_them(tmp_path):
    path = tmp_path / "a.safetensors"
    image = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    x, ids = torch.randn(4, 3), torch.arange(4)
    nested = {"a": [ids, (1, 2.5, None)], "b": "text", "c": True, "d": np.arange(3.0)}
    was = x.clone()
    with il.capture(models.Takes(), path) as captured:
        captured._module(x, x, image.clone(memory_format=torch.preserve_format), extra=nested)
    assert (captured.seen, captured.kept, captured.skipped) == (1, 1, {})
    (found,) = read(path)
    assert found.items == 4
    assert torch.equal(found.args[0], was)
    assert found.args[0] is found.args[1]  # one tensor, given twice
    assert torch.equal(found.args[2], image)
    assert found.args[2].is_contiguous(memory_format=torch.channels_last)
    assert found.args[2].stride() == image.stride()
    extra = found.kwargs["extra"]
    assert torch.equal(extra["a"][0], ids)
    assert extra["a"][1] == (1, 2.5, None)
    assert (extra["b"], extra["c"]) == ("text", True)
    assert extra["d"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("form", ["eager", "compile", "script", "export"])
def test_every_form_that_is_a_module_can_be_captured(tmp_path, form):
    model = torch.nn.Sequential(torch.nn.Linear(4, 2)).eval()
    inputs = (il.CallInput((torch.randn(2, 4),)),)
    with torch.no_grad():
        if form == "compile":
            module = torch.compile(model, backend="eager")
        elif form == "export":
            module = torch.export.export(model, inputs[0].args).module()
        else:
            module = torch.jit.script(model) if form == "script" else model
        with il.capture(module, tmp_path / "a.safetensors", limit=5) as captured:
            for _ in range(50):
                module(torch.randn(2, 4))
        module(torch.randn(2, 4))
    assert (captured.seen, captured.kept) == (50, 5)
    assert len(read(tmp_path / "a.safetensors")) == 5


def test_the_sample_is_uniform_over_all_calls(tmp_path):
    module, hits = torch.nn.Identity(), Counter()
    runs, calls, limit = 400, 100, 10
    for seed in range(runs):
        path = tmp_path / "a.safetensors"
        with il.capture(module, path, limit=limit, seed=seed):
            for number in range(calls):
                module(torch.tensor(number))
        hits.update(int(one.args[0]) for one in read(path))
    assert sum(hits.values()) == runs * limit
    # each call is taken in 40 of 400 runs in the mean, with a deviation of 6: the sum of squares
    # is chi-squared with about 99 degrees, of which 160 is the 99.99 % point
    spread = sum((hits[n] - 40) ** 2 for n in range(calls)) / (40 * 0.9)
    assert spread < 160
    # by tenths of the run: 400 each, deviation 18
    tenths = [sum(hits[n] for n in range(a, a + 10)) for a in range(0, calls, 10)]
    assert max(abs(one - 400) for one in tenths) < 80


def test_the_same_seed_takes_the_same_calls(tmp_path):
    module = torch.nn.Identity()
    taken = []
    for _ in range(2):
        with il.capture(module, tmp_path / "a.safetensors", limit=4, seed=3):
            for number in range(200):
                module(torch.tensor(number))
        taken.append([int(one.args[0]) for one in read(tmp_path / "a.safetensors")])
    assert taken[0] == taken[1]


def test_calls_of_several_threads_count_together(tmp_path):
    module = torch.nn.Identity()

    def work() -> None:
        for _ in range(500):
            module(torch.zeros(1))

    with il.capture(module, tmp_path / "a.safetensors", limit=7) as captured:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert (captured.seen, captured.kept) == (2000, 7)


def test_what_cannot_be_written_without_pickling_is_skipped_and_counted(tmp_path, caplog):
    module = models.Takes()

    class Odd(torch.nn.Module):
        pass

    with il.capture(module, tmp_path / "a.safetensors") as captured:
        module(Odd())
        module(torch.zeros(2, 2).long().to_sparse())
        module({1: torch.zeros(1)})
        module(np.array(["text"]))
        module(torch.zeros(2, dtype=torch.complex128))
        module(10**5000)
        module(torch.zeros(1))
    assert captured.seen == 7
    assert captured.kept == 1
    assert captured.skipped["an input holds a Odd"] == 1
    assert sum(captured.skipped.values()) == 6
    assert "an input holds a dict with a key of int" in caplog.text


def test_a_model_that_raises_loses_nothing_and_the_hook_is_gone(tmp_path):
    module = torch.nn.Linear(4, 2)
    captured = il.capture(module, tmp_path / "a.safetensors")

    def serve() -> None:
        with captured:
            module(torch.zeros(1, 4))
            module(torch.zeros(1, 5))

    with pytest.raises(RuntimeError, match="shape"):
        serve()
    assert captured.kept == 2
    assert len(read(tmp_path / "a.safetensors")) == 2
    module(torch.zeros(1, 4))
    assert captured.seen == 2


def test_no_calls_write_no_file_and_say_so(tmp_path, caplog):
    with il.capture(torch.nn.Identity(), tmp_path / "a.safetensors"):
        pass
    assert not (tmp_path / "a.safetensors").exists()
    assert "no call was captured" in caplog.text


def test_tracing_the_model_is_no_call_of_it(tmp_path):
    module = torch.nn.Linear(4, 2)
    with il.capture(module, tmp_path / "a.safetensors") as captured:
        torch.jit.trace(module, torch.zeros(1, 4))
        module(torch.zeros(1, 4))
    assert list(captured.skipped) == ["the model was being traced"]
    # those that torch makes to check the trace are calls
    assert captured.kept == captured.seen - captured.skipped["the model was being traced"]
    assert captured.kept < captured.seen


def test_what_cannot_be_captured_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(il.PlanError, match=r"nn\.Module"):
        il.capture(lambda x: x, tmp_path / "a.safetensors")
    with pytest.raises(il.PlanError, match=r"\.safetensors"):
        il.capture(torch.nn.Identity(), tmp_path / "a.pt")
    with pytest.raises(il.PlanError, match="limit"):
        il.capture(torch.nn.Identity(), tmp_path / "a.safetensors", limit=0)
    with pytest.raises(il.PlanError, match="folder"):
        il.capture(torch.nn.Identity(), tmp_path / "no" / "a.safetensors")


def test_the_sample_stays_uniform_where_some_calls_cannot_be_recorded(tmp_path):
    module, tenths, runs = torch.nn.Identity(), Counter(), 600
    for seed in range(runs):
        path = tmp_path / "a.safetensors"
        with il.capture(module, path, limit=10, seed=seed) as captured:
            for number in range(200):
                module(torch.tensor(number) if number % 2 else {1: 2})
        assert captured.kept <= 10
        if captured.kept:
            tenths.update(int(one.args[0]) // 20 for one in read(path))
        path.unlink(missing_ok=True)
    # 10 of 200 calls are drawn, half of which can be recorded: 300 for each tenth of the run, with
    # a deviation of 17
    assert len(tenths) == 10
    assert all(abs(count - 300) < 80 for count in tenths.values()), tenths


def test_what_is_compiled_before_keeps_its_graph_and_never_fails(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 2)).eval()
    call = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad(), il.capture(model, tmp_path / "a.safetensors") as captured:
        for size in (2, 3, 4):
            call(torch.randn(size, 4))
        model(torch.randn(2, 4))
    assert captured.seen == captured.kept == 1
    with torch.no_grad(), il.capture(call, tmp_path / "b.safetensors") as captured:
        call(torch.randn(5, 4))
    assert captured.kept == 1


def test_a_module_compiled_in_place_is_captured_outside_of_its_graph(tmp_path):
    model = Adds().eval()
    model.compile(backend="eager", fullgraph=True)
    with torch.no_grad():
        model(torch.randn(2, 4))
        before = model._compiled_call_impl
        with il.capture(model, tmp_path / "a.safetensors") as captured:
            model(torch.randn(2, 4))
        assert captured.kept == 1
        assert model._compiled_call_impl is before


def test_copies_and_pickles_of_the_model_are_not_captured(tmp_path):
    model = torch.nn.Linear(4, 2)
    with il.capture(model, tmp_path / "a.safetensors") as captured:
        copy.deepcopy(model)(torch.zeros(1, 4))
        pickle.loads(pickle.dumps(model))(torch.zeros(1, 4))  # noqa: S301 - made a moment ago
        model(torch.zeros(1, 4))
    assert captured.seen == 1


def test_a_capture_is_opened_once_at_a_time(tmp_path):
    model = torch.nn.Linear(4, 2)
    captured = il.capture(model, tmp_path / "a.safetensors")
    with captured:
        model(torch.zeros(1, 4))
        with pytest.raises(il.PlanError, match="open already"):
            captured.__enter__()
    assert not model._forward_pre_hooks


def test_an_error_of_the_service_is_not_replaced_by_one_of_the_file(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    model = torch.nn.Linear(4, 2)

    def serve(*, fails: bool) -> None:
        folder.mkdir(exist_ok=True)
        with il.capture(model, folder / "a.safetensors"):
            model(torch.zeros(1, 4))
            folder.rmdir()
            if fails:
                raise ValueError("the service's own")

    with pytest.raises(ValueError, match="the service's own"):
        serve(fails=True)
    assert "a.safetensors was not written" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"gone/a\.safetensors'"):
        serve(fails=False)


def test_saving_while_calls_run_and_ever_new_reasons_are_bounded(tmp_path):
    module = torch.nn.Identity()
    odd = [type(f"Odd{number}", (), {}) for number in range(40)]
    with il.capture(module, tmp_path / "a.safetensors", limit=200) as captured:

        def work() -> None:
            for kind in odd:
                module(kind())
                module(torch.zeros(1))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for one in threads:
            one.start()
        for _ in range(20):
            captured.save()
        for one in threads:
            one.join()
    assert len(captured.skipped) <= 17
    assert sum(captured.skipped.values()) == 80

"""Captured inputs read again: what comes back, and files that are refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import inferload as il
from support import models
from support.captured import read


def test_files_that_are_no_captured_inputs_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(il.PlanError, match="there is no input file"):
        read(path)
    path.write_bytes(b"\0" * 20)
    with pytest.raises(il.PlanError, match="damaged"):
        read(path)
    save_file({"0": torch.zeros(1)}, path)
    with pytest.raises(il.PlanError, match="has no captured inputs"):
        read(path)
    metadata = {"format": "inferload inputs", "version": "9"}
    save_file({"0": torch.zeros(1)}, path, metadata)
    with pytest.raises(il.PlanError, match="version '9'"):
        read(path)
    good = '{"args": {"tuple": []}, "kwargs": {"dict": {}}, "items": 1}'
    changes = {
        "1}": ["2.5}", "0}", "Infinity}", '1, "more": 1}'],
        "tuple": ["list"],
        '{"dict": {}}': ['{"value": 3}'],
        "[]": [
            f"[{node}]"
            for node in (
                '{"tensor": "7"}', '{"pickle": ""}', "{}", '{"value": {"a": 1}}',
                '{"tensor": "0", "stride": [9]}', '{"tensor": "0", "stride": [1, 1]}',
                '{"tensor": "0", "other": true}', '{"value": 1, "tensor": "0"}',
            )
        ],
    }  # fmt: skip
    trees = ["{", "{}", "[1]", good]
    trees += [f"[{good.replace(old, new)}]" for old, own in changes.items() for new in own]
    for tree in trees:
        content = torch.frombuffer(bytearray(tree.encode()), dtype=torch.uint8)
        save_file({"0": torch.zeros(2), "inputs": content}, path, metadata | {"version": "1"})
        with pytest.raises(il.PlanError, match="damaged"):
            read(path)


def test_captured_inputs_can_be_run(tmp_path):
    model = torch.nn.Linear(4, 2).eval()
    with torch.no_grad(), il.capture(model, tmp_path / "a.safetensors", limit=3):
        for size in (1, 2, 3, 4):
            model(torch.randn(size, 4))
    with torch.no_grad():
        result = il.run(model, [str(tmp_path / "a.safetensors")], calls=20, warmup_calls=1)
    assert result.summary.completed_calls == 20
    assert len(result.spec.inputs) == 3
    assert all(one.endswith("x4:float32") for one in result.spec.inputs)
    assert json.dumps(result.spec.items_per_input)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
        torch.randn(2, 1, 8, 8).contiguous(memory_format=torch.channels_last),
        torch.randn(1, 3, 2, 4, 5).contiguous(memory_format=torch.channels_last_3d),
        torch.randn(6, 4).t(),
        torch.randn(()),
        torch.zeros(0, 4),
        torch.tensor([True, False]),
        torch.randn(3).to(torch.float8_e4m3fn),
        torch.randn(2).to(torch.complex64),
    ],
    ids=lambda one: f"{tuple(one.shape)}-{one.stride()}-{one.dtype}",
)
def test_a_dense_tensor_is_replayed_with_its_strides(tmp_path, tensor):
    with il.capture(torch.nn.Identity(), tmp_path / "a.safetensors") as captured:
        captured._module(tensor)
    (found,) = read(tmp_path / "a.safetensors")
    (again,) = found.args
    assert (again.shape, again.stride(), again.dtype) == (
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
    )
    assert torch.equal(again.to(torch.complex64), tensor.to(torch.complex64))


def test_a_part_of_a_tensor_is_laid_out_anew_and_numpy_keeps_its_shape(tmp_path):
    given = (torch.arange(12.0).reshape(3, 4)[:, ::2], torch.ones(1).expand(4))
    array, swapped = np.array(3.0), np.arange(3, dtype=">i4")
    with il.capture(models.Takes(), tmp_path / "a.safetensors") as captured:
        captured._module(*(one.long() for one in given), array, array, swapped)
    (found,) = read(tmp_path / "a.safetensors")
    assert found.args[0].tolist() == [[0, 2], [4, 6], [8, 10]]
    assert found.args[1].tolist() == [1, 1, 1, 1]
    assert found.args[2].shape == ()
    assert found.args[2] is found.args[3]
    assert found.args[4].tolist() == [0, 1, 2]

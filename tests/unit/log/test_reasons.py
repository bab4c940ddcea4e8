from __future__ import annotations

import pytest
import torch

from inferload.log.reasons import LONGEST, reason_in, reason_of, way_round


class Multiplies(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(5, 5)


class Concatenates(torch.nn.Module):
    def forward(self, x):
        return torch.cat(x, 3)


class TakesAnything(torch.nn.Module):
    def forward(self, x, *more):
        return x


class Branches(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class BreaksTheGraph(torch.nn.Module):
    def forward(self, x):
        torch._dynamo.graph_break()
        return x


X = torch.ones(2, 4)


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        (lambda: torch.jit.script(Multiplies())(X), "RuntimeError: mat1 and mat2 shapes cannot"),
        (lambda: torch.jit.script(Concatenates()), "Expected a value of type 'List[Tensor]'"),
        (lambda: torch.jit.script(TakesAnything()), "Compiled functions can't take variable"),
        (lambda: torch.jit.trace(Multiplies(), (X,)), "mat1 and mat2 shapes cannot"),
        (lambda: torch.jit.trace(lambda x: object(), (X,)), "Only tensors and (possibly nested)"),
        (lambda: torch.export.export(Branches(), (X,), strict=False), "Could not guard on data"),
        (
            lambda: torch.compile(BreaksTheGraph(), fullgraph=True)(X),
            "Call to `torch._dynamo.graph_break()`: User-inserted graph break",
        ),
    ],
)
def test_of_torchs_long_errors_the_line_that_counts_is_said(fails, reason):
    with pytest.raises(Exception) as raised:
        fails()
    assert reason_of(raised.value).startswith(reason)


def test_of_a_compilers_output_the_first_error_counts():
    text = (
        "C++ compile error\n\nCommand:\ng++ -O3 x.cpp\n\nOutput:\nx.cpp: In function 'f':\n"
        "x.cpp:3:5: error: 'y' was not declared\n    3 |     y;\n      |     ^\n"
        "x.cpp:9:1: error: expected '}'\n"
    )
    assert reason_in(text) == "x.cpp:3:5: error: 'y' was not declared"


def test_of_a_python_traceback_the_last_error_counts():
    text = (
        "worker 0 failed:\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in f\n    g()\n    ^^^\n'
        '  File "b.py", line 9, in g\n    raise ValueError("no")\nValueError: no such weights\n'
    )
    assert reason_in(text) == "ValueError: no such weights"


def test_an_error_without_words_is_said_by_its_type():
    assert reason_of(KeyError()) == "KeyError"


def test_a_long_line_is_cut_where_a_sentence_ends():
    assert len(reason_in("x" * 10_000)) == LONGEST
    assert reason_in("This is why. " + "It was so because. " * 100).endswith("because.")


def test_values_that_torch_prints_are_no_reason():
    text = "Cannot insert a Tensor that requires grad as a constant.\nTensor:\n 0.1\n[ Float{1} ]"
    assert reason_in(text) == "Cannot insert a Tensor that requires grad as a constant."


@pytest.mark.parametrize("words", ["", "mat1 and mat2 shapes cannot be multiplied"])
def test_other_errors_have_nothing_to_do_with_gradients(words: str):
    assert way_round(words) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # what goes on in the next line
        (
            "'y' is not in forward() method's arguments,\n   valid arguments name are []",
            "'y' is not in forward() method's arguments, valid arguments name are []",
        ),
        # the place stood in the next line
        (
            (
                "Unknown type annotation: 'Callable[..., Any]' at:\n"
                '  File "m.py", line 3\n'
                "    def forward(self, f: Callable[..., Any]):\n    ~~~ <--- HERE"
            ),
            "Unknown type annotation: 'Callable[..., Any]'",
        ),
        # an operator that is unknown, its place after a line of its own
        (
            (
                "Unknown builtin op: aten::enable_grad.\n"
                "Could not find any similar ops to aten::enable_grad. This op may not exist.\n:\n"
                '  File "a.py", line 5\n        with torch.enable_grad():\n'
                "             ~~~~~~~~~~~~~~~~~ <--- HERE\n"
            ),
            "Unknown builtin op: aten::enable_grad.",
        ),
        # the code that called it, with an empty line in it
        (
            (
                "Compiled functions can't take variable number of arguments:\n"
                '  File "a.py", line 1\n    def inner(*x):\n               ~ <--- HERE\n'
                "'inner' is being compiled since it was called from 'outer'\n"
                '  File "a.py", line 9\n    def outer(x):\n        """Say.\n\n        More.\n'
                '        """\n\n        return inner(x, 1)\n               ~~~~~ <--- HERE\n'
            ),
            "Compiled functions can't take variable number of arguments",
        ),
        # an error without words: the line of code that is marked
        (
            (
                "The following operation failed in the TorchScript interpreter.\n"
                "Traceback of TorchScript (most recent call last):\n"
                '  File "m.py", line 5, in forward\n'
                "    def forward(self, x):\n"
                "        return F.linear(x, self.weight)\n"
                "               ~~~~~~~~ <--- HERE\n"
                "RuntimeError: \n"
            ),
            "in `return F.linear(x, self.weight)`",
        ),
    ],
)
def test_a_reason_is_a_whole_sentence(text, reason):
    assert reason_in(text) == reason


def test_a_line_without_a_sentence_is_cut_between_words():
    cut = reason_in("word " * 200)
    assert cut.endswith("word ...")
    assert len(cut) <= LONGEST

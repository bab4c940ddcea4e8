"""Files with the models that the command line is given in tests."""

from __future__ import annotations

from pathlib import Path

MODEL = """
import pathlib, time, torch
class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() < 0):
            raise ValueError("negative input")
        return x * 2
class Slow(torch.nn.Module):
    made = 0
    def forward(self, x):
        time.sleep(0.01)
        self.made += 1
        if self.made == 20:
            pathlib.Path(__file__ + ".called").touch()
        return x
model = Model
slow = Slow
def inputs():
    return [torch.ones(4, 2), torch.ones(2, 2)]
"""
# And for studies.
FILE = """
import os, time
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(4))
    def forward(self, x):
        return x @ self.weights
class Sleeps(torch.nn.Module):
    def forward(self, x):
        time.sleep(0.002)
        return x
class Dies(torch.nn.Module):
    def forward(self, x):
        if threading.active_count() > 8:
            os.kill(os.getpid(), 11)
        return x
import threading
def model():
    return Model()
def sleeps():
    return Sleeps()
def dies():
    return Dies()
def inputs():
    return [torch.ones(2, 4), torch.ones(3, 4)]
"""
OTHERS = """
from m import Model
def model():
    return Model()
def inputs():
    return [torch.ones(5, 4)]
import torch
"""


def written_to(folder: Path) -> Path:
    """The folder, with the files in it."""
    (folder / "m.py").write_text(FILE)
    (folder / "others.py").write_text(OTHERS)
    return folder

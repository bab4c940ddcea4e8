"""What the server of children imports, once for all: nothing here calls an operator of torch."""

import contextlib
import importlib

import torch._dynamo
import torch._inductor.compile_fx
import torch._inductor.package
import torch.export

import bare
import catalogue
import inferload.callers.local.crew
import inferload.cli.app
import inferload.cli.commands.run

with contextlib.suppress(ImportError):
    importlib.import_module("transformers.modeling_utils")

READY = (bare, inferload, torch)
catalogue.rows()

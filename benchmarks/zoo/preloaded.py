"""What the server of children imports, once for all: nothing here calls an operator of torch."""

import contextlib

import bare
import catalogue
import torch._dynamo
import torch.export

import inferload.cli.app
import inferload.local_crew

with contextlib.suppress(ImportError):
    import transformers.modeling_utils

READY = (bare, inferload, torch)
catalogue.rows()

"""Hugging Face causal language models: prepared for capture, and wrapped into a serving step.

Two things keep ``transformers`` models from being captured as they are: the experts loop over the
experts that were hit, which depends on data, and attention reads a cache object.  Both are
dispatched through registries of ``transformers`` itself, so `prepare` (hf_prepare.py) only switches
the implementation names of a model to ``"xllm"``, checks the result against the model's own eager
code, and `restore` switches back.  No class or function of ``transformers`` is replaced.

`StepModel` (hf_step.py) then runs an otherwise unmodified model on packed tokens of many requests
over paged caches; `export_step` captures it, prefill and decode in one graph.

Written for transformers 5.23 (``integrations/moe.py``, ``integrations/sdpa_attention.py``,
``masking_utils.py``).  Importing this module does not import ``transformers``.
"""

from __future__ import annotations

from xcompile.frontend.hf_attention import PagedInputs
from xcompile.frontend.hf_experts import IMPLEMENTATION
from xcompile.frontend.hf_prepare import (
    Preparation,
    preparation,
    prepare,
    prepared,
    restore,
)
from xcompile.frontend.hf_step import (
    DEFAULT_PAGE,
    StepModel,
    export_step,
    kv_shapes,
    step_example,
)
from xcompile.frontend.hf_verify import VerificationError

__all__ = [
    "DEFAULT_PAGE",
    "IMPLEMENTATION",
    "PagedInputs",
    "Preparation",
    "StepModel",
    "VerificationError",
    "export_step",
    "kv_shapes",
    "preparation",
    "prepare",
    "prepared",
    "restore",
    "step_example",
]

"""llama.cpp as a subject, through the bindings of the package llama-cpp-python.

It computes on the same weights (`gguf_file`), with its own defaults: repacked weights, an fp16
cache, flash attention where it chooses so. Its weights are allocated, not mapped, so that glibc can
put them on 2 MB pages (`huge_pages`): its best mode on Linux.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import gguf_file
from benchmarks.subjects import ROOM, Step, Tokens, rotate

TUNABLE = "glibc.malloc.hugetlb=1"


def huge_pages() -> None:
    """Starts this program again with malloc on 2 MB pages, which glibc decides as it starts."""
    told = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and "glibc.malloc.hugetlb" not in told:
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (told, TUNABLE)))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class LlamaCpp:
    """A model of benchmarks.models in llama.cpp."""

    name = "llama.cpp"

    def __init__(self, model: Any, tokens: Tokens) -> None:
        try:
            from llama_cpp import llama_cpp
        except ImportError:
            raise SystemExit(
                "the peer llama.cpp needs: pip install llama-cpp-python gguf"
            ) from None
        self.api: Any = llama_cpp
        self.tokens, self.note = tokens, ""
        self._quiet = self.api.llama_log_callback(lambda level, text, data: None)
        self.api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.api.llama_backend_init()
        params = self.api.llama_model_default_params()
        params.load_mode = self.api.LLAMA_LOAD_MODE_NONE
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            gguf_file.write(model, path)
            self.model = self.api.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load a {model.config.model_type} model")
        self.vocab = model.config.vocab_size

    def _context(self, sequences: int, rows: int) -> Any:
        """A context of `sequences` caches of `rows` tokens each; the one before it is freed."""
        self._free()
        params = self.api.llama_context_default_params()
        params.n_ctx, params.n_seq_max = sequences * rows, sequences
        params.n_batch = params.n_ubatch = max(512, self.tokens.context)
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        params.no_perf = True
        self.context = self.api.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context of {sequences} x {rows} tokens")
        return self.api.llama_get_memory(self.context)

    def _free(self) -> None:
        if getattr(self, "context", None):
            self.api.llama_free(self.context)
            self.context = None

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> Tensor:
        """Feeds (token, position, sequence, wants logits); those logits, [rows, vocabulary]."""
        batch = self.api.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for k, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[k], batch.pos[k], batch.logits[k] = token, position, wanted
            batch.n_seq_id[k], batch.seq_id[k][0] = 1, sequence
        status = self.api.llama_decode(self.context, batch)
        self.api.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode of {len(rows)} tokens failed: {status}")
        wanted = [k for k, row in enumerate(rows) if row[3]]
        out = torch.empty(len(wanted), self.vocab)
        for to, k in zip(out, wanted, strict=True):
            logits = self.api.llama_get_logits_ith(self.context, k)
            ctypes.memmove(to.data_ptr(), logits, 4 * self.vocab)
        return out

    def _prompt(self, ids: Tensor, sequence: int) -> Tensor:
        last = ids.numel() - 1
        return self._run([(t, k, sequence, k == last) for k, t in enumerate(ids.tolist())])

    def decode(self, batch: int) -> Step:
        past = self.tokens.context
        memory = self._context(batch, past + ROOM)
        for sequence in range(batch):
            self._prompt(self.tokens.prompts[0], sequence)

        def step(ids: list[int]) -> Tensor:
            out = self._run([(t, past, s, True) for s, t in enumerate(ids)])
            for sequence in range(batch):
                self.api.llama_memory_seq_rm(memory, sequence, past, -1)
            return out

        return rotate(step, [(ids.tolist(),) for ids in self.tokens.next(batch)])

    def prefill(self) -> Step:
        memory = self._context(1, self.tokens.context + ROOM)

        def step(ids: Tensor) -> Tensor:
            self.api.llama_memory_clear(memory, False)
            return self._prompt(ids, 0)

        return rotate(step, [(ids,) for ids in self.tokens.prompts])

"""The serving step of a transformers model over paged caches, and its capture as one graph."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend.hf_attention import PagedInputs, attention_calls, device_of, run_packed
from xcompile.frontend.hf_limits import module_in
from xcompile.frontend.hf_mla import latent
from xcompile.frontend.hf_prepare import preparation, prepare, prepared, restore
from xcompile.frontend.hf_verify import verify_tokens_meet_in_attention
from xcompile.runtime.generate import ModelSpec
from xcompile.runtime.generate import allocate as allocate_caches

DEFAULT_PAGE = 64
"""Rows per cache page.

64 rows of one head are a few kilobytes: long enough for a kernel to stream a page at full width and
to make the block table negligible, short enough that a request wastes 32 rows on average.  It is a
multiple of 16, the granularity of matrix units that read pages directly.
"""


def kv_shapes(model: Any) -> list[tuple[int, int, int]]:
    """Per attention layer ``(Hk, D, Dv)``: what one token adds to the cache.

    Derived from what the attention layers are called with, so it holds for every family; for MLA
    the latents ``(1, kv_lora_rank + rope, 0)``, whose value is part of the key.  A model that is
    not prepared is prepared only for this call.
    """
    with nullcontext() if preparation(model) else prepared(model, verify=False), latent(model):
        return [(c.kv_heads, c.key_size, c.value_size) for c in attention_calls(model)]


class StepModel(nn.Module):
    """One serving step of a Hugging Face causal language model, over paged caches.

    The model is prepared on construction (unless it already is) and stays so; :func:`restore` frees
    it, after which the step can no longer be called.  The caches hold keys and values exactly as
    the attention function receives them: rotated, and for MLA the latents (see hf_mla).

    Args:
        model: a transformers causal language model in eval mode.
        page: rows per cache page, see :data:`DEFAULT_PAGE`.
        max_context: longest context of a request; by default the model's
            ``max_position_embeddings``.
        verify: see :func:`prepare`.

    Raises:
        XCompileError, UnsupportedError, VerificationError: see :func:`prepare`.
    """

    def __init__(
        self,
        model: Any,
        *,
        page: int = DEFAULT_PAGE,
        max_context: int | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__()
        if page < 1:
            raise XCompileError(f"page must be positive, got {page}")
        fresh = preparation(model) is None
        if fresh:
            prepare(model, verify=verify)
        self.model = model.eval()
        self.page = page
        text = model.config.get_text_config()
        self.max_context: int = max_context or text.max_position_embeddings
        try:
            with latent(model):
                calls = attention_calls(model)
            if verify:
                verify_tokens_meet_in_attention(model)
        except BaseException:
            if fresh:
                restore(model)
            raise
        self.kv_shapes = tuple((c.kv_heads, c.key_size, c.value_size) for c in calls)
        layers: list[Any] = [call.module.layer_idx for call in calls]
        self.cache_of_layer: dict[int, int] = {layer: i for i, layer in enumerate(layers)}

    @property
    def spec(self) -> ModelSpec:
        """Shapes and limits, for :func:`xcompile.runtime.generate.generate`."""
        device = str(device_of(self.model))
        dtype: torch.dtype = self.model.dtype
        return ModelSpec(self.kv_shapes, self.page, dtype, self.max_context, device)

    def allocate(
        self, num_slots: int, dtype: torch.dtype | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Zeroed key and value caches of ``num_slots`` rows, in the model's dtype by default."""
        spec = self.spec
        return allocate_caches(spec.kv_shapes, num_slots, dtype or spec.dtype, spec.device)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        cu_seqlens: Tensor,
        context_lens: Tensor,
        block_tables: Tensor,
        last_rows: Tensor,
        k_caches: list[Tensor],
        v_caches: list[Tensor],
    ) -> Tensor:
        """Logits of the last new token of each request; writes the caches in place.

        Args:
            input_ids: ``[T]`` int64, new tokens of all requests one after the other.
            position_ids: ``[T]`` int64, position of each token in its request.
            slots: ``[T]`` int64, cache row of each token; no row twice.
            cu_seqlens: ``[R + 1]`` int64, request ``r`` owns tokens ``cu_seqlens[r:r+2]``.
            context_lens: ``[R]`` int64, tokens of the request so far including the new ones.
            block_tables: ``[R, M]`` int64, page numbers of the request.
            last_rows: ``[R]`` int64, rows of ``input_ids`` whose logits are wanted.
            k_caches: per layer ``[slots, Hk, D]``.
            v_caches: per layer ``[slots, Hk, Dv]``.

        Returns:
            ``[R, V]`` in the model's dtype.

        Raises:
            XCompileError: if the model was restored in the meantime.
            UnsupportedError: see :func:`attention_forward`.
        """
        record = preparation(self.model)
        if record is None or not record.attention:
            raise XCompileError("the attention of this step's model is not prepared (any more)")
        paged = PagedInputs(
            slots=slots,
            cu_seqlens=cu_seqlens,
            context_lens=context_lens,
            block_tables=block_tables,
            k_caches=k_caches,
            v_caches=v_caches,
            cache_of_layer=self.cache_of_layer,
            page=self.page,
            max_context=self.max_context,
        )
        with latent(self.model):
            return run_packed(
                self.model, input_ids, position_ids, last_rows, paged, self.max_context
            )


def step_example(
    step: StepModel,
    *,
    max_tokens: int = 8192,
    max_requests: int = 1024,
    max_slots: int = 1 << 24,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Example inputs of a step by name, and the ``dynamic_shapes`` for ``torch.export``.

    Every symbolic size of the example is at least 2 and they all differ, since export takes 0 and 1
    for constants and equal sizes for one symbol; the ranges nevertheless begin at 1.

    Args:
        step: the step.
        max_tokens: upper bound of ``T``.
        max_requests: upper bound of ``R``.
        max_slots: upper bound of the rows of a cache.

    Returns:
        ``(inputs, dynamic_shapes)`` with the same keys.
    """
    page, device = step.page, device_of(step.model)
    pages = 9
    # A prompt of five tokens, one of two that continues a context of page + 1, a decoded token.
    counts, contexts = [5, 2, 1], [5, page + 3, 2]
    tables = [[3, 0, 0, 0], [1, 5, 0, 0], [7, 0, 0, 0]]
    positions = [range(c - n, c) for n, c in zip(counts, contexts, strict=True)]
    slots = [
        table[position // page] * page + position % page
        for table, span in zip(tables, positions, strict=True)
        for position in span
    ]
    ends = torch.tensor([0, *counts]).cumsum(0)
    k_caches, v_caches = step.allocate(pages * page)

    def index(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=device)

    inputs: dict[str, Any] = {
        "input_ids": index(range(sum(counts))),
        "position_ids": index([p for span in positions for p in span]),
        "slots": index(slots),
        "cu_seqlens": index(ends),
        "context_lens": index(contexts),
        "block_tables": index(tables),
        "last_rows": index(ends[1:] - 1),
        "k_caches": k_caches,
        "v_caches": v_caches,
    }
    tokens = torch.export.Dim("tokens", min=1, max=max_tokens)
    requests = torch.export.Dim("requests", min=1, max=max_requests)
    # At least the width of the example; columns past a context are never read.
    most = max(len(tables[0]), -(-step.max_context // page))
    width = torch.export.Dim("pages", min=1, max=most)
    rows = torch.export.Dim("cache_rows", min=page, max=max_slots)
    shapes: dict[str, Any] = {
        "input_ids": {0: tokens},
        "position_ids": {0: tokens},
        "slots": {0: tokens},
        "cu_seqlens": {0: requests + 1},
        "context_lens": {0: requests},
        "block_tables": {0: requests, 1: width},
        "last_rows": {0: requests},
        "k_caches": [{0: rows} for _ in k_caches],
        "v_caches": [{0: rows} for _ in v_caches],
    }
    return inputs, shapes


def export_step(
    model: Any,
    *,
    page: int = DEFAULT_PAGE,
    max_context: int | None = None,
    max_tokens: int = 8192,
    max_requests: int = 1024,
    verify: bool = True,
    functional: bool = True,
) -> torch.export.ExportedProgram:
    """The functional step graph of a causal language model or of a :class:`StepModel`.

    The graph serves every ``T``, ``R`` and ``M`` from 1 on; ``program.module()`` takes the inputs
    of :meth:`StepModel.forward` by position.  Cache updates are results listed in
    ``graph_signature.user_inputs_to_mutate``; linear, softmax and the operators of ``xllm`` stay
    whole (no decompositions).  A model that was not prepared before is restored afterwards.

    Args:
        model: a transformers model (then ``page``, ``max_context`` and ``verify`` apply), or a
            :class:`StepModel`.
        page, max_context, verify: see :class:`StepModel`.
        max_tokens, max_requests: see :func:`step_example`.
        functional: False leaves the in-place writes in the graph, which saves torch's retracing;
            the importer makes them functional itself.

    Raises:
        XCompileError, UnsupportedError, VerificationError: see :func:`prepare`.
    """
    if isinstance(model, StepModel):
        return _export(model, max_tokens, max_requests, functional)
    was_prepared = preparation(model) is not None
    step = StepModel(model, page=page, max_context=max_context, verify=verify)
    try:
        return _export(step, max_tokens, max_requests, functional)
    finally:
        if not was_prepared:
            restore(model)


def _export(
    step: StepModel, max_tokens: int, max_requests: int, functional: bool
) -> torch.export.ExportedProgram:
    inputs, shapes = step_example(step, max_tokens=max_tokens, max_requests=max_requests)
    # Without gradients: the rotary embedding switches them off itself, which would otherwise become
    # a nested graph.
    with torch.no_grad():
        try:
            program = torch.export.export(
                step, tuple(inputs.values()), dynamic_shapes=shapes, strict=False
            )
        except GuardOnDataDependentSymNode as error:
            module = type(module_in(error.__traceback__)).__name__
            raise UnsupportedError(
                f"{type(step.model).__name__}: what {module} does depends on the values of "
                f"tensors, so that one graph cannot serve every step: {error.cond}"
            ) from error
        return program.run_decompositions({}) if functional else program

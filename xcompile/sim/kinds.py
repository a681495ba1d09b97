"""Which cores a kernel runs on, when its definition does not say so itself.

The compiler derives it from what the kernel calls: cube instructions need cube cores, vector
instructions vector cores, both or the Matmul object a mix of one cube core and two vector cores.
What counts is the text that the kernel reaches by name: functions and classes of its own file and
of the quoted headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xcompile.sim.source import Source

KINDS = {
    "KERNEL_TYPE_AIV_ONLY": "AivOnly",
    "KERNEL_TYPE_AIC_ONLY": "AicOnly",
    "KERNEL_TYPE_MIX_AIV_1_0": "MixAiv10",
    "KERNEL_TYPE_MIX_AIC_1_0": "MixAic10",
    "KERNEL_TYPE_MIX_AIC_1_1": "Mix11",
    "KERNEL_TYPE_MIX_AIC_1_2": "Mix12",
}
MIX = {(1, 2): "Mix12", (1, 1): "Mix11", (1, 0): "MixAic10", (0, 1): "MixAiv10"}

# Both units are needed for what the Matmul object and cross-core flags of the pair do.
_MIX = re.compile(
    r"\b(?:REGIST_MATMUL_OBJ|IterateAll|IterateBatch|CrossCoreSetFlag|CrossCoreWaitFlag"
    r"|ASCEND_IS_AI[CV]|g_coreType|NotifyEvent|WaitEvent)\b"
)
_CUBE = re.compile(
    r"\b(?:Mmad\w*|LoadData\w*|Fixpipe|Gemm|Conv2D|SetFixpipe\w+|Load3D\w*"
    r"|TPosition::(?:A[12]|B[12]|C[12]|CO1|C2PIPE2GM)|QuePosition::(?:A[12]|B[12]|C[12]|CO1)"
    r"|L1|L0A|L0B|L0C|__cbuf__|__ca__|__cb__|__cc__)\b"
)
_VECTOR = re.compile(
    r"\b(?:VECIN|VECOUT|VECCALC|UB|__ubuf__|DataCopyPad|Adds?|Subs?|Muls?|Div|Relu|LeakyRelu|Exp|Ln"
    r"|Sqrt|Rsqrt|Abs|Cast|Duplicate|Select|Compare\w*|Reduce\w+|WholeReduce\w+|BlockReduce\w+"
    r"|Max|Min|Maxs|Mins|Axpy|Gather\w*|Sort\w*|MrgSort\w*|SoftMax|LayerNorm\w*|Transpose|Brcb)\b"
)
_CUBE_ONLY = re.compile(r"^[ \t]*#[ \t]*define[ \t]+ASCENDC_CUBE_ONLY\b", re.MULTILINE)
_TASK = re.compile(r"\bKERNEL_TASK_TYPE_DEFAULT\s*\(\s*(\w+)\s*\)")
_TASK_KEY = re.compile(r"\bKERNEL_TASK_TYPE\s*\(\s*([^,()]+?)\s*,\s*(\w+)\s*\)")
_CALLABLE = re.compile(r"([A-Za-z_]\w*)\s*(?:<[^;{}]*>)?\s*(?:::\s*~?\s*([A-Za-z_]\w*)\s*)?\(")
_CLASS = re.compile(r"\b(?:class|struct)\s+([A-Za-z_]\w*)[^;{}()]*\{")
_ALIAS = re.compile(r"\busing\s+([A-Za-z_]\w*)\s*=([^;]*);|#[ \t]*define[ \t]+(\w+)([^\n]*)")
_KEYWORDS = {
    "if",
    "for",
    "while",
    "switch",
    "return",
    "sizeof",
    "catch",
    "static_assert",
    "decltype",
}


def declared(body: str) -> tuple[str | None, dict[str, str]]:
    """What KERNEL_TASK_TYPE_DEFAULT and KERNEL_TASK_TYPE (by tiling key) in a text ask for."""
    defaults = [KINDS[m.group(1)] for m in _TASK.finditer(body) if m.group(1) in KINDS]
    keys = {m.group(1): KINDS[m.group(2)] for m in _TASK_KEY.finditer(body) if m.group(2) in KINDS}
    return (defaults[0] if defaults else None), keys


def definitions(source: Source) -> dict[str, str]:
    """Name -> text of the classes, functions and aliases that a file defines."""
    found: dict[str, list[str]] = {}
    code = source.code
    for m in _CLASS.finditer(code):
        end = source.close(m.end() - 1)
        if end is not None:
            found.setdefault(m.group(1), []).append(code[m.start() : end])
    for m in _CALLABLE.finditer(code):
        if m.group(1) in _KEYWORDS:
            continue
        close = source.close(m.end() - 1)
        if close is None:
            continue
        rest = re.compile(r"\s*(?:const|noexcept|override|final|:[^;{}]*)*\s*\{").match(
            code, close + 1
        )
        if rest is None:
            continue
        end = source.close(rest.end() - 1)
        text = code[m.start() : end]
        for name in (m.group(1), m.group(2)):
            if name:
                found.setdefault(name, []).append(text)
    for m in _ALIAS.finditer(code):
        name, text = (m.group(1), m.group(2)) if m.group(1) else (m.group(3), m.group(4))
        found.setdefault(name, []).append(text)
    return {name: "\n".join(texts) for name, texts in found.items()}


def reachable(body: str, known: Mapping[str, str]) -> str:
    """The body and every definition that it names, directly or through another."""
    texts, seen, queue = [], set(), [body]
    while queue:
        text = queue.pop()
        texts.append(text)
        for word in set(re.findall(r"[A-Za-z_]\w*", text)):
            if word in known and word not in seen:
                seen.add(word)
                queue.append(known[word])
    return "\n".join(texts)


def derive(body: str, known: Mapping[str, str], texts: Iterable[str]) -> str:
    """The kind that the compiler derives for a kernel marked only with __aicore__."""
    text = reachable(body, known)
    cube, vector, mix = (bool(r.search(text)) for r in (_CUBE, _VECTOR, _MIX))
    if any(_CUBE_ONLY.search(t) for t in texts) and not vector:
        return "AicOnly"
    if mix or (cube and vector):
        return "Mix12"
    return "AicOnly" if cube else "AivOnly"

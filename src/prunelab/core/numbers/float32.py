"""How exactly float32 is multiplied: as IEEE 754 has it, or with factors rounded to TF32 or bfloat16."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import backends

SHORT = {"tf32": "TF32", "bf16": "bfloat16", "high": "TF32", "medium": "bfloat16", True: "TF32"}
Setting = tuple[str, str, Callable[[], Any], Callable[[Any], None], Any]  # device, operations, get, set, exact value


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Within this block float32 is multiplied exactly on every device; then as before."""
    before = [(put, get()) for _, _, get, put, _ in _settings()]
    try:
        for *_, put, exact in _settings():
            put(exact)
        yield
    finally:
        for put, value in before:
            put(value)


def float32_name(device: torch.device) -> str:
    """What float32 is on this device: "float32", or as in "float32 (TF32 allowed in matmul, convolutions)"."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "float32"
    allowed: dict[str, list[str]] = {}
    for kind, operations, get, *_ in _settings():
        if kind == device.type and (short := SHORT.get(get())):
            allowed.setdefault(short, []).append(operations)
    words = [f"{short} allowed in {', '.join(operations)}" for short, operations in allowed.items()]
    return f"float32 ({'; '.join(words)})" if words else "float32"


def _settings() -> list[Setting]:
    if not hasattr(backends.cudnn, "conv"):  # before torch 2.9
        matmul = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
        cudnn = (partial(getattr, backends.cudnn, "allow_tf32"), partial(setattr, backends.cudnn, "allow_tf32"), False)
        return [("cuda", "matmul", *matmul), ("cuda", "convolutions", *cudnn), ("cpu", "matmul", *matmul)]
    cpu: Any = backends.mkldnn
    parts = [
        ("cuda", "matmul", backends.cuda.matmul),
        ("cuda", "convolutions", backends.cudnn.conv),
        ("cuda", "recurrent layers", backends.cudnn.rnn),
        ("cpu", "matmul", cpu.matmul),
        ("cpu", "convolutions", cpu.conv),
        ("cpu", "recurrent layers", cpu.rnn),
    ]
    key = "fp32_precision"
    return [
        (kind, what, partial(getattr, part, key), partial(setattr, part, key), "ieee") for kind, what, part in parts
    ]

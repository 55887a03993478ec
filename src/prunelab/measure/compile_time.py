"""Seconds that this process has spent in torch.compile."""

import sys

import torch


def compile_seconds() -> float:
    """Of forward and backward graphs; torch.compile is not imported for it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return float(dynamo.calculate_time_spent()["total_wall_time"]) if dynamo else 0.0


def drop_graphs() -> None:
    """`torch.compiler.reset()`, after which `compile_seconds` goes on from where it was."""
    if dynamo := sys.modules.get("torch._dynamo.utils"):  # else there are none
        spent = dict(dynamo.cumulative_time_spent_ns)
        torch.compiler.reset()
        dynamo.cumulative_time_spent_ns.update(spent)

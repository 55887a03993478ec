"""Seconds that this process has spent in torch.compile."""

import sys


def compile_seconds() -> float:
    """Of forward and backward graphs; torch.compile is not imported for it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return float(dynamo.calculate_time_spent()["total_wall_time"]) if dynamo else 0.0

"""The content of a whole result.json, for tests that need one and train nothing."""

import json
from pathlib import Path
from typing import Any

REAL = Path(__file__).parent / "store" / "result-0.1.0.json"


def whole_result(**changes: Any) -> dict[str, Any]:
    """That of a real job; `changes` replace top-level entries."""
    return json.loads(REAL.read_text()) | changes


def cost(macs: float, nonzero: int = 1, bops: int = 1) -> dict[str, Any]:
    """The costs of both networks, of which the pruned one's are given."""
    dense = {"params": 9, "nonzero": 9, "macs": 9, "bops": 9}
    return {"dense": dense, "pruned": dense | {"nonzero": nonzero, "macs": macs, "bops": bops}}

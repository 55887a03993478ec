"""Lightning callbacks that prune, or analyse what pruning would cost; they work in any Lightning project."""

from prunelab.callbacks.analysis.rate_scan import Scan
from prunelab.callbacks.analysis.sensitivity import Sensitivity
from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.penalize import Penalize
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.scaling_factors import ScalingFactors
from prunelab.callbacks.shrink import Shrink
from prunelab.callbacks.soft_pruning import SoftPruning
from prunelab.callbacks.sparsify import Sparsify

__all__ = [
    "Binarize",
    "Penalize",
    "Pruning",
    "Rewind",
    "ScalingFactors",
    "Scan",
    "Sensitivity",
    "Shrink",
    "SoftPruning",
    "Sparsify",
]

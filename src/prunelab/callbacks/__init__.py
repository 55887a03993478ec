"""Lightning callbacks that prune; they work in any Lightning project."""

from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.shrink import Shrink

__all__ = ["Binarize", "Pruning", "Rewind", "Shrink"]

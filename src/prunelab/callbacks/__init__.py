"""Lightning callbacks that prune; they work in any Lightning project."""

from prunelab.callbacks.pruning import Pruning

__all__ = ["Pruning"]

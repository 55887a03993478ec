"""prunelab for other projects: `prune`, `groups`, `method`; callbacks, the parts of a method, `load` and `profile`.

Each name is imported when it is first used, so that composing a configuration does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelab.callbacks.analysis.rate_scan import Scan as Scan
    from prunelab.callbacks.analysis.sensitivity import Sensitivity as Sensitivity
    from prunelab.callbacks.binarize import Binarize as Binarize
    from prunelab.callbacks.penalize import Penalize as Penalize
    from prunelab.callbacks.pruning import Pruning as Pruning
    from prunelab.callbacks.rewind import Rewind as Rewind
    from prunelab.callbacks.scaling_factors import ScalingFactors as ScalingFactors
    from prunelab.callbacks.shrink import Shrink as Shrink
    from prunelab.callbacks.soft_pruning import SoftPruning as SoftPruning
    from prunelab.callbacks.sparsify import Sparsify as Sparsify
    from prunelab.channels.blocks import Block as Block
    from prunelab.channels.budget import Budget as Budget
    from prunelab.channels.penalties import GroupLasso as GroupLasso
    from prunelab.channels.penalties import ScaleL1 as ScaleL1
    from prunelab.channels.tracing.own_rules import register_rule as register_rule
    from prunelab.channels.units import Filter as Filter
    from prunelab.channels.units import Head as Head
    from prunelab.channels.units import Neuron as Neuron
    from prunelab.channels.units import Stream as Stream
    from prunelab.compact.file import load as load
    from prunelab.compact.file import save as save
    from prunelab.core.allocation import ERK as ERK
    from prunelab.core.allocation import Allocation as Allocation
    from prunelab.core.allocation import Explicit as Explicit
    from prunelab.core.allocation import Global as Global
    from prunelab.core.allocation import Uniform as Uniform
    from prunelab.core.allocation import UniformPlus as UniformPlus
    from prunelab.core.allocation import Zeros as Zeros
    from prunelab.core.context import Context as Context
    from prunelab.core.criterion import Criterion as Criterion
    from prunelab.core.granularity import NM as NM
    from prunelab.core.granularity import Granularity as Granularity
    from prunelab.core.granularity import Weight as Weight
    from prunelab.core.held import Held as Held
    from prunelab.core.isomorphic import Isomorphic as Isomorphic
    from prunelab.core.pruner import Pruner as Pruner
    from prunelab.core.regrow import Regrow as Regrow
    from prunelab.core.schedule import Cubic as Cubic
    from prunelab.core.schedule import Rounds as Rounds
    from prunelab.core.schedule import Schedule as Schedule
    from prunelab.core.time import Progress as Progress
    from prunelab.criteria.bn_scale import BNScale as BNScale
    from prunelab.criteria.factor import Factor as Factor
    from prunelab.criteria.fpgm import FPGM as FPGM
    from prunelab.criteria.gradient import Gradient as Gradient
    from prunelab.criteria.grasp import GraSP as GraSP
    from prunelab.criteria.lamp import LAMP as LAMP
    from prunelab.criteria.movement import Movement as Movement
    from prunelab.criteria.norm import Norm as Norm
    from prunelab.criteria.random import Random as Random
    from prunelab.criteria.synflow import SynFlow as SynFlow
    from prunelab.criteria.taylor import Taylor as Taylor
    from prunelab.criteria.wanda import Wanda as Wanda
    from prunelab.job.named_method import method as method
    from prunelab.lit.distillation import Distillation as Distillation
    from prunelab.measure.profiler import profile as profile
    from prunelab.oneshot.groups import groups as groups
    from prunelab.oneshot.prune import prune as prune

HOMES = {
    "Binarize": "prunelab.callbacks.binarize",
    "Penalize": "prunelab.callbacks.penalize",
    "Pruning": "prunelab.callbacks.pruning",
    "Rewind": "prunelab.callbacks.rewind",
    "ScalingFactors": "prunelab.callbacks.scaling_factors",
    "Scan": "prunelab.callbacks.analysis.rate_scan",
    "Sensitivity": "prunelab.callbacks.analysis.sensitivity",
    "Shrink": "prunelab.callbacks.shrink",
    "SoftPruning": "prunelab.callbacks.soft_pruning",
    "Sparsify": "prunelab.callbacks.sparsify",
    "Block": "prunelab.channels.blocks",
    "Budget": "prunelab.channels.budget",
    "GroupLasso": "prunelab.channels.penalties",
    "ScaleL1": "prunelab.channels.penalties",
    "register_rule": "prunelab.channels.tracing.own_rules",
    "Filter": "prunelab.channels.units",
    "Head": "prunelab.channels.units",
    "Neuron": "prunelab.channels.units",
    "Stream": "prunelab.channels.units",
    "load": "prunelab.compact.file",
    "save": "prunelab.compact.file",
    "ERK": "prunelab.core.allocation",
    "Allocation": "prunelab.core.allocation",
    "Explicit": "prunelab.core.allocation",
    "Global": "prunelab.core.allocation",
    "Uniform": "prunelab.core.allocation",
    "UniformPlus": "prunelab.core.allocation",
    "Zeros": "prunelab.core.allocation",
    "Context": "prunelab.core.context",
    "Criterion": "prunelab.core.criterion",
    "NM": "prunelab.core.granularity",
    "Granularity": "prunelab.core.granularity",
    "Weight": "prunelab.core.granularity",
    "Held": "prunelab.core.held",
    "Isomorphic": "prunelab.core.isomorphic",
    "Pruner": "prunelab.core.pruner",
    "Regrow": "prunelab.core.regrow",
    "Cubic": "prunelab.core.schedule",
    "Rounds": "prunelab.core.schedule",
    "Schedule": "prunelab.core.schedule",
    "Progress": "prunelab.core.time",
    "BNScale": "prunelab.criteria.bn_scale",
    "Factor": "prunelab.criteria.factor",
    "FPGM": "prunelab.criteria.fpgm",
    "Gradient": "prunelab.criteria.gradient",
    "GraSP": "prunelab.criteria.grasp",
    "LAMP": "prunelab.criteria.lamp",
    "Movement": "prunelab.criteria.movement",
    "Norm": "prunelab.criteria.norm",
    "Random": "prunelab.criteria.random",
    "SynFlow": "prunelab.criteria.synflow",
    "Taylor": "prunelab.criteria.taylor",
    "Wanda": "prunelab.criteria.wanda",
    "Distillation": "prunelab.lit.distillation",
    "method": "prunelab.job.named_method",
    "profile": "prunelab.measure.profiler",
    "groups": "prunelab.oneshot.groups",
    "prune": "prunelab.oneshot.prune",
}
__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'prunelab' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])

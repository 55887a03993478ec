"""Rehearses surgery on a copy of a network, before anything is trained that the certificate would refuse at the end."""

import torch
from torch import Tensor, nn

from prunelab.channels.certificate import EquivalenceCheck
from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure
from prunelab.core.network.living_norms import take_notice
from prunelab.core.network.masked_parameters import MaskedParameters
from prunelab.core.numbers.seeding import derived_generator
from prunelab.core.types import Example, Masks

LEAST = 2  # inputs: batch norm has no variance of one


def rehearse(copied: nn.Module, structure: PrunableStructure, keep: Masks, example: Example) -> None:
    """Masks the units that are False in `keep`, removes them, and compares; `copied` is changed.

    Inputs are random, in the form of `example`. Raises EquivalenceError where the small network does not run or
    computes something else, and ValueError where it cannot be cut.
    """
    masks = structure.expand(keep)
    masked = MaskedParameters(dict(copied.named_parameters()))
    masked.adopt(masks)
    masked.zero()
    take_notice(copied, structure.norms, masks)
    check = EquivalenceCheck(copied, _random_inputs(example))
    shrink(copied, structure.plan(keep))
    check.certify(copied)


def _random_inputs(example: Example) -> Example:
    generator = derived_generator("rehearsal", 0)

    def random(x: Tensor) -> Tensor:
        """In [0, 1), as of images; numbers of tokens and the like stay what they are."""
        if x.dim() and len(x) < LEAST:
            x = x.expand(LEAST, *x.shape[1:])
        return torch.rand(x.shape, generator=generator, dtype=x.dtype) if x.is_floating_point() else x

    return tuple(map(random, example)) if isinstance(example, tuple) else random(example)

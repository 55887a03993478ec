"""Rehearses surgery on a copy of a network, before anything is trained that the certificate would refuse at the end."""

from collections.abc import Sequence

from torch import nn

from prunelab.channels.equivalence.certificate import EquivalenceCheck, EquivalenceError
from prunelab.channels.equivalence.proof import bisect
from prunelab.channels.equivalence.trial import mask, random_inputs, undone
from prunelab.channels.surgery import shrink
from prunelab.channels.units import PrunableStructure
from prunelab.core.types import Example, Masks


def rehearse(copied: nn.Module, structure: PrunableStructure, keep: Masks, example: Example) -> None:
    """Masks the units that are False in `keep`, removes them, and compares; `copied` is changed.

    Inputs are random, in the form of `example`. Raises EquivalenceError where the small network does not run or
    computes something else, naming the groups of channels at fault, and ValueError where it cannot be cut.
    """
    inputs = random_inputs(example)

    def failure(names: Sequence[str]) -> str | None:
        some = {name: keep[name] for name in names}
        with undone(copied):
            mask(copied, structure.expand(some), structure.norms)
            try:
                check = EquivalenceCheck(copied, inputs)
                shrink(copied, structure.plan(some))
                check.certify(copied)
            except EquivalenceError as error:
                return str(error)
        return None

    why = failure(tuple(keep))
    if why is None:
        return
    faults: dict[str, str] = {}
    if structure.places and failure(()) is None:  # blocks stay removed
        bisect((), tuple(keep), failure, faults)
    raise EquivalenceError(why + (f". At fault: {', '.join(faults)}" if faults else ""))

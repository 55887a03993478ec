"""Other tensors in the place of a network's own, for the length of a block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def temporary_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Replaces parameters and buffers of `net` by `tensors`, named as in `named_parameters` and `named_buffers`.

    Shapes and dtypes may differ. In the place of a parameter stands a new one, which requires a gradient if its tensor
    does. A shared tensor is replaced in every module that holds it. Afterwards, also after an exception, all modules
    hold the objects they held before. Raises KeyError for other names.
    """
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    stand_ins = {
        id(own[name]): nn.Parameter(tensor, tensor.requires_grad) if isinstance(own[name], nn.Parameter) else tensor
        for name, tensor in tensors.items()
    }
    slots = [(m, slot, tensor) for m in net.modules() for slot, tensor in [*m._parameters.items(), *m._buffers.items()]]
    try:
        for module, slot, tensor in slots:
            if id(tensor) in stand_ins:
                setattr(module, slot, stand_ins[id(tensor)])  # as a user would: recurrent layers keep a list besides
        yield
    finally:
        for module, slot, tensor in slots:  # also those that were None: some networks fill them when they run
            setattr(module, slot, tensor)

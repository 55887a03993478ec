"""A GPU that is not there: CPU tensors, some of them tagged as being on it.

    with PretendedDevice("cuda") as gpu:
        net = Net().to("cuda")  # tagged: `.device` is cuda:0
        net(x.to("cuda")).sum().item()  # computed on the CPU
    gpu.waits  # Counter of (what, "file.py:line") where the host would wait for the device

Tagged and untagged tensors in one operation are a RuntimeError, as on a GPU; what is made of tagged ones is tagged. A
pretended "mps" has no float64. Kernels, streams, rounding, memory and torch.compile are not pretended.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from unittest.mock import patch

import torch
import torch._dynamo  # its import looks at functions of torch.cuda that are replaced below
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
READS = {
    "_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount",
    "_unique2", "unique_dim", "unique_consecutive",
}  # fmt: skip
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # their indices may be the host's
COPIES = {"copy_", "_to_copy"}
NUMPY = (Tensor.numpy, Tensor.__array__)
DIFFERENTIATE = (Tensor.backward, torch.autograd.backward, torch.autograd.grad)
DEVICE_OF, IS_CUDA = Tensor.device.__get__, Tensor.is_cuda.__get__
LIBRARIES = ("/torch/", "/torchmetrics/", "/lightning", __file__, "/contextlib.py", "/unittest/", "<")
TAGGED: dict[int, weakref.ref[Any]] = {}  # storages by address; of all modes, as caches outlive one


@contextmanager
def lightning_on(kind: str) -> Iterator["PretendedDevice"]:
    """Trainers with accelerator="cpu" and one device train on a pretended one."""
    with (
        PretendedDevice(kind) as pretended,
        patch.object(SingleDeviceStrategy, "root_device", property(lambda _: pretended.device, lambda *_: None)),
        patch.object(CPUAccelerator, "setup_device"),
    ):
        yield pretended


def is_tagged(x: Tensor) -> bool:
    return x.untyped_storage()._cdata in TAGGED


class PretendedDevice(TorchFunctionMode):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.device = torch.device(kind, 0)
        self.waits: Counter[tuple[str, str]] = Counter()
        self.differentiating = False  # then formulas make zeros "like" a tensor, of which only its options are seen

    def __enter__(self) -> Self:
        self._patches, export = ExitStack(), torch.export.export
        stubs: dict[str, Any] = dict.fromkeys(("init", "set_rng_state", "reset_peak_memory_stats"), lambda *_: None)
        stubs |= dict.fromkeys(("memory_allocated", "max_memory_allocated"), lambda *_: 0)
        stubs |= {"get_rng_state": lambda *_: torch.get_rng_state(), "get_device_name": lambda *_: "pretended"}
        stubs |= {"get_device_capability": lambda *_: (8, 0), "synchronize": lambda *_: self.wait("synchronize")}
        for name, stub in stubs.items():
            self._patches.enter_context(patch.object(torch.cuda, name, stub))
        self._patches.enter_context(patch.object(torch.export, "export", lambda *a, **k: _untagged(export, *a, **k)))
        self._patches.enter_context(_Kernels(self))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def wait(self, what: str) -> None:
        self.waits[what, _caller()] += 1

    def tag(self, values: Any) -> Any:
        return tree_map_only(Tensor, lambda x: self.put(x, True), values)

    def put(self, x: Tensor, there: bool) -> Tensor:
        storage = x.untyped_storage()
        key = storage._cdata
        if not there:
            TAGGED.pop(key, None)
            return x
        if self.device.type == "mps" and x.dtype == torch.float64:
            raise TypeError(f"Cannot convert a MPS Tensor to float64, at {_caller()}")
        TAGGED.setdefault(key, weakref.ref(storage, lambda _: TAGGED.pop(key, None)))
        return x

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == DEVICE_OF and is_tagged(args[0]):
            return self.device
        if func == IS_CUDA and is_tagged(args[0]):
            return self.device.type == "cuda"
        if func in (Tensor.cpu, Tensor.cuda):
            return self._move(args[0], CPU if func is Tensor.cpu else self.device)
        if func is Tensor.tolist:
            return self._move(args[0].detach(), CPU).tolist()
        if func in NUMPY and is_tagged(args[0]):
            raise TypeError(f"can't convert {self.device} tensor to numpy")
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        if func is Tensor.__deepcopy__:  # copies the storage, which no kernel does
            return self.put(func(*args, **kwargs), is_tagged(args[0]))
        if func in DIFFERENTIATE:
            tagged = any(is_tagged(x) for x in tree_leaves(args) if isinstance(x, Tensor))
            with patch.object(self, "differentiating", tagged):
                return func(*args, **kwargs)
        if (target := kwargs.get("device")) is None:
            return func(*args, **kwargs)
        there = torch.device(target).type == self.device.type
        if there and (generator := kwargs.get("generator")) is not None and generator.device.type == "cpu":
            raise RuntimeError(f"Expected a '{self.device.type}' device type for generator but found 'cpu'")
        if there and func in (torch.tensor, torch.as_tensor):
            self.wait("to the device")
        out = func(*args, **kwargs | {"device": "cpu"})
        return self.tag(out) if there else out

    def _to(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        target, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        for arg in args:
            if isinstance(arg, Tensor):
                target, dtype = self.device if is_tagged(arg) else CPU, arg.dtype
            target = arg if isinstance(arg, str | torch.device) else target
            dtype = arg if isinstance(arg, torch.dtype) else dtype
        kwargs.pop("non_blocking", None)
        x = x.to(dtype=dtype or x.dtype, **kwargs)
        return x if target is None else self._move(x, torch.device(target))

    def _move(self, x: Tensor, target: torch.device) -> Tensor:
        if (there := target.type == self.device.type) == is_tagged(x):
            return x
        self.wait("to the device" if there else "to the host")
        return self.put(x.clone(), there)


class _Kernels(TorchDispatchMode):
    """What reaches the kernels, from the backward pass and optimizers too."""

    def __init__(self, pretended: PretendedDevice) -> None:
        super().__init__()
        self.pretended = pretended

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = func.overloadpacket.__name__, [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        tagged = [is_tagged(x) for x in given]
        if any(tagged):
            self._check(func, name, args, given, tagged)
        out = func(*args, **(kwargs or {}))
        made_there = any(tagged) or (self.pretended.differentiating and not given)
        return self.pretended.tag(out) if made_there and name != "copy_" else out

    def _check(self, func: Any, name: str, args: Any, given: list[Tensor], tagged: list[bool]) -> None:
        if name in COPIES:
            if not all(tagged):
                self.pretended.wait("to the device" if tagged[0] else "to the host")
            return
        if name in READS:
            self.pretended.wait(name)
        if name.startswith("_fused"):
            _check_layouts(func, [tensors for tensors in args[:4] if tensors])
        if name in INDEXED and tagged[0]:
            for index in (x for x in args[1] if x is not None):
                if index.dtype == torch.bool and (name == "index" or args[2].dim()):
                    self.pretended.wait("index by bool")
                if not is_tagged(index):
                    self.pretended.wait("to the device")
            given, tagged = given[:1], tagged[:1]
        scalars = torch.Tag.pointwise in func.tags or name.startswith("_foreach") or name in ("index_fill_", "where")
        for x, there in zip(given, tagged, strict=True):
            if not there and not (x.dim() == 0 and scalars):
                raise RuntimeError(f"{func}: tensors on two devices, on cpu {tuple(x.shape)}, meet at {_caller()}")


def _check_layouts(func: Any, lists: list[list[Tensor]]) -> None:
    """CUDA's optimizer kernels refuse gradients and state in other strides than their parameter's, the CPU's do not."""
    for tensors in zip(*lists, strict=True):
        layouts = {tuple((n, stride) for n, stride in zip(x.shape, x.stride(), strict=True) if n > 1) for x in tensors}
        if len(layouts) > 1:
            raise RuntimeError(f"{func}: parameter, gradient and state must have one layout, not {sorted(layouts)}")


def _caller() -> str:
    """The innermost line that is no library's."""
    frame: Any = sys._getframe(1)
    while frame is not None and any(part in frame.f_code.co_filename for part in LIBRARIES):
        frame = frame.f_back
    return "/".join(frame.f_code.co_filename.split("/")[-2:]) + f":{frame.f_lineno}" if frame else "?"


def _untagged(function: Any, *args: Any, **kwargs: Any) -> Any:
    """For tracers, which have modes of their own: they see CPU tensors."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        return function(*args, **kwargs)

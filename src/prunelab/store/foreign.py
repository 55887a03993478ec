"""Finds the tensors of a network in a file that another program saved, whatever it has wrapped around them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunelab.core.text.printable import printable

SHOWN = 3  # names in a message
COUNT = "num_batches_tracked"  # of batch norms; PyTorch before 0.4.1 saved none


class Reading(NamedTuple):
    """Tensors by the names that were wanted, and what was done to find them, in words."""

    tensors: dict[str, Tensor]
    notes: list[str]


class _Fit(NamedTuple):
    """Where the wanted tensors lie in a file under one prefix, and what keeps them from fitting."""

    prefix: str
    places: dict[str, str]  # wanted name -> name in the file
    renamed: str
    wrong: str  # "" where everything fits


def read(saved: Any, wanted: Mapping[str, Tensor], which: str = "") -> Reading:
    """The tensors of the names and shapes of a network's, `wanted`, in `saved`, which is what `torch.load` returned.

    They may lie in a dictionary of a dictionary (`state_dict`, `model`), behind one prefix (`module.`, `net.`), with
    masks of torch.nn.utils.prune, which are applied, and without counts of batches; one layer may have another name.
    Where several networks fit, `which` is the beginning of one's names. Raises ValueError unless exactly one fits, with
    names that are there and names that are wanted. Integers, as quantised weights are, fit no floats.
    """
    found, masks = _tensors(saved, which), dict[str, Tensor]()
    if not any(name.endswith("_orig") for name in wanted):  # else the network itself is masked
        found, masks = _masked(found)
    if not found:
        raise ValueError("it holds no state_dict")
    prefixes = _prefixes(found, wanted)
    if which and not (prefixes := [prefix for prefix in prefixes if prefix.startswith(f"{which}.")]):
        raise ValueError(f"nothing in it that is wanted begins with {which}; it has {_some(found)}")
    fits = [_fit(prefix, found, wanted) for prefix in prefixes]
    if not (fitting := [fit for fit in fits if not fit.wrong]):
        raise ValueError(fits[0].wrong)
    if len(fitting) > 1:
        names = [printable(fit.prefix.rstrip(".")) for fit in fitting]
        raise ValueError(f"several networks in it fit, {', '.join(names)}: choose one, as in PATH::{names[0]}")
    return _reading(fitting[0], found, masks, wanted)


def _tensors(saved: Any, which: str) -> dict[str, Tensor]:
    """Every plain tensor by its dotted name, those in dictionaries in the outermost one too."""
    if not isinstance(saved, dict):
        return {}
    if "pytorch-lightning_version" in saved and not which:  # beside it lie states of callbacks, and averages
        saved = {"state_dict": saved.get("state_dict")}
    flat = dict(saved)
    for key, inside in saved.items():
        if isinstance(inside, dict):
            flat |= {f"{key}.{name}": value for name, value in inside.items()}
    return {str(name).replace("_orig_mod.", ""): value for name, value in flat.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Whether it can be copied into a parameter, and takes no more memory than its file has bytes."""
    if type(value) not in (Tensor, nn.Parameter) or value.is_nested or value.layout is not torch.strided:
        return False
    return value.device.type == "cpu" and not (value.is_complex() or value.is_quantized)


def _masked(found: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each `weight_orig` that has a mask under the name `weight`, and the masks by these names."""
    masks = {
        name.removesuffix("_mask"): mask
        for name, mask in found.items()
        if name.endswith("_mask") and (kept := found.get(f"{name.removesuffix('_mask')}_orig")) is not None
        if kept.shape == mask.shape
    }
    gone = {f"{name}{end}" for name in masks for end in ("_orig", "_mask")}
    renamed = {name: found[f"{name}_orig"] for name in masks}
    return {name: tensor for name, tensor in found.items() if name not in gone} | renamed, masks


def _prefixes(found: Iterable[str], wanted: Collection[str]) -> list[str]:
    """Every beginning of a name whose rest is wanted, the most frequent first; "" where there is none."""
    deepest, counts = max((name.count(".") for name in wanted), default=0) + 1, Counter[str]()
    for name in found:
        parts = name.split(".")
        rests = (".".join(parts[-depth:]) for depth in range(1, min(deepest, len(parts)) + 1))
        counts.update(name.removesuffix(rest) for rest in rests if rest in wanted)
    return [prefix for prefix, _ in counts.most_common()] or [""]


def _fit(prefix: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> _Fit:
    places = {name.removeprefix(prefix): name for name in found if name.startswith(prefix)}
    missing = [name for name in wanted if name not in places and not name.endswith(COUNT)]
    others = [name for name in places if name not in wanted]
    renamed = ""
    if same := _one_layer(missing, others):
        renamed = " as ".join(printable(name.rpartition(".")[0]) for name in (others[0], missing[0]))
        places |= {name: places[other] for name, other in same.items()}
        missing, others = [], []
    wrong = [f"it lacks {_some(missing)}"] if missing else []
    wrong += [f"it has {_some(others)}, which nothing asks for"] if others else []
    places = {name: places[name] for name in wanted if name in places}
    pairs = [(name, found[place], wanted[name]) for name, place in places.items()]
    differing = [f"{n} is {tuple(t.shape)!r:.80}, expected {tuple(w.shape)}" for n, t, w in pairs if t.shape != w.shape]
    wrong += [_some(differing)] if differing else []
    integers = [f"{n} is {t.dtype}" for n, t, w in pairs if w.is_floating_point() > t.is_floating_point()]
    wrong += [f"{_some(integers)}, expected floats: save quantised weights as floats"] if integers else []
    return _Fit(prefix, places, renamed, "; ".join(wrong))


def _one_layer(missing: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Which of `others` each of `missing` is, if all of either are of one layer, alike but for its name; else {}."""
    if (
        len({name.rpartition(".")[0] for name in missing}) != 1
        or len({name.rpartition(".")[0] for name in others}) != 1
    ):
        return {}
    leaves = {name.rpartition(".")[2]: name for name in others}
    same = {name: leaves.get(name.rpartition(".")[2], "") for name in missing}
    return same if len(missing) == len(others) and all(same.values()) else {}


def _reading(
    fit: _Fit, found: Mapping[str, Tensor], masks: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Reading:
    masked = [place for place in fit.places.values() if place in masks]
    left = [name for name in found if name not in fit.places.values()]
    notes = [f"names begin with {printable(fit.prefix)}"] if fit.prefix else []
    notes += [fit.renamed] if fit.renamed else []
    notes += [f"masks applied: {len(masked)}"] if masked else []
    notes += [f"{_some(left)} left out"] if left else []
    tensors = {name: found[at] * masks[at] if at in masks else found[at] for name, at in fit.places.items()}
    counts = {name: torch.zeros(t.shape, dtype=torch.long) for name, t in wanted.items() if name not in tensors}
    return Reading(tensors | counts, notes)


def _some(names: Collection[str]) -> str:
    """The first names in words."""
    rest = len(names) - SHOWN
    return ", ".join(f"{printable(name):.160}" for name in [*names][:SHOWN]) + (f" and {rest} more" if rest > 0 else "")

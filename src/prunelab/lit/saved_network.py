"""The network in a checkpoint of Lightning, built anew: nothing that the file names is run."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.scaling_factors import ScalingFactors, refuse_factors
from prunelab.callbacks.shrink import Shrink
from prunelab.channels.plan import Plan
from prunelab.compact import description
from prunelab.core.network.living_norms import refuse_living
from prunelab.models import registry

JOB = "RecordJob"  # the callback that keeps the settings of a job in its checkpoints
PREFIX, MODEL = "net.", "model."  # of tensors, and of settings


def rebuild(checkpoint: Mapping[str, Any], classes: int, into: nn.Module | None) -> nn.Module:
    """The network of a Classifier in training mode, on the CPU, small where `Shrink` has removed channels.

    It is the one of prunelab that the checkpoint of a job names, or `into`, new and unpruned, which is filled. Raises
    ValueError where there is neither, where it does not fit, and where training computes with other weights than these.
    """
    callbacks = checkpoint.get("callbacks", {})
    _refuse_other_weights(callbacks)
    values = callbacks.get(JOB, {}).get("values", {})
    target = str(values.get(f"{MODEL}_target_", "not named"))
    name = registry.name_of(target)
    if into is None and name is None:
        raise ValueError(f"its network is {target:.160}: give a new one, load_from_checkpoint(path, net=net)")
    settings = {key.removeprefix(MODEL): value for key, value in values.items() if key.startswith(MODEL)}
    args = {key: value for key, value in settings.items() if key != "_target_"} | {"num_classes": classes}
    removed = callbacks.get(Shrink.__qualname__, {}).get("plan")
    plan = Plan.from_json(removed).below(PREFIX.rstrip(".")) if removed else Plan()
    about = {
        "net": name,
        "args": args,
        "channels_last": bool(values.get("channels_last")),
        "plan": description.pack_plan(plan),
    }
    saved = checkpoint["state_dict"]
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in saved.items() if name.startswith(PREFIX)}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    net = description.rebuild(about, shapes, lambda: {name: t.clone() for name, t in tensors.items()}, into)
    if any(key.startswith(Pruning.__qualname__) and not state.get("removed") for key, state in callbacks.items()):
        refuse_living(net)
    return net.train()


def _refuse_other_weights(callbacks: Mapping[str, Any]) -> None:
    if any(key.startswith(Binarize.__qualname__) for key in callbacks):  # the rest of a key is what is binary
        raise ValueError(
            "it holds the real weights of a network that ends binary: prunelab.load has the model.safetensors beside"
        )
    refuse_factors(callbacks.get(ScalingFactors.__qualname__))

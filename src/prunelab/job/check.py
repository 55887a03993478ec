"""Checks a configuration before anything is built; needs no torch."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from math import inf
from typing import Any

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunelab.core.numbers.fraction import check_rate
from prunelab.core.time import seconds
from prunelab.store.weights import weights_file

# A job trains `epochs` whole epochs and evaluates on all images after each; these Trainer arguments keep it so.
TRAINER = (
    "_target_", "accelerator", "devices", "strategy", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "deterministic", "benchmark", "detect_anomaly", "profiler", "log_every_n_steps",
)  # fmt: skip

PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
CHOICES = {  # of Trainer arguments, besides null
    "profiler": ("simple", "advanced", "pytorch"),
    "gradient_clip_algorithm": ("norm", "value"),
    "deterministic": ("true", "false", "warn"),
    "benchmark": ("true", "false"),
    "detect_anomaly": ("true", "false"),
}
LOGGERS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}  # and what they need
TIME = r"\d{8}-\d{6}"  # as `rerun=true` writes it
SEEDS = 2**32  # NumPy takes no others
# Numbers from 0 to below these, of which torch and Lightning take any, and ignore some or train nonsense with them.
BELOW = {
    "optim.label_smoothing": 1,
    "optim.finetune": inf,
    "distill.temperature": inf,
    "optim.optimizer.lr": inf,
    "optim.optimizer.momentum": 1,
    "optim.optimizer.weight_decay": inf,
    "trainer.gradient_clip_val": inf,
}


def check_values(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """`overrides` are the job's, as typed.

    Raises ValueError, naming the value and the remedy, or FileNotFoundError for a missing `pretrained`.
    """
    check_rate(cfg.rate)
    for knob, least, below in (
        ("epochs", 0 if _only_evaluates(cfg) else 1, inf),
        ("rounds", 1, inf),
        ("seed", 0, SEEDS),
        ("optim.batch_size", 1, inf),
    ):
        value = OmegaConf.select(cfg, knob)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < below:
            bound = "" if below == inf else f" and below {below}"
            raise ValueError(f"{knob}={value}: expected a whole number of at least {least}{bound}")
    _check_numbers(cfg)
    _check_switches(cfg, overrides)
    for part in ("model", "data", "optim.optimizer"):
        if not OmegaConf.select(cfg, f"{part}._target_"):
            raise ValueError(f"{part}: it has no _target_; add the class or function that makes it to its YAML file")
    if cfg.name is None or isinstance(cfg.name, bool | float):
        raise ValueError(f"name={cfg.name}: read as a number or as nothing; begin the name with a letter")
    if not re.fullmatch(r"[\w.+\-]+(/[\w.+\-]+)*", str(cfg.name)) or ".." in str(cfg.name):
        raise ValueError(f"name={cfg.name}: expected letters, digits and any of . + - _, it names a folder in outputs/")
    if not cfg.get("prune") and cfg.rate > 0:
        raise ValueError(f"rate={cfg.rate} with prune=none: nothing would be removed; give a method, or rate=0")
    for knob in ("compile", "channels_last"):
        if not (isinstance(cfg[knob], bool) or (knob == "compile" and cfg[knob] == "auto")):
            raise ValueError(f"{knob}={cfg[knob]}: expected true or false" + (", or auto" if knob == "compile" else ""))
    if not (isinstance(cfg.rerun, bool) or re.fullmatch(TIME, str(cfg.rerun))):
        raise ValueError(f"rerun={cfg.rerun}: expected true, false, or the time in the name of a folder")
    if cfg.precision not in PRECISIONS:
        raise ValueError(
            f"precision={cfg.precision}: expected one of {', '.join(PRECISIONS)}; networks are measured and saved in "
            "float32"
        )
    seconds(cfg.every)
    _check_trainer(cfg.trainer)
    _check_devices(cfg, cfg.trainer.devices)
    if cfg.pretrained not in (None, "auto"):
        weights_file(cfg.pretrained)
    _check_loggers(cfg)
    _check_observers(cfg)
    check_used(cfg)
    check_retrain(cfg, overrides)
    _check_rates(cfg, overrides)
    if cfg.get("distill") and cfg.pretrained is None:
        raise ValueError(
            "distill: the teacher is the dense network that training starts from, and it starts from scratch; add "
            "pretrained=auto for a method that retrains, or pretrained=PATH"
        )


def _check_switches(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses what YAML files have for true or false, and Hydra reads as text in a command."""
    for key, _, value in (override.lstrip("+").partition("=") for override in overrides):
        if value.casefold() in ("yes", "no", "on", "off") and OmegaConf.select(cfg, key) == value and key != "name":
            raise ValueError(f"{key}={value}: Hydra reads text here; write true or false, or put quotes around it")


def _check_loggers(cfg: DictConfig) -> None:
    for name, package in LOGGERS.items():
        spec = find_spec(package) if name in OmegaConf.to_yaml(cfg.get("logger") or {}) else True
        if spec is None or getattr(spec, "origin", "") is None:  # absent, or a mere folder of that name
            raise ValueError(f"logger={package} needs a package: pip install 'prunelab[{package}]'")


def _check_observers(cfg: DictConfig) -> None:
    """Refuses callbacks of Lightning that only log, without a logger."""
    callbacks = OmegaConf.to_yaml(cfg.get("callbacks") or {})
    for name, option in (("LearningRateMonitor", "lr_monitor"), ("DeviceStatsMonitor", "device_stats")):
        if name in callbacks and not cfg.get("logger"):
            raise ValueError(f"callbacks={option} writes to a logger, and there is none; add logger=csv")


def _only_evaluates(cfg: DictConfig) -> bool:
    """Whether the job may evaluate weights from a file without training, because it removes nothing."""
    return cfg.pretrained not in (None, "auto") and "${rate}" not in OmegaConf.to_yaml(cfg.get("prune") or {})


def check_retrain(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses `retrain=` for a method that does not prune in rounds."""
    schedule = OmegaConf.select(cfg, "prune.pruning.pruner.schedule") or {}
    retrain = [override for override in overrides if override.startswith("retrain=")]
    if retrain and "training" not in schedule:
        raise ValueError(f"{retrain[0]}: this method does not prune in rounds, so nothing is trained again; drop it")


def _check_rates(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses rates by pattern that nothing takes, or that a rate of 0 switches off unasked."""
    rates = OmegaConf.select(cfg, "prune.pruning.pruner.allocation.rates")
    if "rates" in cfg and rates is None:
        raise ValueError("rates: only prune/allocation=explicit takes rates by pattern; add it")
    if rates and cfg.rate == 0 and not any(override.startswith("rate=") for override in overrides):
        raise ValueError(
            "rates: at rate=0 nothing is pruned, whatever they say; give rate=, that of the other layers, or rate=0.01 "
            "and end rates with *:0"
        )


def check_used(cfg: DictConfig) -> None:
    """Refuses knobs that the method ignores: they would seem to have no effect."""
    parts = cfg.get("prune") or {}
    for name, part in parts.items():
        if part is None or (isinstance(part, DictConfig) and "_target_" not in part):
            raise ValueError(
                f"prune.{name} has settings, but neither prune= nor retrain= adds this callback: choose others"
            )
    used = OmegaConf.to_yaml(parts)
    for knob, default in (("rate", 0), ("rounds", 1), ("rewind", 0), ("budget", "units"), ("round_to", 1)):
        if cfg[knob] != default and f"${{{knob}}}" not in used:
            raise ValueError(f"{knob}={cfg[knob]}: this method does not use it; drop it, or choose another method")


def _check_numbers(cfg: DictConfig) -> None:
    for knob, below in BELOW.items():
        value = OmegaConf.select(cfg, knob)
        if value is not None and not (isinstance(value, int | float) and 0 <= value < below):  # also refuses nan
            raise ValueError(f"{knob}={value}: expected a number in [0, {below})")


def _check_trainer(trainer: DictConfig) -> None:
    for key in map(str, trainer):
        if key not in TRAINER:
            raise ValueError(
                f"trainer.{key}: a job sets this itself, or would end early by it; expected one of {', '.join(TRAINER)}"
            )
    for key, choices in CHOICES.items():
        value = trainer.get(key)  # a mapping builds its object
        if not (value is None or isinstance(value, DictConfig) or str(value).lower() in choices):
            raise ValueError(f"trainer.{key}={value}: expected one of {', '.join(choices)}")
    if not isinstance(batches := trainer.get("accumulate_grad_batches", 1), int) or batches < 1:
        raise ValueError(f"trainer.accumulate_grad_batches={batches}: expected a whole number of at least 1")
    if trainer.get("gradient_clip_algorithm") and trainer.get("gradient_clip_val") is None:
        raise ValueError(
            f"trainer.gradient_clip_algorithm={trainer.gradient_clip_algorithm}: nothing is clipped without "
            "trainer.gradient_clip_val; give both"
        )
    if trainer.accelerator not in ACCELERATORS:
        raise ValueError(f"trainer.accelerator={trainer.accelerator}: expected one of {', '.join(ACCELERATORS)}")
    if (strategy := trainer.get("strategy", "auto")) not in ("auto", "ddp"):
        raise ValueError(f"trainer.strategy={strategy}: expected auto or ddp, where every device has the whole network")


def _check_devices(cfg: DictConfig, devices: object) -> None:
    """Refuses devices that cannot share the batches of one job."""
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(f"trainer.devices={devices}: expected a whole number of at least 1")
    if devices == 1:
        return
    if cfg.trainer.get("strategy", "auto") != "ddp":
        raise ValueError(f"trainer.devices={devices}: several devices train one network with trainer=ddp; add it")
    if cfg.optim.batch_size % devices:
        raise ValueError(
            f"optim.batch_size={cfg.optim.batch_size}: expected a multiple of trainer.devices={devices}, which share "
            "each batch"
        )
    if cfg.budget == "latency":
        raise ValueError(
            f"budget=latency: {devices} devices would each time their own network; use macs, or one device"
        )


def jobs_run_here(hydra: HydraConf) -> bool:
    """Whether the jobs of this command run on this machine, so that its devices are theirs."""
    return hydra.mode != RunMode.MULTIRUN or not hydra.launcher._target_.endswith("SlurmLauncher")


def check_same_sweep(sweep: HydraConf, job: HydraConf) -> None:
    """Raises ValueError where a file that is swept over sets the launcher or the sweeper.

    Hydra composes these without the values that are swept over. Slurm's requests are each job's own.
    """
    for part in ("launcher", "sweeper"):
        asked, used = ({f"hydra/{part}": h.runtime.choices[f"hydra/{part}"]} | _settings(h, part) for h in (job, sweep))
        for key in {**asked, **used}:
            if asked.get(key) != used.get(key):
                raise ValueError(
                    f"{key}={asked.get(key)}: Hydra ignores it in a file that is swept over, and uses that of the "
                    f"command, {used.get(key)}; give it on the command line, or sweep over no such file"
                )


def _settings(hydra: HydraConf, part: str) -> dict[str, object]:
    """The settings of the launcher or sweeper by dotted key, unresolved; none of Slurm's, which are each job's own."""
    settings: Any = OmegaConf.to_container(getattr(hydra, part))
    slurm = str(settings["_target_"]).endswith("SlurmLauncher")
    return {} if slurm else {f"hydra.{part}.{key}": value for key, value in settings.items()}


def check_launcher(devices: int, hydra: HydraConf) -> None:
    """Raises ValueError when a sweep would run a job of several devices inside its own process.

    Lightning would start the processes of the other devices with this process's command, the whole sweep's. Slurm has
    to start one for each device, and no more: each of these would take itself for the job. `hydra` is that of the job.
    """
    launcher = hydra.launcher
    if hydra.mode != RunMode.MULTIRUN or launcher._target_.endswith("PoolLauncher"):
        return
    if launcher._target_.endswith("SlurmLauncher"):
        tasks, nodes = launcher.get("tasks_per_node") or 1, launcher.get("nodes") or 1
        if tasks != devices:
            raise ValueError(
                f"trainer.devices={devices} with hydra.launcher.tasks_per_node={tasks}: there must be one for each "
                "device; hydra.launcher.tasks_per_node=${trainer.devices}, the default, is that"
            )
        if nodes != 1:
            raise ValueError(f"hydra.launcher.nodes={nodes}: all devices of a job are on one node; leave it at 1")
    elif devices != 1:
        raise ValueError(f"trainer.devices={devices} in a sweep whose jobs share a process: add hydra/launcher=pool")

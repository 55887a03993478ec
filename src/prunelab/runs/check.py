"""Are the values of a configuration possible? Asked before anything is built; needs no torch."""

import re
from math import isfinite
from pathlib import Path

from omegaconf import DictConfig


def check_values(cfg: DictConfig) -> None:
    """Raises ValueError, naming the value and the remedy, or FileNotFoundError for a missing `pretrained`."""
    _check_rate(cfg.rate)
    for knob, least in (("epochs", 1), ("seed", 0)):
        if not isinstance(cfg[knob], int) or isinstance(cfg[knob], bool) or cfg[knob] < least:
            raise ValueError(f"{knob}={cfg[knob]}: expected a whole number of at least {least}")
    if not re.fullmatch(r"[\w.+\-]+(/[\w.+\-]+)*", str(cfg.name)) or ".." in str(cfg.name):
        raise ValueError(f"name={cfg.name}: expected letters, digits and any of . + - _, it names a folder in outputs/")
    if not cfg.get("prune") and cfg.rate > 0:
        raise ValueError(f"rate={cfg.rate} with prune=none: nothing would be removed; give a method, or rate=0")
    for knob in ("compile", "channels_last"):
        if not (isinstance(cfg[knob], bool) or (knob == "compile" and cfg[knob] == "auto")):
            raise ValueError(f"{knob}={cfg[knob]}: expected true or false" + (", or auto" if knob == "compile" else ""))
    if cfg.pretrained is not None and not Path(str(cfg.pretrained)).is_file():
        raise FileNotFoundError(f"pretrained={cfg.pretrained}: no such file")


def _check_rate(rate: object) -> None:
    ok = isinstance(rate, int | float) and not isinstance(rate, bool) and isfinite(rate) and 0 <= rate < 1
    if not ok:
        percent = isinstance(rate, int | float) and 2 <= rate < 100
        hint = f"; for {rate:g} % write rate={rate / 100:g}" if percent else ""
        raise ValueError(f"rate={rate}: expected a fraction in [0, 1){hint}")

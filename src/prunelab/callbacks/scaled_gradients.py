"""Gradients that float16 training has multiplied, so that they do not underflow."""

import lightning as L


def check_unscaled(trainer: L.Trainer, reader: str) -> None:
    """Raises ValueError where gradients are still scaled in `on_before_optimizer_step`.

    Under 16-mixed a fused optimizer divides them inside its step, and leaves out a step there without a sign.
    """
    optimizer = trainer.optimizers[0]
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        kind = type(optimizer).__name__
        raise ValueError(f"a fused {kind} under 16-mixed hides gradients from {reader}: use fused=False, or bf16-mixed")

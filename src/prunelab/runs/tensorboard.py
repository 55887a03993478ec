"""Is TensorBoard told what a job came to, and what if it cannot be?"""

import logging
from pathlib import Path
from typing import Any

from prunelab.store.failure import one_line

log = logging.getLogger(__name__)


def logs(config: dict[str, Any]) -> bool:
    """Whether a job with this configuration writes event files."""
    return str((config.get("logger") or {}).get("_target_")).endswith(("EpochLogger", "TensorBoardLogger"))


def tell(folder: Path, result: dict[str, Any]) -> None:
    """The entry of a job that logs there; a warning where it cannot be written, as the result is whole without it."""
    if not logs(result["config"]):
        return
    try:
        from prunelab.tensorboard import hparams as hyperparameters  # TensorBoard takes half a second

        hyperparameters.write(folder, result)
    except Exception as error:  # whatever goes wrong in another program's files
        log.warning("%s: not in TensorBoard: %s", folder, one_line(error))

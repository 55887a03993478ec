"""Hydra 1.3's command line under Python 3.14, which checks each help string when it is declared."""

import argparse


def accept_lazy_help() -> None:
    """Leaves the check to strings: the help of Hydra's --shell-completion becomes one when it is printed."""
    container = argparse._ActionsContainer
    check = getattr(container, "_check_help", None)
    if check is not None:
        container._check_help = lambda self, action: isinstance(action.help, str) and check(self, action)  # type: ignore[attr-defined]

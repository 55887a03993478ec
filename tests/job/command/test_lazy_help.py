"""Python 3.14 checks help strings as they are declared, and Hydra 1.3 declares one that is no string yet."""

import argparse
import sys

import pytest
from hydra._internal.utils import get_args_parser

from prunelab.job.command.lazy_help import accept_lazy_help

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 was the first to check them")


@pytest.fixture(autouse=True)
def accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    container = argparse._ActionsContainer
    monkeypatch.setattr(container, "_check_help", container._check_help)  # put back afterwards
    accept_lazy_help()


def test_hydras_command_line_can_be_declared() -> None:
    assert get_args_parser().parse_args(["rate=0.5"]).overrides == ["rate=0.5"]


def test_a_badly_formed_string_is_still_refused() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        argparse.ArgumentParser().add_argument("--rate", help="80 %)")

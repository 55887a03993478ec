"""Text of others is shown without what a terminal obeys; log lines too."""

import io
import logging
import logging.config
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from prunelab.core.network.snapshot import state_dict_mismatch
from prunelab.core.text.printable import ConsoleHandler, between_words, in_lines, printable
from prunelab.job.conf import conf_dir


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("prune=usp ± ж 字 😀", "prune=usp ± ж 字 😀"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        (b"\xff".decode(errors="surrogateescape"), r"\udcff"),
    ],
)
def test_only_printable_characters_are_left(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(Path(text)) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_sign_gets_another_and_status_0(encoding: str) -> None:
    said = "from prunelab.core.text.printable import print_any_sign as go; go(); print('80 ± 1 \u2026 ж')"
    done = subprocess.run(
        [sys.executable, "-c", said],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    lacking = {"ascii": "80 +- 1 ... \\u0436", "latin-1": "80 ± 1 ... \\u0436", "utf-8": "80 ± 1 … ж"}
    assert done.stdout.decode(encoding).strip() == lacking[encoding]


def test_line_breaks_may_stay() -> None:
    assert printable("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


@pytest.mark.parametrize("kind", ["job_logging", "hydra_logging"])
def test_log_lines_hold_no_escape_sequence(kind: str) -> None:
    conf = yaml.safe_load((conf_dir() / "train.yaml").read_text())["hydra"][kind]
    settings = {"format": "%(message)s"} | conf["formatters"]["simple"]
    formatter = logging.config.DictConfigurator(conf).configure_formatter(settings)
    try:
        raise ValueError("red \x1b[31m")
    except ValueError:
        record = logging.LogRecord("", 0, "", 0, "%s", ("name \x1b[31m",), sys.exc_info())
    assert "\x1b" not in (text := formatter.format(record))
    assert "\nValueError: red" in text


def test_a_tensor_of_others_is_named_without_escape_sequences() -> None:
    assert state_dict_mismatch(nn.ReLU(), {"w\x1b[31m": torch.ones(1)}) == r"w\x1b[31m is unknown"


def test_a_line_of_a_signal_goes_past_the_bar_and_others_to_the_output_of_the_moment(monkeypatch) -> None:
    bar, terminal, log = io.StringIO(), io.StringIO(), logging.Logger("x")
    log.addHandler(ConsoleHandler())
    monkeypatch.setattr(sys, "stdout", bar)
    monkeypatch.setattr(sys, "__stdout__", terminal)
    log.warning("SIGTERM", extra={"from_signal": True})
    log.warning("epoch")
    assert (terminal.getvalue(), bar.getvalue()) == ("SIGTERM\n", "epoch\n")


def test_a_line_breaks_between_words_and_long_words_stay_whole() -> None:
    text = "a line of  words\n  prune=usp,rate=0.5,seed=0 b"
    assert between_words(text, 12) == "a line of\nwords\nprune=usp,rate=0.5,seed=0\nb"


def test_only_a_terminal_gets_lines_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    stream = io.StringIO()
    assert in_lines("a line of words", stream) == "a line of words"
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert in_lines("a line of words", stream) == "a line of\nwords"

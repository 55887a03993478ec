"""Text from files of others, made harmless for a terminal: it may hold escape sequences, and surrogates."""

import codecs
import io
import logging
import shutil
import sys
import textwrap
from typing import TextIO

PLAIN = {"±": "+-", "…": "...", "→": "->", "·": "-", "²": "2"}


def printable(text: object, lines: bool = False) -> str:
    """Every character that is not printable as its escape, as "\\x1b"; so are marks that turn the direction of writing.

    With `lines`, line breaks and tabs stay.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in plain)


def print_any_sign() -> None:
    """Makes standard output and error write what their encoding lacks in ASCII, "±" as "+-", instead of failing."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a program has put a stream of its own
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, sign.encode("unicode_escape").decode()) for sign in signs), error.end


def in_lines(text: str, stream: TextIO) -> str:
    """The text as a stream gets it: a terminal would break its lines inside words."""
    return between_words(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def between_words(text: str, width: int) -> str:
    """Broken into lines of at most `width` characters, or of a single longer word."""
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)


class PrintableFormatter(logging.Formatter):
    """For conf/train.yaml: log lines name files and repeat errors."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """For conf/train.yaml: writes to what standard output is now, so that lines stand above a progress bar.

    A terminal gets them broken between words.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        logging.Handler.__init__(self)
        self.past_the_bar = False

    def format(self, record: logging.LogRecord) -> str:
        return in_lines(super().format(record), self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        # A signal may arrive while the bar is drawn: its line would wait for a lock that the interrupted code holds.
        self.past_the_bar = getattr(record, "from_signal", False)
        super().emit(record)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.__stdout__ if self.past_the_bar and sys.__stdout__ else sys.stdout

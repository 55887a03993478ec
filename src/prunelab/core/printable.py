"""Text from files of others, made harmless for a terminal: it may hold escape sequences, and surrogates."""

import logging


def printable(text: object, lines: bool = False) -> str:
    """Every character that is not printable as its escape, as "\\x1b"; so are marks that turn the direction of writing.

    With `lines`, line breaks and tabs stay.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in plain)


class PrintableFormatter(logging.Formatter):
    """For conf/train.yaml: log lines name files and repeat errors."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)

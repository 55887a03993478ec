"""Tables for a terminal of any width."""

import io
from collections.abc import Container, Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from prunelab.core.text.printable import printable

UNBOUNDED = 10_000  # columns; wider than any table, so that its own width can be measured


def terminal_table(names: Iterable[str], words: Container[str], two_lines: bool = True) -> Table:
    """Without rows. Columns of `words` stand to the left and wrap; the others are numbers, to the right and never cut.

    A name in `two_lines` makes no column wider than its numbers. As Text, a "[" in a name is no markup.
    """
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    for name in names:
        head, word = Text(name.replace(" ", "\n", 1) if two_lines else name), name in words
        table.add_column(
            head, justify="left" if word else "right", vertical="bottom", no_wrap=not word, overflow="fold"
        )
    return table


def shown(text: object, style: str = "") -> Text:
    """Text of any origin: a "[" in it is no markup, and no escape sequence reaches the terminal."""
    return Text(printable(text), style)


def plain_text(width: int, *parts: RenderableType) -> str:
    """Without colours, no line longer than `width`; in a notebook too, where Rich would show it and return nothing."""
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, force_jupyter=False, color_system=None).print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def output() -> Console:
    """Standard output: a terminal of its width, or a pipe, which gets each row as one line, however long."""
    console = Console()
    return console if console.is_terminal else Console(width=UNBOUNDED)


def fits(table: Table, console: Console, width: int) -> bool:
    """Whether the table has its natural width; Rich would wrap or cut its cells otherwise."""
    return console.measure(table, options=console.options.update(max_width=UNBOUNDED)).maximum <= width

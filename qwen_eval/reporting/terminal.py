"""The tables on the screen. A figure or a verdict is never cut, and never broken over two lines, whatever the width.

On a terminal that is too narrow for a table, each row becomes a block of lines. In a file or pipe every line is whole.
"""

import shutil
import sys
from collections.abc import Sequence
from typing import Any

from qwen_eval.reporting.tables import Grid, Table, columns, markdown

COLOURS = {"reproduced": "green", "lower": "red", "higher": "yellow", "too few items": "dim"}
UNBOUNDED = 100_000  # columns of a file


def show(title: str, tables: Sequence[Table | Grid], notes: Sequence[str]) -> None:
    """Print the tables: with rich where it is installed, else in the Markdown of table.md."""
    try:
        from rich.console import Console
    except ImportError:
        print(markdown(title, tables, notes))
        return
    width = shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else UNBOUNDED
    console = Console(width=width, height=50, highlight=False)  # with one of them only, a dumb terminal is 80 wide

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style or None, markup=False, soft_wrap=True)  # a long line goes on below

    line(f"\n{title}", "bold")
    for table in tables:
        head, rows = columns(table)
        grid = _grid(table.title, head, rows)
        if console.measure(grid, options=console.options.update_width(UNBOUNDED)).maximum <= width:
            console.print(grid)
        else:
            _stacked(table.title, head, rows, width, line)
    for note in notes:
        line(f"- {note}")


def _grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """The table in the form of rich, one line per row."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold"
    )
    for index, name in enumerate(head):
        grid.add_column(Text(name), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return grid


def _stacked(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], width: int, line: Any) -> None:
    """Each row as a block: its name, then a line per cell; where that is too long, the cell below its column's name."""
    if title:
        line(f"\n{title}", "bold")
    for row in rows:
        line(f"\n{row[0].strip()}")
        for name, cell in zip(head[1:], row[1:], strict=True):
            if not cell:
                continue
            if len(name) + len(cell) + 4 <= width:
                line(f"  {name}: {cell}", COLOURS.get(cell, ""))
            else:
                line(f"  {name}:")
                line(" " * min(4, max(0, width - len(cell))) + cell, COLOURS.get(cell, ""))
    line("")

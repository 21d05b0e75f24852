"""Figures of a run: lines over a logarithmic axis, a heat map, bars in groups; each as PNG and SVG.

The background is transparent, and every colour has a contrast of at least 3 to 1 with a white and with a dark page, so
that one file serves both. Lines differ in dash and marker too, for print without colour. The colours are those of Okabe
and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INK = "#767676"  # 4.5 to 1 on white, 4.2 to 1 on #0d1117
STYLES = (
    ("#2a85cc", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#999933", "v", (0, (5, 1, 1, 1, 1, 1))),
)
HATCHES = ("", "//", "..", "\\\\", "xx")  # of bars


def lines(
    stem: Path,
    series: Mapping[str, Mapping[int, float]],
    title: str,
    x_label: str,
    y_label: str,
    reported: Mapping[str, Mapping[int, float]] | None = None,
    mark: int | None = None,
    legend: Mapping[str, str] | None = None,
) -> None:
    """Writes `stem`.png and `stem`.svg: one line per series (name -> x -> y > 0), both axes logarithmic.

    reported: published figures of the same series, as hollow markers without a line; legend: series -> what the legend
    says of these. mark: a value of x to point out, the training length.
    """
    figure, axes = _figure(7.2, 4.4)
    ticks = sorted({x for values in series.values() for x in values})
    for place, (name, values) in enumerate(series.items()):
        colour, marker, dash = STYLES[place % len(STYLES)]
        xs = sorted(values)
        axes.plot(
            xs,
            [values[x] for x in xs],
            color=colour,
            marker=marker,
            linestyle=dash,
            linewidth=1.8,
            markersize=max(5, 9 - 1.3 * place),  # where lines run together, all of them stay visible
            label=name,
        )
        points = {x: y for x, y in (reported or {}).get(name, {}).items() if x in ticks}
        label = f"{name}, {(legend or {}).get(name, 'reported')}" if points else "_"
        axes.plot(
            list(points), list(points.values()), color=colour, marker=marker, linestyle="", markersize=12,
            markerfacecolor="none", markeredgewidth=1.4, label=label,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axes.minorticks_off()
    _y_ticks(axes)
    if mark is not None and ticks[0] <= mark <= ticks[-1]:
        axes.axvline(mark, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.annotate(
            "training length", (mark, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", color=INK, fontsize=9, ha="center",
        )  # fmt: skip
    axes.grid(True, color=INK, alpha=0.25, linewidth=0.6)
    axes.set_title(title, color=INK, fontsize=12, pad=18)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.legend(frameon=False, labelcolor=INK, fontsize=10, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)
    _write(figure, stem)


def _y_ticks(axes: Any) -> None:
    """Numbers, not powers of ten, on the axis: several per decade where the axis has few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    wide = high / low > 1e3
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 3.0, 5.0, 7.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}" if y < 1e6 else f"{y:.0e}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: ""))
    if high / low < 1.6:  # nearly flat: the ticks above would leave one label or none
        from matplotlib.ticker import MaxNLocator

        axes.yaxis.set_major_locator(MaxNLocator(5))


def heat_map(
    stem: Path,
    values: Sequence[Sequence[float | None]],
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """Writes `stem`.png and `stem`.svg: values[row][column] in percent, 0 to 100, None for a cell without one.

    Each cell shows its figure, in black or white, whichever can be read on its colour.
    """
    import matplotlib

    figure, axes = _figure(1.9 + 0.85 * len(columns), 1.5 + 0.36 * len(rows))
    colours = matplotlib.colormaps["cividis"]
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value is None:
                axes.text(x, y, "-", ha="center", va="center", color=INK)
                continue
            colour = colours(value / 100)
            axes.add_patch(
                matplotlib.patches.Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, edgecolor=INK, lw=0.8)
            )
            light = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2] > 0.45
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", color="black" if light else "white", fontsize=10)
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, color=INK, fontsize=12)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    _write(figure, stem)


def bars(
    stem: Path,
    series: Mapping[str, Mapping[str, float]],
    title: str,
    y_label: str,
    base: str,
) -> None:
    """Writes `stem`.png and `stem`.svg: a group of bars per name on the x axis, a bar in each per series (name -> x ->
    y >= 0), and a line at 1, which stands for `base`."""
    groups = list(dict.fromkeys(x for values in series.values() for x in values))
    figure, axes = _figure(min(16, max(4.5, 1.2 + 0.24 * len(groups) * (len(series) + 1))), 4.2)
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        left = [group - 0.4 + width * (place + 0.5) for group in range(len(groups))]
        heights = [values.get(group, float("nan")) for group in groups]
        colour = STYLES[place % len(STYLES)][0]
        axes.bar(left, heights, width, color=colour, hatch=HATCHES[place % len(HATCHES)], edgecolor=INK, label=name)
    axes.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (1, 2)), label=f"{base} = 1")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.grid(True, axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, color=INK, fontsize=12, pad=12)
    axes.set_ylabel(y_label, color=INK)
    axes.legend(frameon=False, labelcolor=INK, fontsize=10, loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2)
    _write(figure, stem)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=10)
    for side in axes.spines.values():
        side.set_color(INK)
    return figure, axes


def _write(figure: Any, stem: Path) -> None:
    """Nobody ever sees half a file, and a kill leaves the old one. The same figures give the same bytes."""
    import matplotlib

    for form in ("png", "svg"):
        partial = stem.with_name(f"{stem.name}.partial.{form}")
        with matplotlib.rc_context({"svg.hashsalt": "qwen-eval"}):
            dated: dict[str, Any] = {"Date": None} if form == "svg" else {}
            figure.savefig(partial, format=form, transparent=True, bbox_inches="tight", dpi=160, metadata=dated)
        partial.replace(stem.with_name(f"{stem.name}.{form}"))

"""Write the table at the top of README.md and README_CN.md: the base table of the demo, from a run.

    python eval/reproduce.py base -c demo -o demo/out
    python tools/readme_table.py demo/out/tables/base/table.json

Figures without a reported one are left out.
"""

import json
import sys
from pathlib import Path
from typing import Any

from qwen_eval.reporting.tables import signed

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "README_CN.md")
BEGIN, END = "<!-- table: tools/readme_table.py -->", "<!-- end of the table -->"
HEAD = ("", "measured", "95 % interval", "reported", "difference", "verdict")


def markdown(figures: list[dict[str, Any]]) -> str:
    """The figures that have a reported one, a line each."""
    lines = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * (len(HEAD) - 1)]
    for figure in figures:
        if figure["reported"] is not None:
            interval = f"{figure['ci95_low']:.1f} to {figure['ci95_high']:.1f}"
            shown = (f"{figure['value']:.1f}", interval, f"{figure['reported']:.1f}", signed(figure["difference"], 1))
            lines.append(f"| {figure['column']} | {' | '.join(shown)} | {figure['verdict']} |")
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit((__doc__ or "").strip())
    table = markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["figures"])
    for page in PAGES:
        path = ROOT / page
        if path.exists():
            before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
            path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

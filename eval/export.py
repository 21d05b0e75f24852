"""Finished runs in the formats of other tools.

    python eval/export.py results/Qwen-7B/mmlu --export all          # written to results/Qwen-7B/mmlu/export/
    python eval/export.py results/Qwen-7B/* --export eee -o data

Formats: `eee` (Every Eval Ever), `lm-eval` (lm-evaluation-harness), `inspect` (inspect_ai, for `inspect view`),
`eval-results` (Hugging Face's .eval_results; whole official sets only). The same flag at a run writes them at its end.
"""

import argparse
import sys
from pathlib import Path

from qwen_eval.cli import OneLineParser
from qwen_eval.errors import run_script
from qwen_eval.export.formats import export, format_names
from qwen_eval.export.hub import push


def main() -> int:
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    flags.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="output folder of a finished run")
    flags.add_argument("--export", type=format_names, default=format_names("all"), metavar="A,B", help="default: all")
    flags.add_argument("-o", "--output-dir", type=Path, metavar="DIR", help="default: DIR/export")
    flags.add_argument("--push-to-hub", metavar="REPO", help="open a pull request with the .eval_results file there")
    args = flags.parse_args()
    status = 0
    for folder in args.folders:
        written, refused = export(folder, args.export, args.output_dir)
        for path in written:
            print(path)
        for reason in refused:
            print(f"not written: {reason}", file=sys.stderr)
            status = 2
        if args.push_to_hub:
            print(push(folder, args.push_to_hub))
    return status


if __name__ == "__main__":
    run_script(main)

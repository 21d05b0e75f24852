"""A chat model in BF16, Int8 and Int4: the cards' table of MMLU, C-Eval (val), GSM8K and HumanEval, and what is lost.

    python eval/evaluate_quantization.py -c Qwen/Qwen-7B-Chat -d data           # and its twins -Int8, -Int4
    python eval/evaluate_quantization.py -c Qwen/Qwen-7B-Chat --twins my-int8 my-int4 -d data
    python eval/evaluate_quantization.py -c Qwen/Qwen-7B-Chat --sample 200 --plan

The runs are those of the scripts, zero-shot (QwenLM/Qwen, README, "Quantization"), each in results/{model}/{benchmark},
so that the same command goes on where it was stopped. The table has what was measured beside what is reported; below
it each twin is compared with the float model item by item: the difference with its 95 % interval, the items lost and
gained, exact tests with Holm's correction over all of them. Flags of the scripts (--limit 50, --dtype bfloat16,
--device cuda:1 ...) go to each run.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwen_eval.checkpoints import DEMO_FOLDERS
from qwen_eval.cli import OneLineParser
from qwen_eval.comparison import report
from qwen_eval.comparison.result import as_json
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, run_script
from qwen_eval.places import DEMO
from qwen_eval.reporting.terminal import show
from qwen_eval.reproduction import layout
from qwen_eval.reproduction.plan import Step
from qwen_eval.reproduction.runs import (
    carry_out,
    check_chat,
    check_flags,
    check_names,
    collected,
    prepared,
    say_plan,
    status,
    target_of,
)
from qwen_eval.reproduction.subjects import demo_subjects, subjects_of
from qwen_eval.reproduction.tables import TABLES
from qwen_eval.reproduction.twins import Checkpoint, check_twins, differences, usual_twins
from qwen_eval.target import Target

TABLE = TABLES["quantization"]
NOT_HERE = ("-k", "--num-fewshot", "--rescore", "--baseline")  # the protocol's shots; runs of a model


def parse() -> tuple[argparse.Namespace, list[str]]:
    """The flags of this script, and what is left for those of the benchmarks."""
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("-c", "--checkpoint-path", required=True, metavar="CHECKPOINT", help="the float chat model: hub id or folder")
    add(
        "--twins",
        nargs="+",
        metavar="CHECKPOINT",
        help="its quantised checkpoints (default: those of its name with -Int8 and -Int4)",
    )
    add("-d", "--eval-data-path", type=Path, metavar="DATA", help="a folder with mmlu/, ceval/, gsm8k/, humaneval/")
    add(
        "--subjects",
        metavar="A,B",
        help="of MMLU and of C-Eval only those of these that it has; a benchmark that has none of them runs whole",
    )
    add("-o", "--output-dir", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--reported-as", metavar="NAME", help="the float model of the cards; its twins are NAME-Int8, NAME-Int4")
    add("--plan", action="store_true", help="say what would be done and how long it takes, and stop")
    add("--skip-missing", action="store_true", help="leave out runs whose data is not there")
    return flags.parse_known_args()


def main() -> int:
    flags, rest = parse()
    if named := [word for word in rest if word.partition("=")[0] in NOT_HERE]:
        raise UserError(f"{named[0]} is not for a whole table; start the benchmark's own script")
    check_flags([TABLE], rest)
    checkpoints = check_twins(flags.checkpoint_path, flags.twins or usual_twins(flags.checkpoint_path))
    words = {one.given: [*rest, *reported_as(flags.reported_as, one)] for one in checkpoints}
    if len(words) < len(checkpoints):
        raise UserError("a checkpoint is named twice in -c and --twins")
    targets = {given: target_of(given, TABLE.parts[0], own) for given, own in words.items()}
    check_names(targets)
    check_chat(TABLE, targets)
    data, subjects = flags.eval_data_path, subjects_of(flags.subjects, TABLE.parts)
    if flags.checkpoint_path in DEMO_FOLDERS and data is None:
        data, subjects = DEMO / "data", subjects if flags.subjects else demo_subjects(TABLE.parts)
    engines = Engines()
    steps = [
        prepared(part, given, data, flags.output_dir, [*words[given], *subjects[part.name]], engines)
        for given in targets
        for part in TABLE.parts
    ]
    say_plan(steps, flags.skip_missing)
    if flags.plan:
        return 0
    started = [step for step in steps if step.made]
    for step in started:
        carry_out(step)
    write(steps, targets, flags.output_dir / "tables" / TABLE.name)
    return status(started)


def reported_as(name: str | None, checkpoint: Checkpoint) -> list[str]:
    """The flag of one checkpoint: `Qwen-7B-Chat@v1.1` has the twin `Qwen-7B-Chat-Int4@v1.1`."""
    if name is None:
        return []
    model, at, version = name.partition("@")
    return ["--reported-as", name if checkpoint.bits is None else f"{model}-Int{checkpoint.bits}{at}{version}"]


def write(steps: Sequence[Step], targets: Mapping[str, Target], folder: Path) -> None:
    """The card's table with the differences below it, on the screen and in table.*; comparison.*, flips.jsonl."""
    found, notes = collected(steps, targets)
    models = {given: target.model for given, target in targets.items()}
    compared, left_out = differences(steps, models)
    told = [*notes, *left_out, *(note for one in compared for note in report.notes(one))]
    title = f"B, a quantised twin, against A, {next(iter(models.values()))}"
    more, fields = [], {}
    if compared:
        more = [report.grid(compared)._replace(title=title)]
        fields = {"differences": [as_json(row) for one in compared for row in one.rows]}
    grids = layout.write(TABLE, found, told, folder, more, fields)
    if compared:
        report.write(folder, title, compared, told, {"a": next(iter(models)), "b": list(models)[1:]})
    show(f"{TABLE.name}: {TABLE.about}", grids, [*told, f"written to {folder}"])


if __name__ == "__main__":
    run_script(main)

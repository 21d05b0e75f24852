"""A whole table of a model card, by its name: every run behind it with one loaded model, then the card's own layout.

    python eval/reproduce.py base -c Qwen/Qwen-7B -d data                 # data/mmlu, data/ceval, data/gsm8k ...
    python eval/reproduce.py quantization -c Qwen/Qwen-7B-Chat -c Qwen/Qwen-7B-Chat-Int4 -d data
    python eval/reproduce.py --all -c demo-chat                           # every table of this kind of model
    python eval/reproduce.py base -c Qwen/Qwen-7B -d data --plan          # only what would be done, and how long

Before it starts it says what is missing and about how long it takes. Every run writes its own folder, as its script
does alone, so that the same command goes on where it was stopped. Flags of the scripts (--sample 50, --dtype ...) go to
each run that knows them.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_eval.cli import OneLineParser
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, one_line, run_script
from qwen_eval.reporting.finished import read_run
from qwen_eval.reporting.tables import Grid
from qwen_eval.reporting.terminal import show
from qwen_eval.reproduction import layout
from qwen_eval.reproduction.plan import TYPICAL_REPLY, Step, Work, measured_speed, shown_time, work_of
from qwen_eval.reproduction.tables import TABLES, CardTable, Part
from qwen_eval.run import make_run, make_setting
from qwen_eval.runner import entered, finish, make_target
from qwen_eval.target import Target

NOT_HERE = ("-k", "--num-fewshot", "--rescore", "--baseline", "--subjects")  # each run has its own


def parse(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this script, and what is left for those of the benchmarks."""
    about = "\n".join(f"    {table.name:18}{table.about}" for table in TABLES.values())
    flags = OneLineParser(
        description=f"{(__doc__ or '').strip().partition(chr(10))[0]}\n\ntables:\n{about}",
        epilog="All other flags are those of the scripts: --sample 50, --dtype bfloat16, -b 64 ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("table", nargs="*", metavar="TABLE", help="one or more of the tables below")
    add("--all", action="store_true", help="every table of this kind of model, chat or base")
    add("-c", "--checkpoint-path", action="append", metavar="CHECKPOINT", help="may be given several times: more rows")
    add("-d", "--eval-data-path", type=Path, metavar="DATA", help="a folder with mmlu/, ceval/, gsm8k/ ... in it")
    add("-o", "--output-dir", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--plan", action="store_true", help="say what would be done and how long it takes, and stop")
    add("--skip-missing", action="store_true", help="leave out runs whose data is not there")
    return flags.parse_known_args(words)


def chosen_tables(flags: argparse.Namespace) -> list[CardTable]:
    if unknown := [name for name in flags.table if name not in TABLES]:
        raise UserError(f"no table of the cards is called {unknown[0]!r}; there are {', '.join(TABLES)}")
    if not flags.checkpoint_path:
        raise UserError("no checkpoint: give -c a hub id, a folder, `demo` or `demo-chat`")
    if flags.all == bool(flags.table):
        raise UserError(f"name a table, or give --all; the tables are {', '.join(TABLES)}")
    return list(TABLES.values()) if flags.all else [TABLES[name] for name in dict.fromkeys(flags.table)]


# --- preparing ---


def main() -> int:
    flags, rest = parse()
    tables, engines = chosen_tables(flags), Engines()
    if named := [word for word in rest if word.partition("=")[0] in NOT_HERE]:
        raise UserError(f"{named[0]} is not for a whole table; start the benchmark's own script")
    targets = {checkpoint: target_of(checkpoint, tables[0].parts[0], rest) for checkpoint in flags.checkpoint_path}
    check_names(targets)
    tables = fitting(tables, targets, flags.all)
    check_flags(tables, rest)
    steps = [
        prepared(part, checkpoint, flags, rest, engines)
        for checkpoint, target in targets.items()
        for part in dict.fromkeys(part for table in tables if table.chat == target.chat for part in table.parts)
    ]
    say_plan(steps, flags)
    if flags.plan:
        return 0
    started = [step for step in steps if step.made]
    for step in started:
        carry_out(step)
    write_tables(tables, steps, targets, flags.output_dir)
    failed = [step for step in started if step.problem]
    for step in failed:
        print(f"error: {step.part.name} of {step.checkpoint}: {step.problem}", file=sys.stderr)
    return 2 if failed else 0


def words_of(part: Part, checkpoint: str, rest: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of one run, and those words that its script does not know."""
    return part.flag_parser().parse_known_args(["-c", checkpoint, *part.flags, *rest])


def target_of(checkpoint: str, part: Part, rest: Sequence[str]) -> Target:
    """The model by itself: its name, and whether it is asked as a chat model. UserError where it cannot be run."""
    benchmark = part.benchmark()
    flags, _ = words_of(part, checkpoint, rest)
    return Target(flags, benchmark.scores_choices)


def fitting(tables: Sequence[CardTable], targets: dict[str, Target], every: bool) -> list[CardTable]:
    """The tables; with --all those of the kinds of models that there are. UserError where a named one fits no model."""
    if every:
        return [table for table in tables if table.chat in {target.chat for target in targets.values()}]
    for table in tables:
        for checkpoint, target in targets.items():
            if target.chat != table.chat:
                has, wants = ("chat", "base") if target.chat else ("base", "chat")
                said = f"table {table.name!r} is of {wants} models, and {checkpoint} is a {has} model"
                raise UserError(f"{said} (--{wants} asks it as one)")
    return list(tables)


def check_flags(tables: Sequence[CardTable], rest: Sequence[str]) -> None:
    """UserError for a flag that no run of the tables knows."""
    unknown = [set(words_of(part, "demo", rest)[1]) for table in tables for part in table.parts]
    if lost := set.intersection(*unknown):
        first = next(word for word in rest if word in lost)
        raise UserError(f"no run of these tables knows {first} (--help lists the flags)")


def check_names(targets: dict[str, Target]) -> None:
    """UserError where two checkpoints have one name: their results would lie in one folder."""
    known: dict[str, str] = {}
    for checkpoint, target in targets.items():
        if (other := known.setdefault(target.model, checkpoint)) != checkpoint:
            raise UserError(f"{other} and {checkpoint} are both called {target.model}, and so would their results be")


def prepared(part: Part, checkpoint: str, flags: argparse.Namespace, rest: Sequence[str], engines: Engines) -> Step:
    """The run, ready to ask; or what stands in its way: missing data, a missing package."""
    own, _ = words_of(part, checkpoint, rest)
    own.eval_data_path = data_folder(flags.eval_data_path, part)
    benchmark = part.benchmark()
    step = Step(part, checkpoint, flags.output_dir)
    try:
        target = make_target(benchmark, own, engines)
        step.folder = own.output_dir = flags.output_dir / target.model / part.name
        setting = make_setting(benchmark, target)
        step.made = make_run(benchmark, setting, target, list(benchmark.load(setting)), time.time())
    except UserError as error:
        step.problem = one_line(error)
    return step


def data_folder(top: Path | None, part: Part) -> str | None:
    """A run's folder below -d; None where it has none there (the hub's data, or the demo's own samples)."""
    if top is None:
        return None
    if not top.is_dir():
        raise UserError(f"-d {top} is no folder; it wants one with mmlu/, ceval/, gsm8k/ ... in it")
    return next((str(top / name) for name in part.data if (top / name).exists()), None)


# --- the plan ---


def say_plan(steps: Sequence[Step], flags: argparse.Namespace) -> None:
    """Print what will be done and about how long it takes. UserError where data is missing, unless --skip-missing."""
    problems = [step for step in steps if step.problem]
    if problems and not flags.skip_missing:
        for step in problems:
            print(f"cannot start: {step.part.name} of {step.checkpoint}: {step.problem}", file=sys.stderr)
        raise UserError(f"{len(problems)} of {len(steps)} runs cannot start (above); --skip-missing leaves them out")
    rows, total = [], 0.0
    speeds: dict[str, Any] = {}
    for step in steps:
        work = work_of(step.made) if step.made else Work(0, 0, 0, 0)
        seconds = None
        if step.made and work.open_items and step.made.target.checkpoint is not None:
            speed = speeds.setdefault(step.checkpoint, None) or measured_speed(step.made.target.engine)
            speeds[step.checkpoint] = speed
            seconds = speed.seconds(work)
            total += seconds
        counts = [f"{count:,}" for count in work]
        told = step.problem or (shown_time(seconds) if seconds else "done" if not work.open_items else "not known")
        rows.append([step.checkpoint, step.part.name, *counts, told])
    head = ["model", "run", "items", "left to do", "prompt tokens", "reply tokens", "about"]
    notes = [f"replies are counted as {TYPICAL_REPLY} tokens each; code, judges and formulas take their own time"]
    show(f"to do: about {shown_time(total)}" if total else "to do", [Grid("", head, rows)], notes)


# --- carrying it out ---


def carry_out(step: Step) -> None:
    """Finish a run, or keep what went wrong with it as the step's problem. What is finished stays in its folder."""
    if step.made is None:
        return
    made = replace(step.made, started=time.time())
    step.made = None  # its model's memory is free when the next one wants it
    try:
        with entered(made.benchmark, made.setting) as services:
            if finish(made, services):
                step.problem = f"items without a reply; the same command asks them again ({step.folder})"
    except UserError as error:
        step.problem = one_line(error)


def write_tables(tables: Sequence[CardTable], steps: Sequence[Step], targets: dict[str, Target], output: Path) -> None:
    for table in tables:
        found: dict[str, dict[str, Any]] = {}
        notes = []
        for step in steps:
            target = targets[step.checkpoint]
            if step.part in table.parts and target.chat == table.chat:
                results = read_results(step)
                found.setdefault(target.model, {})[step.part.name] = results
                notes += [f"{step.part.name}: {note}" for note in results.get("notes", []) if is_warning(note)]
                notes += [f"{step.part.name} of {step.checkpoint}: {step.problem}"] if step.problem else []
        folder = output / "tables" / table.name
        grids = layout.write(table, found, list(dict.fromkeys(notes)), folder)
        show(f"{table.name}: {table.about}", grids, [*dict.fromkeys(notes), f"written to {folder}"])


def read_results(step: Step) -> dict[str, Any]:
    """What the run has written; nothing of one that did not come to its end: the file may be an earlier run's."""
    if step.problem:
        return {}
    return dict(read_run(step.folder).results)


def is_warning(note: str) -> bool:
    """Whether a run's note says why a verdict is weaker than it might be."""
    return any(word in note for word in ("never `reproduced`", "no verdict", "subset", "gave no reply"))


if __name__ == "__main__":
    run_script(main)

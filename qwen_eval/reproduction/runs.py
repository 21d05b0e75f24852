"""The runs of whole tables: made ready with one loaded model, planned, carried out, read back.

Each run writes its own folder, `{output}/{model}/{run}`, as its script does alone, so that the same command goes on
where it was stopped.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_eval import protocols
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, one_line
from qwen_eval.reporting.finished import read_run
from qwen_eval.reporting.tables import Grid
from qwen_eval.reporting.terminal import show
from qwen_eval.reproduction.plan import TYPICAL_REPLY, Step, Work, measured_speed, shown_time, work_of
from qwen_eval.reproduction.tables import CardTable, Part
from qwen_eval.run import make_run, make_setting
from qwen_eval.runner import entered, finish, make_target
from qwen_eval.target import Target

# -- making ready -----------------------------------------------------------------------------------------------------


def words_of(part: Part, checkpoint: str, rest: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of one run, and those words that its script does not know."""
    return part.flag_parser().parse_known_args(["-c", checkpoint, *part.flags, *rest])


def target_of(checkpoint: str, part: Part, rest: Sequence[str]) -> Target:
    """The model by itself: its name, and whether it is asked as a chat model. UserError where it cannot be run."""
    benchmark = part.benchmark()
    flags, _ = words_of(part, checkpoint, rest)
    return Target(flags, benchmark.scores_choices)


def check_chat(table: CardTable, targets: Mapping[str, Target]) -> None:
    """UserError where the table is not of this kind of model."""
    for checkpoint, target in targets.items():
        if target.chat != table.chat:
            has, wants = ("chat", "base") if target.chat else ("base", "chat")
            said = f"table {table.name!r} is of {wants} models, and {checkpoint} is a {has} model"
            raise UserError(f"{said} (--{wants} asks it as one)")


def check_flags(tables: Sequence[CardTable], rest: Sequence[str]) -> None:
    """UserError for a flag that no run of the tables knows."""
    unknown = [set(words_of(part, "demo", rest)[1]) for table in tables for part in table.parts]
    if lost := set.intersection(*unknown):
        first = next(word for word in rest if word in lost)
        raise UserError(f"no run of these tables knows {first} (--help lists the flags)")


def check_names(targets: Mapping[str, Target]) -> None:
    """UserError where two checkpoints have one name: their results would lie in one folder."""
    known: dict[str, str] = {}
    for checkpoint, target in targets.items():
        if (other := known.setdefault(target.model, checkpoint)) != checkpoint:
            raise UserError(f"{other} and {checkpoint} are both called {target.model}, and so would their results be")


def prepared(
    part: Part, checkpoint: str, data: Path | None, output: Path, rest: Sequence[str], engines: Engines
) -> Step:
    """The run, ready to ask; or what stands in its way: missing data, a missing package. data: -d, the folder with a
    folder per benchmark; output: where results/ is; rest: the flags of the scripts."""
    own, _ = words_of(part, checkpoint, rest)
    own.eval_data_path = data_folder(data, part)
    benchmark = part.benchmark()
    step = Step(part, checkpoint, output)
    try:
        target = make_target(benchmark, own, engines)
        suffix = protocols.suffix(benchmark.name, getattr(own, "protocol", None), target.family)
        suffix += target.thinking.suffix if target.thinking else ""
        step.folder = own.output_dir = output / target.model / f"{part.name}{suffix}"
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


# -- the plan ---------------------------------------------------------------------------------------------------------


def say_plan(steps: Sequence[Step], skip_missing: bool) -> None:
    """Print what will be done and about how long it takes. UserError where data is missing, unless it is skipped."""
    problems = [step for step in steps if step.problem]
    if problems and not skip_missing:
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


# -- carrying it out --------------------------------------------------------------------------------------------------


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


def collected(steps: Sequence[Step], targets: Mapping[str, Target]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What these runs have written, by model and run, and what a reader should know of it."""
    found: dict[str, dict[str, Any]] = {}
    notes = []
    for step in steps:
        results, target = read_results(step), targets[step.checkpoint]
        found.setdefault(target.model, {})[step.part.name] = results
        if results and target.args.reported_as:
            notes.append(f"the reported figures beside {target.model} are those of {target.args.reported_as}")
        notes += [f"{step.part.name}: {note}" for note in results.get("notes", []) if is_warning(note)]
        notes += [f"{step.part.name} of {step.checkpoint}: {step.problem}"] if step.problem else []
    return found, list(dict.fromkeys(notes))


def status(steps: Sequence[Step]) -> int:
    """The exit status of a command whose runs were started; a problem is named on standard error."""
    failed = [step for step in steps if step.problem]
    for step in failed:
        print(f"error: {step.part.name} of {step.checkpoint}: {step.problem}", file=sys.stderr)
    return 2 if failed else 0


def read_results(step: Step) -> dict[str, Any]:
    """What the run has written; nothing of one that did not come to its end: the file may be an earlier run's."""
    if step.problem:
        return {}
    return dict(read_run(step.folder).results)


def is_warning(note: str) -> bool:
    """Whether a run's note says why a verdict is weaker than it might be."""
    return any(word in note for word in ("never `reproduced`", "no verdict", "subset", "gave no reply"))

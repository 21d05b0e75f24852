"""A whole table of a model card, by its name: every run behind it with one loaded model, then the card's own layout.

    python eval/reproduce.py base -c Qwen/Qwen-7B -d data                 # data/mmlu, data/ceval, data/gsm8k ...
    python eval/reproduce.py quantization -c Qwen/Qwen-7B-Chat -c Qwen/Qwen-7B-Chat-Int4 -d data
    python eval/reproduce.py qwen2.5 -c Qwen/Qwen2.5-7B -d data           # Qwen1.5 to Qwen3 have tables of their own
    python eval/reproduce.py --all -c demo-chat                           # every table of this kind of model
    python eval/reproduce.py base -c Qwen/Qwen-7B -d data --plan          # only what would be done, and how long

Before it starts it says what is missing and about how long it takes. Every run writes its own folder, as its script
does alone, so that the same command goes on where it was stopped. Flags of the scripts (--sample 50, --dtype ...) go to
each run that knows them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from qwen_eval.cli import OneLineParser
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, run_script
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
from qwen_eval.reproduction.tables import TABLES, CardTable, Part
from qwen_eval.target import Target

NOT_HERE = ("-k", "--num-fewshot", "--rescore", "--baseline", "--subjects")  # each run has its own


def parse(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this script, and what is left for those of the benchmarks."""
    about = "\n".join(f"    {table.name:18}{table.about}" for table in TABLES.values())
    flags = OneLineParser(
        usage="%(prog)s [TABLE ...] [-c CHECKPOINT] [-d DATA] [flags]",
        description=f"{(__doc__ or '').strip().partition(chr(10))[0]}\n\ntables:\n{about}",
        epilog="All other flags are those of the scripts: --sample 50, --dtype bfloat16, -b 64 ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--all", action="store_true", help="every table of this model's generation and kind, chat or base")
    add("-c", "--checkpoint-path", action="append", metavar="CHECKPOINT", help="may be given several times: more rows")
    add("-d", "--eval-data-path", type=Path, metavar="DATA", help="a folder with mmlu/, ceval/, gsm8k/ ... in it")
    add("-o", "--output-dir", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--plan", action="store_true", help="say what would be done and how long it takes, and stop")
    add("--skip-missing", action="store_true", help="leave out runs whose data is not there")
    found, rest = flags.parse_known_args(words)
    found.table, left = split_tables(rest)
    return found, left


def split_tables(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tables among the words that are no flag of this script, and the rest. A word behind a flag that is not the
    name of a table is that flag's value (--limit 1)."""
    tables, rest = list[str](), list[str]()
    for before, word in zip(("", *words), words, strict=False):
        is_table = word in TABLES or not (word.startswith("-") or before.startswith("-"))
        (tables if is_table else rest).append(word)
    return tables, rest


def chosen_tables(flags: argparse.Namespace) -> list[CardTable]:
    if unknown := [name for name in flags.table if name not in TABLES]:
        raise UserError(f"no table of the cards is called {unknown[0]!r}; there are {', '.join(TABLES)}")
    if not flags.checkpoint_path:
        raise UserError("no checkpoint: give -c a hub id, a folder, `demo` or `demo-chat`")
    if flags.all == bool(flags.table):
        raise UserError(f"name a table, or give --all; the tables are {', '.join(TABLES)}")
    return list(TABLES.values()) if flags.all else [TABLES[name] for name in dict.fromkeys(flags.table)]


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
        prepared(part, checkpoint, flags.eval_data_path, flags.output_dir, rest, engines)
        for checkpoint, target in targets.items()
        for part in runs_of([table for table in tables if asked_of(table, target, flags.all)])
    ]
    say_plan(steps, flags.skip_missing)
    if flags.plan:
        return 0
    started = [step for step in steps if step.made]
    for step in started:
        carry_out(step)
    write_tables(tables, steps, targets, flags.output_dir, flags.all)
    return status(started)


def fitting(tables: Sequence[CardTable], targets: dict[str, Target], every: bool) -> list[CardTable]:
    """The tables; with --all those of the kinds of models that there are. UserError where a named one fits no model."""
    if every:
        return [table for table in tables if any(is_of(table, target) for target in targets.values())]
    for table in tables:
        check_chat(table, targets)
    return list(tables)


def is_of(table: CardTable, target: Target) -> bool:
    """Whether a table is one of this model's generation and kind, by the name whose figures stand beside its own."""
    own = target.name.model.partition("-")[0]
    known = {one.generation for one in TABLES.values()}
    return table.chat == target.chat and table.generation == (own if own in known else "")


def asked_of(table: CardTable, target: Target, every: bool) -> bool:
    """Whether the table's runs are this model's: with --all only those of its generation, else of its kind."""
    return is_of(table, target) if every else table.chat == target.chat


def runs_of(tables: Sequence[CardTable]) -> list[Part]:
    """The runs of these tables, each once."""
    return list(dict.fromkeys(part for table in tables for part in table.parts))


def write_tables(
    tables: Sequence[CardTable], steps: Sequence[Step], targets: dict[str, Target], output: Path, every: bool
) -> None:
    for table in tables:
        asked = {checkpoint for checkpoint, target in targets.items() if asked_of(table, target, every)}
        own = [step for step in steps if step.part in table.parts and step.checkpoint in asked]
        found, notes = collected(own, targets)
        folder = output / "tables" / table.name
        grids = layout.write(table, found, notes, folder)
        show(f"{table.name}: {table.about}", grids, [*notes, f"written to {folder}"])


if __name__ == "__main__":
    run_script(main)

"""`qwen-eval list --reported NAME`: every reported figure of a model, its source, and the command that measures it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from qwen_eval.errors import UserError
from qwen_eval.places import find_script
from qwen_eval.reporting.reported import MODES, QUANTISED, ModelName, Row, card_figures, has_one_mode, parse_known_name
from qwen_eval.reporting.side_by_side import setting_of
from qwen_eval.reproduction.tables import PARTS

#: The command of a benchmark that is not called as its script is.
COMMANDS = {
    "plugin_react": ("plugin",),
    "hf_agent_run": ("plugin", "--hf-agent", "run"),
    "hf_agent_chat": ("plugin", "--hf-agent", "chat"),
    "arxiv_ppl": ("ppl",),
    "wmt22_en_zh": ("wmt22",),
    "arc_challenge": ("arc",),
    "humaneval_plus": ("humaneval", "--evalplus", "HumanEvalPlus.jsonl.gz"),
    "mbpp_plus": ("mbpp", "--evalplus", "MbppPlus.jsonl.gz"),
    "encode_2048": ("speed",),
    "generate_2048": ("speed",),
    "generate_8192": ("speed",),
}


def listing(text: str | None) -> str:
    """What the command prints: of one model its figures under the command of each, or the names of all models.

    Raises:
        UserError: no figure is of this model.
    """
    rows = card_figures()
    if text is None:
        names = sorted({row["model"] for row in rows})
        return "\n".join(f"{name}  {sum(row['model'] == name for row in rows)} figures" for name in names)
    name = parse_known_name(text, rows, "list --reported")
    of_model = [row for row in rows if row["model"].lower() == name.model.lower()]
    own = [row for row in of_model if _is_asked(row, name)]
    if not own:
        base = name.model
        raise UserError(f"no reported figure is of {text}; `qwen-eval list --reported {base}` has those of {base}")
    newest = max(row["version"] for row in of_model)
    blocks: dict[str, list[str]] = {}
    for row in own:
        blocks.setdefault(command(row, newest), []).append(_line(row))
    shown = [f"{head}\n" + "\n".join(lines) for head, lines in blocks.items()]
    title = f"{text}: {len(own)} reported figures, each below the command that measures it"
    return "\n\n".join([title, *shown])


def _is_asked(row: Row, name: ModelName) -> bool:
    """Of a name with a version or a variant only those figures."""
    return name.version in ("", row["version"]) and name.variant in ("", row["variant"])


def _line(row: Row) -> str:
    value = f"{row['value']} {row['unit']}".strip()
    setting = setting_of(row)
    return f"    {row['benchmark']} {row['metric']}  {value}  ({setting})  {row['source']}"


def command(row: Row, newest: str) -> str:
    """The command that measures a row's figure here; of a benchmark without a script, that there is none."""
    words = COMMANDS.get(row["benchmark"], (row["benchmark"],))
    if find_script(words[0]) is None:
        return f"# {row['benchmark']}: no script here"
    checkpoint = _checkpoint(row, newest)
    if words[0] == "speed":  # it has the cards' figures in a table of its own
        checkpoint = checkpoint[:2]
    shots = () if "--evalplus" in words else _shots(words[0], row)  # EvalPlus asks without examples
    chosen = row["variant"] in MODES and not has_one_mode(row["model"])
    thinking = ("--thinking", MODES[row["variant"]]) if chosen else ()
    return shlex.join(["qwen-eval", *words, *checkpoint, *shots, *thinking])


def _checkpoint(row: Row, newest: str) -> Sequence[str]:
    """The released checkpoint by its id, where the cards are its maker's; else the user's own."""
    model, variant = row["model"], row["variant"]
    name = model + (f"-{variant}" if variant in QUANTISED else "")
    if not model.startswith("Qwen") or row["version"] not in ("", newest):
        return ("-c", "FOLDER", "--reported-as", f"{name}@{row['version']}".rstrip("@"))
    return ("-c", "Qwen/" + name.replace("Qwen-1.8B", "Qwen-1_8B"))


def _shots(script: str, row: Row) -> Sequence[str]:
    """-k, where the source states the number of examples and the script takes one."""
    part = next((part for part in PARTS if part.script == script), None)
    takes = part is not None and part.benchmark().shots is not None
    return ("-k", row["shots"]) if row["shots"] and takes else ()

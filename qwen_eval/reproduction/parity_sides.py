"""The two sides of a parity run: what each is made of, its runs, and what both were asked.

A side is a few of the scripts' flags as `name=value` (`dtype=bfloat16`, `checkpoint=Qwen/Qwen-7B-Int4`). It runs each
benchmark as its script does alone, in a folder of its own, so that the same command goes on where it was stopped.
"""

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Record
from qwen_eval.checkpoints import resolve_checkpoint
from qwen_eval.comparison.parity import Measured, check_prompts, measure
from qwen_eval.comparison.rows import Key
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, one_line, redacted
from qwen_eval.reporting.journal import prompt_sha256
from qwen_eval.reproduction.runs import prepared
from qwen_eval.reproduction.tables import Part
from qwen_eval.run import Run
from qwen_eval.runner import entered, finish

#: flags that say how a model is run; all others are the same for both sides
SWITCHES = (
    "checkpoint", "adapter", "engine", "base-url", "tokenizer", "dtype", "device", "batch-size", "kv-cache",
    "gptq-backend", "attn-implementation", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel",
    "device-map", "use-dynamic-ntk", "use-logn-attn", "window-attn",
)  # fmt: skip


@dataclass
class Side:
    """name: A or B; words: name=value; made: the runs that are to be carried out, by benchmark; afterwards answers: the
    records of each, manifests: what each was made of, notes; missing: items without a reply."""

    name: str
    words: Sequence[str]
    checkpoint: str
    flags: Sequence[str]
    made: dict[str, Run] = field(default_factory=dict)
    answers: dict[str, Mapping[Key, Record]] = field(default_factory=dict)
    manifests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: int = 0
    model: str = ""
    local: bool = True

    @property
    def gives_logits(self) -> bool:
        """Whether its choices have the model's logits, not log-probabilities, as vLLM and endpoints give them."""
        return all(manifest.get("engine") == "local" for manifest in self.manifests.values())

    def __str__(self) -> str:
        settings = [word for word in self.words if not word.startswith("checkpoint=")]
        return redacted(" ".join([self.model or self.checkpoint, *settings]))


def read_side(name: str, words: Sequence[str], checkpoint: str | None) -> Side:
    """The side of --a or --b. UserError for a word that says nothing of how a model is run."""
    given: dict[str, str] = {}
    for word in words:
        switch, equals, value = word.partition("=")
        if switch not in SWITCHES:
            near = difflib.get_close_matches(switch.lstrip("-").replace("_", "-"), SWITCHES, n=1)
            hint = f"did you mean {near[0]}=...?" if near else f"a side may have {', '.join(SWITCHES)}"
            raise UserError(f"--{name.lower()} {word}: {switch!r} is no switch of a side; {hint}")
        if not equals or not value:
            raise UserError(f"--{name.lower()} {word}: give it a value, {switch}=...")
        if switch in given:
            raise UserError(f"--{name.lower()}: {switch} is given twice")
        given[switch] = value
    found = given.get("checkpoint", checkpoint)
    if found is None:
        raise UserError(f"--{name.lower()} has no checkpoint: give -c for both sides, or checkpoint=... for this one")
    flags = [f"--{switch}={value}" for switch, value in given.items() if switch != "checkpoint"]
    return Side(name, words, found, [f"--checkpoint-path={found}", *flags])


def make_runs(
    side: Side,
    parts: Sequence[Part],
    data: Path | None,
    output: Path,
    rest: Mapping[str, Sequence[str]],
    engines: Engines,
) -> None:
    """Make the side's runs ready. rest: flags of each benchmark. UserError for one that cannot start."""
    for part in parts:
        folder = output / side.name.lower()
        step = prepared(part, side.checkpoint, data, folder, [*rest[part.name], *side.flags], engines)
        if step.made is None:
            raise UserError(f"{side.name}, {part.name}: {step.problem}")
        side.made[part.name] = step.made
        side.model, side.local = step.made.target.model, step.made.target.checkpoint is not None


def check_alike(a: Side, b: Side) -> None:
    """UserError where the sides are not asked the same in the same way. Before any work."""
    for name, one in a.made.items():
        other = b.made[name]
        if one.setting.chat != other.setting.chat:
            kinds = ["chat" if made.setting.chat else "base" for made in (one, other)]
            raise UserError(f"A is a {kinds[0]} model and B a {kinds[1]} model; --chat or --base asks both alike")
        for made in (one, other):
            if made.decoding is not None and made.decoding.temperature:
                raise UserError(
                    "--temperature is not for parity: texts are compared token by token, so they are greedy"
                )
        if one.decoding and other.decoding and one.decoding != other.decoding:
            named = [
                field
                for field in one.decoding._fields
                if getattr(one.decoding, field) != getattr(other.decoding, field)
            ]
            values = [getattr(made, named[0]) for made in (one.decoding, other.decoding)]
            flag = f"--{named[0].replace('_', '-')}"
            raise UserError(f"{name}: {named[0]} is {values[0]} for A and {values[1]} for B; give {flag} for both")
        check_prompts(name, *(_prompts(made) for made in (one, other)))


def _prompts(made: Run) -> dict[Key, str]:
    return {item.key: prompt_sha256(item.prompt + item.assistant_prefill) for item in made.items}


def carry_out(side: Side) -> None:
    """Answer all items of the side; its model can leave the memory then. UserError where a run fails as a whole; what
    is finished stays in its folder."""
    for name in list(side.made):
        made = replace(side.made.pop(name), started=time.time())
        try:
            with entered(made.benchmark, made.setting) as services:
                finish(made, services)
        except UserError as error:
            raise UserError(f"{side.name}, {name}: {one_line(error)}") from error
        side.answers[name] = {(record["id"], record["sample"]): record for record in made.records}
        side.manifests[name] = made.manifest
        side.notes += [note for note in made.target.engine_notes() if note not in side.notes]
        side.missing += len(made.missing)


def compared(a: Side, b: Side, tokens: Callable[[str], Sequence[int]]) -> list[Measured]:
    """Both sides' answers, benchmark by benchmark."""
    alike = a.local == b.local
    return [
        measure(name, records, b.answers[name], tokens, constant=not (a.gives_logits and b.gives_logits), as_seen=alike)
        for name, records in a.answers.items()
    ]


def tokens_of(sides: Sequence[Side], named: str | None) -> Callable[[str], Sequence[int]]:
    """The tokenizer that texts are counted by: of --tokenizer, else of the first side that runs here. UserError where
    there is none."""
    from qwen_model.checkpoint import CheckpointError
    from qwen_model.loading import load_tokenizer

    given = named or next((side.checkpoint for side in sides if side.local), None)
    if given is None:
        raise UserError("both sides are endpoints; --tokenizer names a checkpoint whose tokens texts are counted in")
    try:
        tokenizer = load_tokenizer(resolve_checkpoint(given, "--tokenizer" if named else "-c"))
    except CheckpointError as error:
        raise UserError(f"--tokenizer {given}: {one_line(error)}" if named else one_line(error)) from error

    def tokens(text: str) -> Sequence[int]:
        found: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return found

    return tokens

"""A float checkpoint and its quantised twins: which they are, whether they are twins, and what separates them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.checkpoints import resolve_checkpoint
from qwen_eval.comparison.power import Assumptions
from qwen_eval.comparison.result import Benchmark, compare, prepare
from qwen_eval.comparison.sides import read_side
from qwen_eval.errors import UserError, one_line
from qwen_eval.reproduction.plan import Step

PUBLISHED = ("Int8", "Int4")  # the names of the cards: Qwen-7B-Chat-Int8, Qwen-7B-Chat-Int4
CONFIGS = ("config.json", "quantize_config.json")
#: What a model and its quantised twin have in common.
SIZES = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
MARGIN = 10.0  # points up to which a loss may be missed, as in compare.py


class Checkpoint(NamedTuple):
    """bits: of the packed weights, None for a float checkpoint; sizes: by the names of SIZES."""

    given: str
    bits: int | None
    sizes: Mapping[str, Any]


def examined(given: str, flag: str) -> Checkpoint:
    """A checkpoint by its settings alone: of a hub id nothing else is fetched. UserError where there is none."""
    from qwen_model.checkpoint import CheckpointError, read_json
    from qwen_model.loading import load_config

    folder = resolve_checkpoint(given, flag, CONFIGS)
    try:
        config = load_config(folder)
        settings = read_json(folder / "config.json").get("quantization_config")
        if settings is None and (folder / "quantize_config.json").is_file():
            settings = read_json(folder / "quantize_config.json")
    except CheckpointError as error:
        raise UserError(f"{flag} {one_line(error)}") from error
    bits = settings.get("bits", 0) if isinstance(settings, dict) else None
    return Checkpoint(given, bits, {name: getattr(config, name, None) for name in SIZES})


def check_twins(given: str, twins: Sequence[str]) -> list[Checkpoint]:
    """The float checkpoint and its twins. UserError for one that is missing, not quantised, or of another model."""
    original = examined(given, "-c")
    if original.bits is not None:
        raise UserError(f"-c {given} is quantised itself; give the float checkpoint, and this one by --twins")
    found = [original]
    for twin in twins:
        one = examined(twin, "--twins")
        if one.bits is None:
            raise UserError(f"--twins {twin} is no quantised checkpoint (no quantization_config in its config.json)")
        if other := [name for name in SIZES if one.sizes[name] != original.sizes[name]]:
            said = f"{other[0]} is {one.sizes[other[0]]} there and {original.sizes[other[0]]} in {given}"
            raise UserError(f"--twins {twin} is of another model: {said}")
        found.append(one)
    return found


def usual_twins(given: str) -> list[str]:
    """Their names on the cards; UserError for a folder that has none beside it, and for the demo."""
    twins = [f"{given.rstrip('/')}-{variant}" for variant in PUBLISHED]
    if "/" in given and not Path(given).expanduser().exists():
        return twins  # ids of a hub
    if not any(Path(twin).expanduser().is_dir() for twin in twins):
        raise UserError(f"no twins: there is no folder {' or '.join(twins)}; name the quantised checkpoints by --twins")
    return [twin for twin in twins if Path(twin).expanduser().is_dir()]


def differences(steps: Sequence[Step], models: Mapping[str, str]) -> tuple[list[Benchmark], list[str]]:
    """Each twin's runs against those of the first checkpoint, item by item, with Holm's correction over all of them;
    and why some are left out. models: checkpoint -> its name."""
    original = next(iter(models))
    first = {step.part.name: step for step in steps if step.checkpoint == original}
    found, left_out = [], []
    for step in steps:
        if step.checkpoint == original or step.problem or first[step.part.name].problem:
            continue
        name = f"{step.part.name} ({models[step.checkpoint]})"
        try:
            found += prepare({name: read_side(first[step.part.name].folder)}, {name: read_side(step.folder)})
        except UserError as error:
            left_out.append(f"{name}: not compared: {one_line(error)}")
    if found:
        compare(found, Assumptions(), MARGIN, ignore_differences=False)
    return found, left_out

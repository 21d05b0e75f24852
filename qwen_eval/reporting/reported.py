"""The reported figures: which row of the cards' tables a score is compared with.

A checkpoint is known by its name (`Qwen/Qwen-7B-Chat-Int4`, or a folder so called), by `--reported-as`, or not at all.
A row has the columns of reported_numbers.csv; `--reported FILE` brings rows of any other card (cards.py).
"""

import csv
import difflib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from qwen_eval.errors import UserError

HERE = Path(__file__).parent
#: Blogs, reports and cards of Qwen1.5 to Qwen3. They state the number of examples at most, no prompt and no extraction.
LATER = HERE / "reported_numbers_later.csv"
#: The model cards and first READMEs; the last README of the model repository, of all four sizes; the later generations.
CARDS = (HERE / "reported_numbers.csv", HERE / "reported_numbers_family.csv", LATER)
COLUMNS = "table source model version variant data_version benchmark split shots metric unit value".split()
#: How the names of quantised checkpoints end: a variant of the cards.
QUANTISED = ("GPTQ-Int4", "GPTQ-Int8", "AWQ", "Int4", "Int8")
#: Ways of asking one checkpoint of Qwen3, in the column `variant`, and what --thinking calls them.
MODES = {"thinking": "on", "non-thinking": "off"}
#: Of the first of these sources, a note says that where its chat figures differ from the report's, the report's hold.
CORRECTED = ("QwenLM/qwenlm.github.io:content/blog/qwen2/index.md", "chat")
#: The versions of the data that the first of these files was measured on; it has no column for them.
FIRST_DATA_VERSIONS = {"plugin_react": "20230803", "code_interpreter": "card"}

Row: TypeAlias = dict[str, str]


class Reported(NamedTuple):
    value: float
    decimals: int  # how precisely it was printed
    source: str
    version: str
    any_shots: bool = False  # how many examples it was measured with is not said
    data_version: str = ""
    open_protocol: bool = False  # the source does not say how it was asked and read


class ModelName(NamedTuple):
    """A model of the cards: `Qwen-7B-Chat`, version `v1.1` (or "" for the newest), variant `Int4` (or ""). A quantised
    model has figures of its own or none; its base's stand beside it only where --reported-as names the base."""

    model: str
    version: str = ""
    variant: str = ""


class Figure(NamedTuple):
    """What a reported figure is looked up by.

    shots: examples in the prompt, None where the metric has none. setting: how one float checkpoint was run, in the
    column `variant` (long-context switches). data_version: of a benchmark whose data came in versions; "" where the run
    does not know it, None for any other benchmark.
    """

    benchmark: str
    metric: str
    shots: int | None = None
    split: str = ""
    setting: str | None = None
    data_version: str | None = None


@cache
def read_figures(path: Path) -> tuple[Row, ...]:
    """The rows of one of the project's own files, with every column."""
    with open(path, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    versions = FIRST_DATA_VERSIONS if path == CARDS[0] else {}
    empty = {**dict.fromkeys(COLUMNS, ""), "protocol": "open" if path == LATER else ""}
    return tuple({**empty, "data_version": versions.get(row["benchmark"], ""), **row} for row in rows)


@cache
def card_figures() -> tuple[Row, ...]:
    """Every figure of the cards, READMEs, blogs and reports."""
    return tuple(row for path in CARDS for row in read_figures(path))


def parse_model_name(text: str) -> ModelName:
    """`Qwen/Qwen-7B-Chat-Int4`, a folder of that name, a hub cache folder, or `Qwen-7B@v1.0`."""
    if Path(text).name in ("", ".."):  # `.`, `..`: the name is the folder's own
        text = str(Path(text).resolve())
    if cached := re.search(r"models--([^/]+)--([^/]+)", text):
        name, version = cached.group(2), ""
    else:
        name, _, version = Path(text).name.partition("@")
    name = re.sub(r"(?i)^(qwen-?\d)_(\d+b)", r"\1.\2", name)  # the hub writes Qwen-1_8B, the tables Qwen-1.8B
    match = re.fullmatch(rf"(.+?)[-_]({'|'.join(QUANTISED)}|BF16)", name, flags=re.IGNORECASE)
    if not match:
        return ModelName(name, version)
    variant = {known.lower(): known for known in (*QUANTISED, "BF16")}[match.group(2).lower()]
    return ModelName(match.group(1), version, variant)


def parse_known_name(text: str, rows: Sequence[Row], flag: str = "--reported-as") -> ModelName:
    """The same for a name that must be in these figures, given by this flag. Raises UserError for any other."""
    name, known = parse_model_name(text), sorted({row["model"] for row in rows if row["model"]})
    if name.model.lower() not in [model.lower() for model in known]:
        near = difflib.get_close_matches(name.model, known, n=1)
        examples = " and ".join(map(repr, [one for one in ("Qwen-7B", "Qwen-7B-Chat") if one in known] or known[:2]))
        hint = f"did you mean {near[0]!r}?" if near else f"there are {len(known)}, such as {examples}"
        raise UserError(f"no reported figure is of a model {name.model!r} ({flag}); {hint}")
    return name


class Candidates(NamedTuple):
    """same: the rows of a model, benchmark and metric; fitting: those of the setting that was asked for; open_fields:
    which of shots and split none of them fills."""

    same: list[Row]
    fitting: list[Row]
    open_fields: set[str]


def candidates(rows: Sequence[Row], name: ModelName, figure: Figure) -> Candidates:
    """What may stand beside a figure, as `find` chooses of it."""
    same = [row for row in _same_metric(rows, name, figure) if _same_data(row, figure)]
    if figure.setting is not None:
        if name.variant or not same:
            return Candidates(same, [], set())
        name = ModelName(name.model, name.version or max(row["version"] for row in same), figure.setting)
    wanted = {"shots": "" if figure.shots is None else str(figure.shots), "split": figure.split}
    open_fields = {field for field in wanted if not any(row[field] for row in same)}

    def fits(row: Row) -> bool:
        if name.version and row["version"] != name.version:
            return False
        plain = {"", "BF16", *(MODES if has_one_mode(name.model) else ())}
        if row["variant"] != name.variant and (name.variant or row["variant"] not in plain):
            return False
        return all(field in open_fields or row[field] == text for field, text in wanted.items())

    return Candidates(same, [row for row in same if fits(row)], open_fields)


def has_one_mode(model: str) -> bool:
    """Whether a Qwen3 always thinks, or never: its releases of July 2025 (2507) are the one or the other."""
    return model.endswith("-2507")


def with_mode(rows: Sequence[Row], name: ModelName, mode: str) -> ModelName:
    """The name with the mode (of MODES, or "") in which the model was asked, where figures of it are of this mode."""
    known = any(row["model"].lower() == name.model.lower() and row["variant"] == mode for row in rows)
    return name._replace(variant=mode) if mode and known and not name.variant else name


def chosen(fitting: Sequence[Row]) -> Row:
    """The newest version; of several sources the first, which is the model's own."""
    corrected = [(row["source"], row["table"]) == CORRECTED for row in fitting]
    keys = [(row["version"], not row["variant"], not old) for row, old in zip(fitting, corrected, strict=True)]
    return fitting[keys.index(max(keys))]


def decimals_of(row: Row) -> int:
    """How precisely the row's value was printed."""
    return len(row["value"].partition(".")[2]) or 1


def find(rows: Sequence[Row], name: ModelName, figure: Figure) -> Reported | None:
    """The reported figure of this model in this setting; the newest version first.

    Not every version was run in every way: without a version in the name all figures of a `setting` are those of the
    newest version that has any.

    A row that leaves its shots or split empty stands for any, but only where no row of the same model, benchmark and
    metric fills that field; a figure without a variant is the float model's, never a quantised one's. A figure of one
    version of the data is never that of another.
    """
    _, fitting, open_fields = candidates(rows, name, figure)
    if not fitting:
        return None
    row = chosen(fitting)
    given = (row["source"], row["version"], "shots" in open_fields, row["data_version"])
    return Reported(float(row["value"]), decimals_of(row), *given, open_protocol=row.get("protocol") == "open")


def data_versions(rows: Sequence[Row], name: ModelName, figure: Figure) -> dict[str, Reported]:
    """The figure on each version of the data, where it has any: version -> figure."""
    versions = sorted({row["data_version"] for row in _same_metric(rows, name, figure)} - {""})
    found = {version: find(rows, name, figure._replace(data_version=version)) for version in versions}
    return {version: reported for version, reported in found.items() if reported}


def _same_metric(rows: Sequence[Row], name: ModelName, figure: Figure) -> list[Row]:
    """The rows of this model, benchmark and metric. A row without a model is of any."""
    wanted = ({"", name.model.lower()}, figure.benchmark, figure.metric)
    return [
        row
        for row in rows
        if row["benchmark"] == wanted[1] and row["metric"] == wanted[2] and row["model"].lower() in wanted[0]
    ]


def _same_data(row: Row, figure: Figure) -> bool:
    """Whether the row was measured on this version of the data, or is of no version."""
    return figure.data_version is None or row["data_version"] in ("", figure.data_version)


def version_of(model: str, checkpoint: Path | None) -> str:
    """Qwen-7B came twice under one name: v1.0 was trained at 2,048 tokens, v1.1 at 8,192. "" for all others."""
    if checkpoint is None or not model.startswith("Qwen-7B"):
        return ""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8-sig"))
    return "v1.0" if config.get("seq_length") == 2048 or "n_embd" in config else ""

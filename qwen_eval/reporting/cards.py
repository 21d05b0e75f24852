"""`--reported FILE`: the figures of anyone's card, as rows like those of reported_numbers.csv.

* `.csv` with these columns (benchmark, metric and value must be there);
* a model card (`README.md`) or `.yaml` with a `model-index` (huggingface_hub reads it);
* a file of a model repository's `.eval_results/`, that folder, or the repository itself.

The last two name data sets of the hub; DATASETS says which benchmark each is. What no script here measures is left out.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qwen_eval.data.readers import read_text
from qwen_eval.errors import UserError, one_line
from qwen_eval.reporting.reported import COLUMNS, Row

#: What a card may call a benchmark, in small letters and digits only: part behind the `/` of a hub id, or plain name.
DATASETS = {
    "mmlu": "mmlu hendryckstest",
    "mmlu_pro": "mmlupro",
    "arc_challenge": "arcchallenge",
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "ceval": "cevalexam ceval cevalvalid",
    "cmmlu": "cmmlu",
    "gsm8k": "gsm8k",
    "math": "hendrycksmath competitionmath math",
    "humaneval": "openaihumaneval humaneval",
    "mbpp": "mbpp",
    "bbh": "bbh bigbenchhard",
    "vcsum": "vcsum",
}
BENCHMARKS = {name: benchmark for benchmark, names in DATASETS.items() for name in names.split()}
#: What a card may call a metric, the same way; the first is the benchmark's headline.
METRICS = {
    "humaneval": ("pass@1", {"pass1", "passat1", "acc", "accuracy"}),
    "mbpp": ("pass@1", {"pass1", "passat1", "acc", "accuracy"}),
    "vcsum": ("rouge_l", {"rougel", "rouge"}),
}
ACCURACY = ("acc", {"acc", "accuracy", "exactmatch", "em", "multiplechoiceaccuracy"})
IN_PERCENT = ("acc", "pass@1", "rouge_l")


def read_card(path: Path) -> tuple[tuple[Row, ...], list[str]]:
    """The rows of a card, and what a reader of the figures should know. Raises UserError that names the file."""
    if not path.exists():
        raise UserError(f"--reported {path}: no such file")
    if path.is_dir():
        folder = path / ".eval_results" if (path / ".eval_results").is_dir() else path
        files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        if not files and (path / "README.md").exists():
            return read_card(path / "README.md")
        found = [row for file in files for row in _eval_results(file)]
    elif path.suffix == ".csv":
        return _csv(path), []
    elif path.suffix in (".md", ".yaml", ".yml"):
        found = _yaml(path)
    else:
        raise UserError(f"--reported {path}: not a .csv, a model card (README.md) or a .yaml of .eval_results")
    if not found:
        known = ", ".join(DATASETS)
        raise UserError(f"--reported {path} has no figure of a benchmark that is measured here ({known})")
    return _in_percent(found)


def _csv(path: Path) -> tuple[Row, ...]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if missing := [name for name in ("benchmark", "metric", "value") if rows and name not in rows[0]]:
        raise UserError(f"--reported {path} has no column {missing[0]!r}; it wants those of {', '.join(COLUMNS)}")
    if not rows:
        raise UserError(f"--reported {path} has no figure in it")
    found = []
    for line, row in enumerate(rows, start=2):
        _number(row["value"], f"--reported {path} line {line}")
        given = {name: (row.get(name) or "").strip() for name in COLUMNS}
        found.append({**given, "source": given["source"] or path.name})
    return tuple(found)


def _yaml(path: Path) -> list[Row]:
    """A model card, a bare `model-index`, or a file of .eval_results."""
    if path.suffix == ".md":
        return _model_index(path, read_text(path))
    value = _load(path)
    if isinstance(value, list):
        return _eval_results(path)
    return _model_index(path, f"---\n{read_text(path)}\n---\n")


def _load(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"--reported {path} is not YAML ({one_line(error)[:120]})") from error


def _model_index(path: Path, text: str) -> list[Row]:
    import yaml
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(text).data
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"--reported {path} has no readable model-index ({one_line(error)[:120]})") from error
    model = str(card.get("model_name") or "")
    found = []
    for result in card.get("eval_results") or []:
        arguments = result.dataset_args if isinstance(result.dataset_args, Mapping) else {}
        said = _shots_in(f"{result.dataset_name} {result.metric_name} {result.task_name}")
        found += _row(
            path,
            model,
            names=[result.dataset_type or "", result.dataset_name or ""],
            metrics=[str(result.metric_type or ""), str(result.metric_name or "")],
            shots=arguments.get("num_few_shot", said),
            value=result.metric_value,
            split=str(result.dataset_split or ""),
        )
    return found


def _eval_results(path: Path) -> list[Row]:
    from huggingface_hub import parse_eval_result_entries

    try:
        entries = parse_eval_result_entries(_load(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--reported {path} is no file of .eval_results ({one_line(error)[:120]})") from error
    found = []
    for entry in entries:
        found += _row(path, "", [entry.dataset_id], [], _shots_in(entry.notes or ""), entry.value, "")
    return found


def _row(
    path: Path, model: str, names: Iterable[str], metrics: Iterable[str], shots: Any, value: Any, split: str
) -> list[Row]:
    """One figure as a row; nothing where no script measures it. metrics: what it is called; none: the headline."""
    benchmark = next((BENCHMARKS[key] for name in names if (key := _plain(name)) in BENCHMARKS), None)
    if benchmark is None:
        return []
    metric, known = METRICS.get(benchmark, ACCURACY)
    called = [_plain(name) for name in metrics if name]
    if called and not known.intersection(called):
        return []
    _number(value, f"--reported {path}: the value of {benchmark}")
    shown = "" if shots is None else str(shots)
    given = {"source": path.name, "model": model, "benchmark": benchmark, "shots": shown, "metric": metric}
    split = split if benchmark == "ceval" and split in ("val", "test") else ""
    return [{**dict.fromkeys(COLUMNS, ""), **given, "split": split, "value": str(value)}]


def _plain(name: str) -> str:
    """`openai/gsm8k`, `GSM8K (8-shot)` and `GSM-8K` are gsm8k."""
    name = re.sub(r"\(.*?\)|\b\d+[- ]?shots?\b", "", name.rpartition("/")[2], flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _shots_in(text: str) -> int | None:
    match = re.search(r"(\d+)[- ]?shots?\b", text, flags=re.IGNORECASE)
    return int(match[1]) if match else None


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise UserError(f"{where} is {value!r}, not a number")
    return number


def _in_percent(rows: list[Row]) -> tuple[tuple[Row, ...], list[str]]:
    """The rows in percent. A card that has nothing above 1 counts from 0 to 1, which is said."""
    shares = [row for row in rows if row["metric"] in IN_PERCENT]
    if not shares or any(float(row["value"]) > 1 for row in shares):
        return tuple(rows), []
    found = []
    for row in rows:
        decimals = max(1, len(row["value"].partition(".")[2]) - 2)
        text = f"{100 * float(row['value']):.{decimals}f}" if row in shares else row["value"]
        found.append({**row, "value": text})
    return tuple(found), [f"{rows[0]['source']} counts from 0 to 1; its figures are shown in percent"]

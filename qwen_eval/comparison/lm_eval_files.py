"""lm-evaluation-harness's `samples_{task}_{date}.jsonl` (0.4) as rows.

A line has doc_id, doc, target, arguments, resps, filtered_resps, filter, metrics (names of the fields with its marks),
doc_hash, prompt_hash, target_hash (EvaluationTracker.save_results_samples, evaluator.evaluate). A task with several
filters has a line per document and filter; the first filter counts unless another is named.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qwen_eval.comparison.rows import Key, Row
from qwen_eval.data.readers import WHOLE, check_row, numbered_jsonl, shown
from qwen_eval.errors import UserError
from qwen_eval.reporting.samples import as_text
from qwen_eval.rescore import QUESTION_FIELDS, reply_files

#: Tasks that are parts of one of our benchmarks: beginning of the task's name -> benchmark.
GROUPS = {
    "mmlu": "mmlu",
    "ceval": "ceval",
    "cmmlu": "cmmlu",
    "gsm8k": "gsm8k",
    "minerva_math": "math",
    "hendrycks_math": "math",
    "bbh": "bbh",
    "humaneval": "humaneval",
    "mbpp": "mbpp",
}
NOT_THAT = ("mmlu_pro", "mmlu_redux")  # benchmarks of their own, though their names begin alike
METRICS = ("acc", "exact_match", "pass@1", "pass_at_1", "acc_norm")  # the first that a line has


def newest(folder: Path) -> list[Path]:
    """The newest file per task; none where there is none."""
    return reply_files(folder) if any(folder.rglob("samples_*.jsonl")) else []


def task_of(path: Path) -> str:
    """`samples_gsm8k_2025-01-01T00-00-00.123.jsonl` is gsm8k."""
    return re.sub(r"_\d{4}-\d\d-\d\dT[\d.:-]*$", "", path.name.partition(".jsonl")[0]).removeprefix("samples_")


def by_benchmark(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by the benchmark that their tasks belong to."""
    found: dict[str, list[Path]] = {}
    for path in files:
        task = task_of(path)
        known = (
            name
            for beginning, name in GROUPS.items()
            if re.match(rf"{re.escape(beginning)}(?![a-z0-9])", task) and not task.startswith(NOT_THAT)
        )
        found.setdefault(next(known, task), []).append(path)
    return found


def read(
    files: Iterable[Path], filter_name: str | None, metric: str | None
) -> tuple[dict[Key, Row], dict[str, Any], list[str]]:
    """The rows of a benchmark's files, the settings that its requests show, and what to know of how they were read."""
    rows: dict[Key, Row] = {}
    settings: dict[str, Any] = {}
    filters: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for path in files:
        chosen = filter_name
        for where, line in numbered_jsonl(path):
            check_row(line, {"doc_id": WHOLE}, where)
            if "arguments" not in line or not ("resps" in line or "filtered_resps" in line):
                raise UserError(f"{where} is no line of lm-evaluation-harness: it has no `arguments` or no `resps`")
            name = str(line.get("filter", ""))
            chosen = name if chosen is None else chosen
            filters[name] = None
            if name != chosen:
                continue
            field = _metric(line, metric, where)
            metrics[field] = None
            key = (f"{task_of(path)}/{line['doc_id']}", 0)
            if key in rows:
                raise UserError(f"{where}: doc_id {line['doc_id']} stands there twice with the filter {name!r}")
            rows[key] = _row(line, task_of(path), field)
            settings |= _settings(line)
        if filter_name is not None and filter_name not in filters:
            raise UserError(f"{path} has no filter {filter_name!r}; it has {', '.join(filters)}")
    if not rows:
        raise UserError(f"{', '.join(map(str, files))}: no samples in it")
    told = [f"read as right or wrong: {', '.join(metrics)}"] if list(metrics) != ["acc"] else []
    if len(filters) > 1:
        told.append(f"filters {', '.join(filters)}; {filter_name or 'the first'} counts (--filter names another)")
    return rows, settings, told


def _metric(line: Mapping[str, Any], metric: str | None, where: str) -> str:
    """The field that says whether the item is right."""
    named = [str(name) for name in line["metrics"]] if isinstance(line.get("metrics"), list) else []
    for name in [metric] if metric else [*METRICS, *named]:
        value = line.get(name)
        if type(value) in (bool, int, float) and value in (0, 1):
            return str(name)
        if name == metric:
            raise UserError(f"{where}: {metric!r} is {shown(value)}, not 0 or 1")
    raise UserError(f"{where} has no metric of 0 or 1 (it has: {', '.join(named) or 'none'}); --metric names one")


def _row(line: Mapping[str, Any], task: str, field: str) -> Row:
    doc = line["doc"] if isinstance(line.get("doc"), dict) else {}
    question = next((doc[name] for name in QUESTION_FIELDS if isinstance(doc.get(name), str)), "")
    request = _requests(line)
    prompt = as_text(request[0].get("arg_0", "")) if request else ""
    hashes = [str(line.get(name, "")) for name in ("doc_hash", "prompt_hash", "target_hash")]
    return Row(
        task,
        prompt,
        hashes[1],
        "".join(hashes),
        _prediction(line, len(request)),
        as_text(line.get("target", "")),
        bool(line[field]),
        line,
        question.strip(),
    )


def _requests(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was asked, one per continuation: {"arg_0": prompt, "arg_1": continuation or settings}."""
    given = line["arguments"]
    values = list(given.values()) if isinstance(given, dict) else [dict(enumerate(one)) for one in given or []]
    return [{f"arg_{str(n).removeprefix('arg_')}": value for n, value in one.items()} for one in values]


def _prediction(line: Mapping[str, Any], choices: int) -> str:
    """The filtered reply, or the continuation of the largest log-likelihood."""
    found = line.get("filtered_resps") or line.get("resps") or [""]
    if choices > 1 and len(found) == choices:
        try:
            best = max(range(choices), key=lambda n: float(found[n][0]))
            return as_text(_requests(line)[best].get("arg_1", best)).strip()
        except (TypeError, ValueError, IndexError):
            pass
    first = found[0]
    while isinstance(first, list) and first:
        first = first[0]
    return as_text(first)


def _settings(line: Mapping[str, Any]) -> dict[str, Any]:
    """How replies were generated: until, do_sample ...; nothing for log-likelihoods."""
    request = _requests(line)
    given = request[0].get("arg_1") if request else None
    return {f"generation.{name}": value for name, value in given.items()} if isinstance(given, dict) else {}

"""A finished run, read back from its output folder: what every export is made of."""

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qwen_eval.reporting.finished import FinishedRun, read_run
from qwen_eval.reporting.samples import NO_LOGITS
from qwen_eval.stats import Z95

#: where the official data of a benchmark are on the hub: id and split
HUB_DATA = {
    "mmlu": ("cais/mmlu", "test"),
    "mmlu_pro": ("TIGER-Lab/MMLU-Pro", "test"),
    "hellaswag": ("Rowan/hellaswag", "validation"),
    "winogrande": ("allenai/winogrande", "validation"),
    "ceval": ("ceval/ceval-exam", "val"),
    "cmmlu": ("haonan-li/cmmlu", "test"),
    "gsm8k": ("openai/gsm8k", "test"),
    "math": ("EleutherAI/hendrycks_math", "test"),
    "humaneval": ("openai/openai_humaneval", "test"),
    "mbpp": ("google-research-datasets/mbpp", "test"),
    "bbh": ("lukaemon/bbh", "test"),
    "vcsum": ("THUDM/LongBench", "test"),
}
LOWER_IS_BETTER = ("ppl", "false_positive_rate")
#: metrics that are no percentages: name -> (unit, largest value)
UNITS = {
    "ppl": ("perplexity", math.inf),
    "tool_input_rouge_l": ("f1", 1.0),
    "bleu": ("points", 100.0),
    "chrf": ("points", 100.0),
}
PERCENT = ("percent", 100.0)


@dataclass(frozen=True)
class Figure:
    """One score of a run. metric: its name in the reported figures; robust: by the robust extraction."""

    name: str
    metric: str
    value: float
    n: int
    interval: tuple[float, float] | None
    robust: bool

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER_IS_BETTER

    @property
    def unit(self) -> tuple[str, float]:
        """The unit, and the largest value."""
        return UNITS.get(self.metric) or UNITS.get(self.metric.partition("_")[0], PERCENT)  # `chrf_en-zh`

    @property
    def divisor(self) -> float:
        """What makes a share from 0 to 1 of a percentage, and leaves other units as they are."""
        return 100.0 if self.unit == PERCENT else 1.0

    @property
    def share(self) -> float:
        """The value as tools have it that know shares only, such as lm-evaluation-harness and inspect."""
        return self.value / self.divisor

    @property
    def standard_error(self) -> float | None:
        """Of `share`, from the width of the 95 % interval; None without one."""
        if self.interval is None:
            return None
        return (self.interval[1] - self.interval[0]) / (2 * Z95) / self.divisor


class Finished(FinishedRun):
    """A finished run, with what the formats want to know of it."""

    @property
    def model_id(self) -> str:
        """`Qwen/Qwen-7B`: as it was given with -c; of a folder, which may hold anything, its plain name."""
        given = self.results.get("model_id")
        return str(given) if given else self.model

    @property
    def decoding(self) -> Mapping[str, Any]:
        """How replies were made; empty where nothing was generated."""
        return self.settings.get("decoding") or {}

    @property
    def finished_at(self) -> datetime:
        return datetime.fromisoformat(self.manifest["finished"])

    @property
    def version(self) -> str:
        return str(self.manifest["versions"].get("qwen-eval", "unknown"))

    @property
    def identity(self) -> uuid.UUID:
        """The same for the same results, in the form of a random UUID."""
        text = json.dumps([self.results["scores"], self.manifest], sort_keys=True, default=str)
        return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4)

    @property
    def figures(self) -> list[Figure]:
        """The scores that have a value, the headline first."""
        return [
            _figure(name, score) for name, score in self.results["scores"].items() if _is_number(score.get("value"))
        ]

    @property
    def whole(self) -> int | None:
        """How many items the data have, --limit and --sample or not; None where an earlier version did not say."""
        items = self.results.get("items")
        return int(items["whole"]) if items else None


def _figure(name: str, score: Mapping[str, Any]) -> Figure:
    row = score.get("row") or {}
    robust = name.endswith("_robust") or "_robust_" in name
    metric = str(row.get("metric") or name.removesuffix("_robust"))
    interval = score.get("ci95")
    ends = (float(interval[0]), float(interval[1])) if interval and all(map(_is_number, interval)) else None
    return Figure(name, metric, float(score["value"]), int(score["n"]), ends, robust)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def read_finished(folder: Path) -> Finished:
    """The run in this folder. UserError for one that is not finished, or no folder of a run."""
    return Finished(folder, read_run(folder).results)


def answer_of(record: Mapping[str, Any]) -> str:
    """What the model gave: its reply, or the logits of the choices as JSON."""
    if record.get("choice_logits", NO_LOGITS) != NO_LOGITS:
        return json.dumps(record["choice_logits"])
    return str(record.get("response", ""))


def extracted(record: Mapping[str, Any], robust: bool) -> str:
    """What an extraction found in the reply; of HumanEval the program, whose `prediction` is whether it passed."""
    return str(record["prediction_robust"] if robust else record.get("completion", record["prediction"]))


def key_of(record: Mapping[str, Any]) -> str:
    """The id of an item, with the number of the sample where there are several."""
    return f"{record['id']}#{record['sample']}" if record.get("sample") else str(record["id"])

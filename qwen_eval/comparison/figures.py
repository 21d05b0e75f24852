"""The figures of a benchmark that are compared, as sums over items: right or wrong, or what else an item has.

A figure is a function of sums over items, so that a test can exchange items and a bootstrap can draw them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen_eval.comparison.rows import Pair, Row
from qwen_eval.comparison.significance import Array, Statistic
from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need

import numpy as np

Value = Callable[[Row], "float | None"]  # None: the item has none


@dataclass(frozen=True)
class Figure:
    """metric: as in the reported figures; a, b: what each item adds, shape (items, columns); of_sums: the figure from
    such sums; marks: each item is right or wrong; lower_is_better; values: each item's own value, where it has one."""

    name: str
    metric: str
    pairs: Sequence[Pair]
    a: Array
    b: Array
    of_sums: Statistic
    marks: bool = False
    lower_is_better: bool = False
    values: Sequence[tuple[float, float]] = ()

    @property
    def goodness(self) -> Statistic:
        """The figure, or with its sign turned, so that larger is better."""
        return (lambda sums: -self.of_sums(sums)) if self.lower_is_better else self.of_sums


def figures(benchmark: str, pairs: Sequence[Pair]) -> list[Figure]:
    """The headline figures of a benchmark, by the protocol's extraction. Of an unknown benchmark: right or wrong.

    Raises UserError where the items have none in common, or lack a field, as those of another version may.
    """
    make = MAKERS.get(benchmark.partition(" (")[0], _marks)
    try:
        found = [figure for figure in make(pairs) if len(figure.pairs)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{benchmark}: samples.jsonl lacks {one_line(error)}, which its figures need") from error
    if not found:
        raise UserError(f"{benchmark}: A and B have no figure in common")
    return found


# -- right or wrong, and means -----------------------------------------------------------------------------------------


def _mean(
    name: str, pairs: Sequence[Pair], value: Value, scale: float = 100.0, metric: str = "acc", marks: bool = False
) -> Figure:
    """Mean of a value over those pairs that have it on both sides, times `scale`."""
    both = [(pair, value(pair.a), value(pair.b)) for pair in pairs]
    kept = [(pair, a, b) for pair, a, b in both if a is not None and b is not None]
    return Figure(
        name,
        metric,
        [pair for pair, _, _ in kept],
        _columns((a, 1.0) for _, a, _ in kept),
        _columns((b, 1.0) for _, _, b in kept),
        lambda sums: scale * sums[..., 0] / sums[..., 1],
        marks,
        values=[(a, b) for _, a, b in kept],
    )


def _columns(rows: Iterable[Sequence[float]]) -> Array:
    return np.array(list(rows), dtype=float)


def _correct(row: Row) -> float:
    return float(row.correct)


def _field(name: str) -> Value:
    return lambda row: float(row.record[name]) if name in row.record else None


def _marks(pairs: Sequence[Pair]) -> list[Figure]:
    return [_mean("acc", pairs, _correct, marks=True)]


def _code(pairs: Sequence[Pair]) -> list[Figure]:
    return [_mean("pass@1", pairs, _correct, metric="pass@1", marks=True)]


def _plugin(pairs: Sequence[Pair]) -> list[Figure]:
    positive = [pair for pair in pairs if pair.a.subject == "positive"]
    return [
        _mean("right choice of a tool, or of none", pairs, _correct, marks=True),
        _mean("tool_input_rouge_l", positive, _field("tool_input"), scale=1.0, metric="tool_input_rouge_l"),
    ]


def _agent(pairs: Sequence[Pair]) -> list[Figure]:
    return [_mean(name, pairs, _field(name), metric=name) for name in ("tool_selection", "tool_used", "code")]


def _interpreter(pairs: Sequence[Pair]) -> list[Figure]:
    with_gold = [pair for pair in pairs if pair.a.gold]
    return [
        _mean("executable", pairs, _field("executable"), marks=True),
        _mean("acc_math", with_gold, _correct, marks=True),
    ]


def _summaries(pairs: Sequence[Pair]) -> list[Figure]:
    return [_mean("rouge_l", pairs, lambda row: float(row.record["rouge_l"]["words"]), scale=1.0, metric="rouge_l")]


# -- perplexity, BLEU --------------------------------------------------------------------------------------------------


def _perplexity(pairs: Sequence[Pair]) -> list[Figure]:
    """One figure per way of running the model and length: over documents, by tokens."""
    cells: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        for length in pair.a.record["nll"].keys() & pair.b.record["nll"].keys():
            cells.setdefault((pair.a.subject, length), []).append(pair)
    return [
        Figure(
            f"{way}/seq_{length}",
            "ppl",
            group,
            _columns(_losses(pair.a, length) for pair in group),
            _columns(_losses(pair.b, length) for pair in group),
            lambda sums: np.exp(sums[..., 0] / sums[..., 1]),
            lower_is_better=True,
        )
        for (way, length), group in sorted(cells.items(), key=lambda cell: (cell[0][0], int(cell[0][1])))
    ]


def _losses(row: Row, length: str) -> tuple[float, float]:
    found: Mapping[str, Any] = row.record["nll"][length]
    return float(found["mean"]) * found["tokens"], float(found["tokens"])


TOKENIZER = {"zh": "zh"}  # of sacrebleu, by the target language


def _translations(pairs: Sequence[Pair]) -> list[Figure]:
    """Corpus BLEU of each direction, from the counts of its sentences."""
    need("translation")
    from sacrebleu.metrics import BLEU

    found = []
    for subject in dict.fromkeys(pair.a.subject for pair in pairs):
        group = [pair for pair in pairs if pair.a.subject == subject]
        metric = BLEU(tokenize=TOKENIZER.get(subject[-2:], "13a"))

        def counts(row: Row, metric: Any = metric) -> list[float]:
            one = metric.corpus_score([row.prediction], [[row.gold]])
            return [*one.counts, *one.totals, one.sys_len, one.ref_len]

        def bleu(sums: Array) -> Array:
            whole = np.atleast_2d(np.rint(sums)).astype(int)
            scores = [
                BLEU.compute_bleu(row[:4], row[4:8], row[8], row[9], smooth_method="exp").score
                for row in whole.tolist()
            ]
            return np.array(scores) if sums.ndim > 1 else np.float64(scores[0])

        a, b = (_columns(counts(row) for row in side) for side in zip(*[(one.a, one.b) for one in group], strict=True))
        found.append(Figure(f"bleu_{subject}", "bleu", group, a, b, bleu))
    return found


MAKERS: dict[str, Callable[[Sequence[Pair]], list[Figure]]] = {
    "bbh": _marks,
    "humaneval": _code,
    "mbpp": _code,
    "plugin": _plugin,
    "hf_agent_run": _agent,
    "hf_agent_chat": _agent,
    "code_interpreter": _interpreter,
    "vcsum": _summaries,
    "ppl": _perplexity,
    "wmt22": _translations,
}

"""Long-context perplexity: dynamic NTK, LogN and window attention, switched on one after the other.

    python eval/evaluate_ppl.py -c Qwen/Qwen-7B -d papers/                                # a folder of text files
    python eval/evaluate_ppl.py -c Qwen/Qwen-7B -d books.jsonl --lengths 8192,16384,32768
    python eval/evaluate_ppl.py -c Qwen/Qwen-7B -d owner/name:config:test#text --configs none,ntk+logn
    python eval/evaluate_ppl.py -c Qwen/Qwen-7B-Chat -d papers/ --needle                  # see needle.py

The table of the cards: for each length L the exponential of the mean negative log-likelihood of the first L tokens of
each document, one window a document, log-likelihoods in fp32. With --stride N windows of L tokens move on by N over the
whole document instead, and each token counts once. Neither the documents (arXiv text) nor the windows behind the
reported figures are published, so a verdict compares different texts.

First-generation Qwen runs all configurations in one loaded model, whatever its config.json says (--configs names them:
`none`, or any of `ntk`, `logn`, `window` joined by +). A window's NTK factor is that of its whole length (quirk Q2 of
docs/quirks.md), so lengths share a pass over a document where their factors are equal in every layer: all of them
without NTK. Window sizes are unpublished too: --window-attn gives others than the maintainers' example (2048 tokens in
the first four layers, twice that in the next four, and so on; from the training length where that is shorter).
`correct` in samples.jsonl means that the perplexity is below the size of the vocabulary: better than no model at all.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmark import Evaluation, Item, Record, Results, ScoreTokens, Setting
from qwen_eval.benchmarks.long_context.configurations import configurations, passes, remarks, widest
from qwen_eval.benchmarks.long_context.documents import Chosen, Tokens, choose_documents, default_lengths
from qwen_eval.benchmarks.long_context.flags import LongContextBenchmark
from qwen_eval.engines.base import ScoreRequest
from qwen_eval.errors import UserError, run_script
from qwen_eval.reporting import plots
from qwen_eval.reporting.tables import Grid, Line, shown, signed
from qwen_eval.runner import parse_flags, run
from qwen_eval.stats import Score, bootstrap

import numpy as np

ARXIV = "arxiv_ppl"  # the benchmark's name in the reported figures

# --- score ---


class Pass(NamedTuple):
    """One reading of a document: `lengths` (ascending) that it serves."""

    document: Tokens
    lengths: list[int]


def windows_of(length: int, total: int, stride: int | None) -> Iterator[tuple[int, int]]:
    """(start, first): each window's place in a document of `total` tokens, and the first token in it that counts."""
    start, done = 0, 1
    while done < total:
        start = min(start, total - length)  # the last window ends with the document, and is as long as the others
        yield start, done - start
        done = start + length if stride else total
        start += stride or 0


def windows(work: Pass, switches: Any, stride: int | None) -> list[ScoreRequest]:
    """What the model reads in a pass."""
    tokens, longest = work.document.tokens, work.lengths[-1]
    total = len(tokens) if stride else longest
    places = windows_of(longest, total, stride)
    return [ScoreRequest(tokens[start : start + longest], switches, first) for start, first in places]


def by_length(work: Pass, found: Sequence[np.ndarray], stride: int | None) -> dict[int, np.ndarray]:
    """Negative log-likelihoods (float64, nats) of the tokens that count, for each length of a pass. found: those of its
    windows."""
    values = -np.concatenate(found).astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(
            f"{work.document.name}: the model's log-likelihoods are not finite numbers; try --dtype float32 or bfloat16"
        )
    return {length: values if stride else values[: length - 1] for length in work.lengths}


def perplexity(parts: Sequence[tuple[float, int]]) -> float:
    """exp of the mean over all tokens. parts: each document's mean negative log-likelihood and number of tokens."""
    mean = sum(nll * count for nll, count in parts) / sum(count for _, count in parts)
    return math.exp(min(mean, 700.0))  # beyond it there is no float, and no meaning


def scores(records: Sequence[Mapping[str, Any]], names: Sequence[str], lengths: Sequence[int]) -> dict[str, Score]:
    """`none/seq_1024` -> perplexity with a bootstrap interval over documents (none where there is a single one).

    Laid beside the row of the reported figures with benchmark `arxiv_ppl`, metric `ppl`, split `seq_1024` and, in the
    column variant, the configuration (`none`, `dynamic_ntk`, `dynamic_ntk + logn`, `dynamic_ntk + logn + window_attn`).
    """
    found = {}
    for name in names:
        for length in lengths:
            rows = [r["nll"][str(length)] for r in records if r["subject"] == name and str(length) in r["nll"]]
            parts = [(row["mean"], row["tokens"]) for row in rows]
            interval = bootstrap(parts, perplexity) if len(parts) > 1 else None
            found[f"{name}/seq_{length}"] = Score(
                perplexity(parts) if parts else None,  # with --ragged no document may be that long
                len(parts),
                interval,
                "ppl",
                ARXIV,
                split=f"seq_{length}",
                setting=name,
                digits=2,
            )
    return found


# --- report ---


def card(lines: Sequence[Line], names: Mapping[str, str], lengths: Sequence[int]) -> Grid:
    """The layout of the cards: a row a configuration, a column a length; below each the reported row and verdicts.

    Differences are in the figure's own unit.
    """
    by_name = {line.name: line for line in lines}
    rows: list[list[str]] = []
    for name, label in names.items():
        row = [by_name[f"{name}/seq_{length}"] for length in lengths]
        rows.append([label, *("-" if line.score.value is None else shown(line.score.value) for line in row)])
        if figures := [line.reported for line in row if line.reported]:
            version = f" ({figures[0].version})" if figures[0].version else ""
            told = [f"{line.reported.value:.{line.reported.decimals}f}" if line.reported else "" for line in row]
            rows.append([f"  reported{version}", *told])
            differences = ["" if line.verdict is None else signed(line.verdict.difference) for line in row]
            smallest = [line.verdict and line.verdict.smallest_difference for line in row]
            rows.append(["  difference", *differences])
            rows.append(["  smallest difference", *("" if width is None else shown(width) for width in smallest)])
            rows.append(["  verdict", *(line.word for line in row)])
    counts = [max(line.score.n for line in lines if line.name.endswith(f"/seq_{length}")) for length in lengths]
    if len(set(counts)) > 1:
        rows.append(["documents", *map(str, counts)])
    return Grid("perplexity by length in tokens", ["", *map(str, lengths)], rows)


def draw(names: Mapping[str, str], model: str, mark: int | None, lines: Sequence[Line], folder: Path) -> None:
    """plot.png and plot.svg: perplexity against length, a line a configuration, reported figures as hollow markers."""
    series: dict[str, dict[int, float]] = {label: {} for label in names.values()}
    reported: dict[str, dict[int, float]] = {}
    words: dict[str, Counter[str]] = {}
    for line in lines:
        name, _, length = line.name.rpartition("/seq_")
        if line.score.value is not None:
            series[names[name]][int(length)] = line.score.value
        if line.reported:
            reported.setdefault(names[name], {})[int(length)] = line.reported.value
            words.setdefault(names[name], Counter())[line.word] += 1
    title = f"Perplexity against length - {model}"
    told = {
        label: "reported: " + ", ".join(f"{n} {word}" for word, n in found.items()) for label, found in words.items()
    }
    plots.lines(folder / "plot", series, title, "length in tokens", "perplexity", reported, mark, told)


def described(work: Pass, stride: int | None) -> str:
    """What stands for the prompt in samples.jsonl: which tokens of which document; the text may be megabytes."""
    total, longest = len(work.document.tokens), work.lengths[-1]
    if not stride:
        return f"tokens 0 to {longest} of {work.document.name}"
    return f"tokens 0 to {total} of {work.document.name}, {longest} at a time, {stride} apart"


def items_of(
    documents: Sequence[Tokens], ways: Mapping[str, Any], lengths: Sequence[int], config: Any, stride: int | None
) -> list[Item]:
    """One item a configuration, document and pass: `dynamic_ntk/paper.tex/4096`."""
    found = []
    for way, switches in ways.items():
        groups = passes(lengths, switches, config, stride)
        for document in documents:
            for group in groups:
                if reached := [length for length in group if length <= len(document.tokens)]:
                    work = Pass(document, reached)
                    found.append(Item(f"{way}/{document.name}/{reached[-1]}", way, row=work))
    return found


class Plan(NamedTuple):
    """What the flags and the checkpoint make of a run. ways: the switches of each configuration; least: tokens that a
    document needs."""

    config: Any
    lengths: list[int]
    ways: Mapping[str, Any]
    least: int
    chosen: Chosen


class Perplexity(LongContextBenchmark):
    name = "ppl"

    def __init__(self) -> None:
        self._plan: Plan | None = None

    def settle_flags(self, flags: argparse.Namespace) -> None:
        super().settle_flags(flags)
        # The engine loads the checkpoint as it is: each request carries its switches.
        flags.windows, flags.window_attn = flags.window_attn, None

    def plan(self, setting: Setting) -> Plan:
        """Made once, since the documents are tokenized for it."""
        if self._plan is None:
            self._plan = self._make_plan(setting)
        return self._plan

    def _make_plan(self, setting: Setting) -> Plan:
        from qwen_eval.engines.local import memory, score
        from qwen_model.loading import load_config

        flags, stride = setting.flags, setting.flags.stride
        assert setting.checkpoint is not None  # the local engine has one
        config = load_config(setting.checkpoint)
        lengths = flags.lengths or default_lengths(getattr(config, "seq_length", None))
        if stride and stride >= lengths[0]:
            shorter = f"not shorter than the window of {lengths[0]}"
            raise UserError(f"--stride {stride} is {shorter}: tokens would have nothing before them")
        ways = configurations(flags, config, flags.windows)
        memory.check(setting.checkpoint, flags, lengths, widest(ways), whole=not score.allows_chunks(config))
        least = lengths[0] if flags.ragged else lengths[-1]
        source = setting.checkpoint, setting.data_path
        return Plan(
            config, lengths, ways, least, choose_documents(*source, least, flags.limit, flags.sample, flags.seed)
        )

    def load(self, setting: Setting) -> Iterable[Item]:
        plan = self.plan(setting)
        return items_of(plan.chosen.long_enough, plan.ways, plan.lengths, plan.config, setting.flags.stride)

    def choose_items(self, items: Sequence[Item], setting: Setting) -> list[Item]:
        """--limit and --sample count documents."""
        drawn = {document.name for document in self.plan(setting).chosen.drawn}
        return [item for item in items if item.row.document.name in drawn]

    def decoding(self, setting: Setting) -> None:
        return None

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        plan = self.plan(setting)
        configs = {name: way and way._asdict() for name, way in plan.ways.items()}
        return {"lengths": plan.lengths, "stride": setting.flags.stride, "configs": configs}

    def departures(self, setting: Setting) -> list[str]:
        given = ("--window-attn", setting.flags.windows), ("--stride", setting.flags.stride)
        return [flag for flag, value in given if value]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        work, stride, plan = item.row, setting.flags.stride, self.plan(setting)
        asked = windows(work, plan.ways[item.subject], stride)
        found = yield ScoreTokens(asked, described(work, stride), work.document.text)
        nll = by_length(work, found, stride)
        means = {str(length): {"mean": float(part.mean()), "tokens": len(part)} for length, part in nll.items()}
        vocabulary = plan.config.get_text_config().vocab_size
        return {
            "nll": means,
            "prediction": perplexity([(means[str(work.lengths[-1])]["mean"], 1)]),
            "correct": max(part["mean"] for part in means.values()) < math.log(vocabulary),
        }

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        plan, stride = self.plan(setting), setting.flags.stride
        chosen, lengths = plan.chosen, plan.lengths
        names = {name: setting.model if name == "none" else f"+ {name}" for name in plan.ways}
        layout = f"windows of each length, {stride} apart" if stride else "one window of each length in each"
        notes = [f"{len(chosen.drawn)} documents, {layout}", *chosen.notes(plan.least)]
        return Results(
            scores(records, list(plan.ways), lengths),
            notes=[*notes, *remarks(plan.ways, plan.config)],
            extra={"documents": {"read": [document.name for document in chosen.drawn], "too_short": chosen.short}},
            grid=lambda lines: card(lines, names, lengths),
            remarks=partial(other_documents, setting.own_samples),
            plots=partial(draw, names, setting.model, getattr(plan.config, "seq_length", None)),
        )


def other_documents(own_samples: bool, lines: Sequence[Line]) -> list[str]:
    """The note that the reported figures are of other texts."""
    if own_samples or not any(line.reported for line in lines):
        return []
    unpublished = "the documents behind the reported figures are not published"
    return [f"{unpublished}: other texts, other figures, so never `reproduced`"]


def main() -> int:
    flags = parse_flags(Perplexity(), __doc__)
    if not flags.needle:
        return run(Perplexity(), flags)
    from qwen_eval.benchmarks.long_context.needle import Needle

    return run(Needle(), flags)


if __name__ == "__main__":
    run_script(main)

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import qwen_eval.benchmarks.long_context.needle as needle
from qwen_eval.benchmarks.long_context.configurations import (
    CARDS,
    configurations,
    parse_configs,
    passes,
    remarks,
    widest,
)
from qwen_eval.benchmarks.long_context.documents import Tokens, choose_documents, default_lengths, parse_lengths
from qwen_eval.cli import parser, positive
from qwen_eval.data.items import Item
from qwen_eval.engines.base import ScoreRequest
from qwen_eval.errors import UserError, run_script
from qwen_eval.extras import need
from qwen_eval.progress import progress
from qwen_eval.reporting import plots
from qwen_eval.reporting.tables import Grid, Line, shown, signed
from qwen_eval.run import Run
from qwen_eval.stats import Score, bootstrap

import numpy as np

DEPTHS = list(range(0, 101, 10))
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


def read(
    engine: Any, work: Pass, switches: Any, stride: int | None, progress: Callable[[int], Any]
) -> dict[int, np.ndarray]:
    """Negative log-likelihoods (float64, nats) of the tokens that count, for each length of a pass."""
    tokens, longest = work.document.tokens, work.lengths[-1]
    total = len(tokens) if stride else longest
    requests = [
        ScoreRequest(tokens[start : start + longest], switches, first)
        for start, first in windows_of(longest, total, stride)
    ]
    found = -np.concatenate([values for _, values in engine.score(requests, progress)]).astype(np.float64)
    if not np.isfinite(found).all():
        raise UserError(
            f"{work.document.name}: the model's log-likelihoods are not finite numbers; try --dtype float32 or bfloat16"
        )
    return {length: found if stride else found[: length - 1] for length in work.lengths}


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


def draw(lines: Sequence[Line], names: Mapping[str, str], run: Run, mark: int | None) -> None:
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
    title = f"Perplexity against length - {run.model}"
    told = {
        label: "reported: " + ", ".join(f"{n} {word}" for word, n in found.items()) for label, found in words.items()
    }
    plots.lines(run.folder / "plot", series, title, "length in tokens", "perplexity", reported, mark, told)


def flags() -> argparse.ArgumentParser:
    def lengths(text: str) -> list[int]:
        try:
            return parse_lengths(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    found = parser(__doc__)
    add = found.add_argument
    add("--lengths", type=lengths, metavar="L,...", help="tokens (default: 1024 to 32768; a small demo: 1x to 16x)")
    add("--configs", type=parse_configs, metavar="A,...", help=f"long-context configurations (default: {CARDS})")
    add("--stride", type=positive, metavar="N", help="windows that move on by N tokens over the whole document")
    add("--ragged", action="store_true", help="use shorter documents too, for the lengths that they reach")
    add("--needle", action="store_true", help="a sentence hidden in the documents, asked for in a chat turn")
    add(
        "--depths",
        type=needle.parse_depths,
        metavar="D,...",
        default=DEPTHS,
        help="--needle: percent (default: by tens)",
    )
    add("--needles", type=positive, metavar="N", default=1, help="--needle: questions a cell (default: 1)")
    return found


def read_all(run: Run, ways: Mapping[str, Any], stride: int | None, vocabulary: int) -> None:
    """Read whatever is not finished, and save a line for each document, configuration and pass."""
    size = {item.key: token_count(item.row, stride) for item in run.items}
    todo = run.unfinished()
    left = sum(size[item.key] for item in todo)
    total = sum(size.values())
    with progress("ppl", total - left, total, unit="token", scale=True) as bar:
        for item in todo:
            found = read(run.engine, item.row, ways[item.subject], stride, bar.update)
            means = {str(length): {"mean": float(nll.mean()), "tokens": len(nll)} for length, nll in found.items()}
            run.save(
                item,
                prompt=described(item.row, stride),
                nll=means,
                prediction=perplexity([(means[str(item.row.lengths[-1])]["mean"], 1)]),
                correct=max(part["mean"] for part in means.values()) < math.log(vocabulary),
            )


def described(work: Pass, stride: int | None) -> str:
    """What stands for the prompt in samples.jsonl: which tokens of which document; the text may be megabytes."""
    total, longest = len(work.document.tokens), work.lengths[-1]
    if not stride:
        return f"tokens 0 to {longest} of {work.document.name}"
    return f"tokens 0 to {total} of {work.document.name}, {longest} at a time, {stride} apart"


def token_count(work: Pass, stride: int | None) -> int:
    """Tokens that go through the model in a pass."""
    longest = work.lengths[-1]
    return sum(longest - 1 for _ in windows_of(longest, len(work.document.tokens) if stride else longest, stride))


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
                    found.append(Item(f"{way}/{document.name}/{reached[-1]}", way, document.text, row=work))
    return found


def main() -> int:
    args = flags().parse_args()
    need("plots")
    for name in ("rescore", "subjects", "max_seq_len"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} has no use here (--lengths and --configs choose what is run)")
    if args.engine != "local":
        raise UserError(
            f"--engine {args.engine} gives neither tokens nor their log-likelihoods; this needs the model itself"
        )
    if args.needle:
        return needle.main(args)
    run = Run(args, "ppl")
    assert run.checkpoint is not None
    from qwen_eval.engines.local import memory, score
    from qwen_model.loading import load_config

    config = load_config(run.checkpoint)
    trained = getattr(config, "seq_length", None)
    lengths, stride = args.lengths or default_lengths(trained), args.stride
    if stride and stride >= lengths[0]:
        raise UserError(
            f"--stride {stride} is not shorter than the window of {lengths[0]}: tokens would have nothing before them"
        )
    ways = configurations(args, config)
    memory.check(run.checkpoint, args, lengths, widest(ways), whole=not score.in_pieces(config))

    least = lengths[0] if args.ragged else lengths[-1]
    chosen = choose_documents(run.checkpoint, run.data_path, least, args.limit, args.sample, args.seed)
    run.departures += [flag for flag, given in (("--window-attn", args.window_attn), ("--stride", stride)) if given]
    args.window_attn = None  # the engine loads the checkpoint as it is; each request carries its switches
    run.start(
        items_of(chosen.long_enough, ways, lengths, config, stride),
        {"lengths": lengths, "stride": stride, "configs": {name: way and way._asdict() for name, way in ways.items()}},
        chosen=items_of(chosen.drawn, ways, lengths, config, stride),
    )
    read_all(run, ways, stride, config.get_text_config().vocab_size)

    names = {name: run.model if name == "none" else f"+ {name}" for name in ways}
    windows = f"windows of each length, {stride} apart" if stride else "one window of each length in each"
    notes = [f"{len(chosen.drawn)} documents, {windows}", *chosen.notes(least), *remarks(ways, config)]

    def table(lines: Sequence[Line]) -> Grid:
        draw(lines, names, run, trained)
        if any(line.reported for line in lines) and not run.demo:
            notes.append(
                "the documents behind the reported figures are not published: other texts, other figures, "
                "so never `reproduced`"
            )
        return card(lines, names, lengths)

    extra = {"documents": {"read": [document.name for document in chosen.drawn], "too_short": chosen.short}}
    return run.report(scores(run.records, list(ways), lengths), notes=notes, extra=extra, grid=table)


if __name__ == "__main__":
    run_script(main)

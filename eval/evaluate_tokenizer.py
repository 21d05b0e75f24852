"""How few tokens a tokenizer needs, per language, beside XLM-R's: the cards' figure of compression.

    python eval/evaluate_tokenizer.py -c Qwen/Qwen-7B                          # mC4 of the hub, XLM-R = 1
    python eval/evaluate_tokenizer.py -c Qwen/Qwen-7B -d texts                 # texts/en.txt, texts/zh.jsonl ...
    python eval/evaluate_tokenizer.py -c FOLDER --against FacebookAI/xlm-roberta-base --against huggyllama/llama-7b
    python eval/evaluate_tokenizer.py -c demo                                  # its own texts, beside UTF-8 bytes

A folder with the tokenizer alone is enough (`qwen.tiktoken`), and of a hub id only the tokenizer is fetched. The first
--against is the base, 1; further ones stand beside. `--against bytes` counts a token for each byte of UTF-8.

The cards say: one million documents of each language at random, the compression rates of several tokenizers, XLM-R as
the base value 1 (QwenLM/Qwen, README and technical memo). Neither the texts nor the formula are published. Ours: the
texts; compression = tokens of the base / tokens of this tokenizer, so above 1 it needs fewer tokens than the base.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmarks.compression import texts
from qwen_eval.benchmarks.compression.measure import Count, Size, measure, ratio_interval
from qwen_eval.benchmarks.compression.tokenizers import BYTES, Tokenizer
from qwen_eval.checkpoints import DEMO_FOLDERS, use_hub
from qwen_eval.cli import OneLineParser, add_hub, positive
from qwen_eval.data.sources import file_sha256
from qwen_eval.errors import UserError, run_script
from qwen_eval.extras import need
from qwen_eval.progress import progress
from qwen_eval.reporting import manifest, plots
from qwen_eval.reporting.journal import make_folder
from qwen_eval.reporting.tables import Grid, grid_csv, markdown, write_atomically
from qwen_eval.reporting.terminal import show
from qwen_eval.stats import Interval

XLM_R = "FacebookAI/xlm-roberta-base"
ALL = "all"  # the row of all languages together


def parse() -> argparse.Namespace:
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("-c", "--checkpoint-path", required=True, metavar="CHECKPOINT", help="hub id, folder, `demo` or `demo-chat`")
    add("-d", "--eval-data-path", metavar="DATA", help="a folder with a file per language (default: mC4 of the hub)")
    add(
        "--against",
        action="append",
        metavar="TOKENIZER",
        help=f"hub id, folder or `bytes`; the first is the base, 1 (default: {XLM_R}; for the demo `bytes`)",
    )
    add("--languages", type=names, default=(), metavar="A,B", help="only these languages")
    add("--limit", type=positive, metavar="N", help="the first N documents of each language")
    add("-o", "--output-dir", type=Path, metavar="DIR", help="default: results/{model}/tokenizer")
    add_hub(flags)
    add("--debug", action="store_true", help="show tracebacks")
    return flags.parse_args()


def names(text: str) -> tuple[str, ...]:
    """Some languages, as `en,zh`."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise argparse.ArgumentTypeError("names no language")
    return found


class Measured(NamedTuple):
    """sizes: language -> its texts; counts: language -> a count per tokenizer, the first of them that of -c, the second
    that of the base."""

    tokenizers: Sequence[Tokenizer]
    sizes: Mapping[str, Size]
    counts: Mapping[str, Sequence[Count]]

    @property
    def base(self) -> Tokenizer:
        return self.tokenizers[1]

    def interval(self, language: str, place: int) -> Interval | None:
        """95 % interval of the compression; None for all languages together, which are no sample of anything."""
        counts = self.counts[language]
        return None if language == ALL or place == 1 else ratio_interval(counts[1].tokens, counts[place].tokens)

    def compression(self, language: str, place: int) -> float:
        """Tokens of the base over those of the tokenizer at this place."""
        counts = self.counts[language]
        return counts[1].total / counts[place].total


# -- measuring ---------------------------------------------------------------------------------------------------------


def main() -> int:
    flags, started = parse(), time.time()
    need("plots")
    use_hub(flags.hub)
    demo = flags.checkpoint_path in DEMO_FOLDERS
    tokenizers = load(flags.checkpoint_path, flags.against or [BYTES if demo else XLM_R])
    if demo and flags.eval_data_path is None:
        files = texts.demo_files(flags.languages)
    else:
        files = texts.language_files(flags.eval_data_path, flags.languages)
    found = measure_all(files, tokenizers, flags.limit)
    told = notes(found)
    folder = flags.output_dir or Path("results") / tokenizers[0].name / "tokenizer"
    about = {"data": data(files), "limit": flags.limit, "seconds": round(time.time() - started, 1)}
    grids = write(folder, found, told, about)
    show(title(found), grids, [*told, f"written to {folder}"])
    return 0


def load(checkpoint: str, against: Sequence[str]) -> list[Tokenizer]:
    """The tokenizer of -c, then those of --against. UserError for two that are the same."""
    found = [Tokenizer(checkpoint, "-c")]
    for given in against:
        other = Tokenizer(given, "--against")
        for known in found:
            if other.same_as(known):
                raise UserError(f"--against {given} is the same tokenizer as {known.name}; name another one")
            if other.name == known.name:
                raise UserError(f"--against {given} is called {known.name}, as another one is; rename its folder")
        found.append(other)
    return found


def measure_all(files: Mapping[str, Sequence[Path]], tokenizers: Sequence[Tokenizer], limit: int | None) -> Measured:
    sizes, counts = {}, {}
    documents = texts.counted(files, limit)
    with progress("tokenizer", 0, sum(documents.values()), "document", scale=True) as bar:
        for language, paths in files.items():
            bar.set_postfix_str(language)
            sizes[language], counts[language] = measure(texts.documents(paths, limit), tokenizers, bar.update)
    if len(files) > 1:
        sizes[ALL] = Size(*(sum(getattr(size, name) for size in sizes.values()) for name in vars(Size())))
        counts[ALL] = [sum(column, Count()) for column in zip(*counts.values(), strict=True)]
    return Measured(tokenizers, sizes, counts)


# -- what is written ---------------------------------------------------------------------------------------------------


def title(found: Measured) -> str:
    return f"tokenizer of {found.tokenizers[0].name}: compression, {found.base.name} = 1"


def notes(found: Measured) -> list[str]:
    """What a reader of the figures should know."""
    told = [
        f"compression: tokens of {found.base.name} / tokens of the tokenizer; above 1 it needs fewer tokens. The "
        "formula and the texts are ours: the cards publish neither"
    ]
    whole = found.counts[ALL] if ALL in found.counts else next(iter(found.counts.values()))
    documents = len(whole[0].tokens)
    for tokenizer, count in zip(found.tokenizers, whole, strict=True):
        if count.unknown:
            told.append(
                f"{tokenizer.name}: {count.unknown:,} unknown tokens: what they stand for is lost and costs little"
            )
        if lost := documents - count.exact:
            told.append(f"{tokenizer.name}: {lost:,} of {documents:,} documents are not the same when decoded")
    return told


def compression_grid(found: Measured) -> Grid:
    """A row per language, and how every tokenizer but the base does there."""
    places = [place for place in range(len(found.tokenizers)) if place != 1]
    head = ["language", "documents", "bytes"]
    for place in places:
        head += [found.tokenizers[place].name, "95 % interval"]
    rows = []
    for language, size in found.sizes.items():
        row = [language, f"{size.documents:,}", f"{size.utf8_bytes:,}"]
        for place in places:
            row += [f"{found.compression(language, place):.3f}", interval_cell(found.interval(language, place))]
        rows.append(row)
    return Grid("compression", head, rows)


def interval_cell(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


CSV_HEAD = (
    "language", "tokenizer", "documents", "characters", "bytes", "tokens", "tokens_per_byte", "tokens_per_character",
    "bytes_per_token", "compression", "ci95_low", "ci95_high", "unknown_tokens", "exact_documents",
)  # fmt: skip


def figures(found: Measured) -> list[dict[str, Any]]:
    """A row per language and tokenizer, unrounded."""
    rows = []
    for language, counts in found.counts.items():
        size = found.sizes[language]
        for place, (tokenizer, count) in enumerate(zip(found.tokenizers, counts, strict=True)):
            values = (
                language, tokenizer.name, size.documents, size.characters, size.utf8_bytes, count.total,
                count.total / size.utf8_bytes, count.total / size.characters, size.utf8_bytes / count.total,
                found.compression(language, place), *(found.interval(language, place) or (None, None)),
                count.unknown, count.exact,
            )  # fmt: skip
            rows.append(dict(zip(CSV_HEAD, values, strict=True)))
    return rows


DETAIL_HEAD = ("language", "tokens", "per byte", "per character", "bytes per token", "unknown", "exact when decoded")


def detail_grid(rows: Sequence[Mapping[str, Any]], name: str) -> Grid:
    """One tokenizer."""
    cells = [
        (
            str(row["language"]), f"{row['tokens']:,}", f"{row['tokens_per_byte']:.3f}",
            f"{row['tokens_per_character']:.3f}", f"{row['bytes_per_token']:.2f}", f"{row['unknown_tokens']:,}",
            f"{row['exact_documents']:,} of {row['documents']:,}",
        )
        for row in rows
        if row["tokenizer"] == name
    ]  # fmt: skip
    return Grid(name, DETAIL_HEAD, cells)


def data(files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """language -> its files by name, with their sha256."""
    return {language: {path.name: file_sha256(path) for path in paths} for language, paths in files.items()}


def write(folder: Path, found: Measured, told: Sequence[str], about: Mapping[str, Any]) -> list[Grid]:
    """table.md, .csv and .json, plot.png and .svg; returns the tables that stand on the screen."""
    make_folder(folder)
    rows = figures(found)
    grids = [compression_grid(found), *(detail_grid(rows, one.name) for one in found.tokenizers)]
    write_atomically(folder / "table.md", markdown(title(found), grids, told))
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    write_atomically(folder / "table.csv", grid_csv(Grid("", CSV_HEAD, cells)))
    written = {
        "model": found.tokenizers[0].name,
        "base": found.base.name,
        "figures": rows,
        "notes": list(told),
        "manifest": {
            **manifest.environment(),
            "tokenizers_sha256": {one.name: one.sha256 for one in found.tokenizers},
            "finished": manifest.now(),
            **about,
        },
    }
    write_atomically(folder / "table.json", json.dumps(written, ensure_ascii=False, indent=2) + "\n")
    draw(folder, found)
    return grids


def draw(folder: Path, found: Measured) -> None:
    """A group of bars per language, in the order of the files; the base is the line at 1."""
    languages = [language for language in found.counts if language != ALL]
    series = {
        one.name: {language: found.compression(language, place) for language in languages}
        for place, one in enumerate(found.tokenizers)
        if place != 1
    }
    plots.bars(
        folder / "plot", series, "compression by language", f"tokens of {found.base.name} / tokens", found.base.name
    )


if __name__ == "__main__":
    run_script(main)

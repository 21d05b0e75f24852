"""Speed and memory of decoding, as in the cards' tables, beside the device's own limit and the cards' A100 figures.

    python eval/evaluate_speed.py -c Qwen/Qwen-7B-Chat Qwen/Qwen-7B-Chat-Int8 Qwen/Qwen-7B-Chat-Int4
    python eval/evaluate_speed.py -c Qwen/Qwen-7B-Chat --ways engine,sdpa,eager,flash_attention_2
    python eval/evaluate_speed.py -c demo-chat --lengths 64,128 --encode 256

Batch 1, greedy, no end token: 2,048 and 8,192 new tokens behind a context of one (tokens/s), the peak of memory while
2,048 tokens are read and one is generated, and while 8,192 are generated. `--ways`: `engine` is this harness's own
decoding, another name an attention kernel of transformers, one token at a time, as the cards were measured. Each
contender is a process; they take turns, a warm-up is not counted, and tables hold the median of --repeats turns.

limit: a decoded token must read every weight and the keys and values before it (qwen_eval/benchmarks/speed/limits.py),
at the bandwidth of a large copy that is measured in the same process. The cards' figures are of an A100-80G.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmarks.speed.contender import Contender, load
from qwen_eval.benchmarks.speed.process import Process
from qwen_eval.checkpoints import resolve_checkpoint, use_hub
from qwen_eval.cli import DTYPES, GPTQ_BACKENDS, OneLineParser, add_hub, positive
from qwen_eval.engines.local.placement import check_attention, check_gptq_backend
from qwen_eval.errors import UserError, run_script
from qwen_eval.progress import progress
from qwen_eval.reporting import manifest
from qwen_eval.reporting.journal import make_folder
from qwen_eval.reporting.reported import card_figures, parse_model_name
from qwen_eval.reporting.tables import Grid, grid_csv, markdown, write_atomically
from qwen_eval.reporting.terminal import show

WAYS = ("engine", "sdpa", "eager", "flash_attention_2")
ENOUGH = 5  # turns that a median needs


def parse() -> argparse.Namespace:
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("-c", "--checkpoint-path", required=True, nargs="+", metavar="CHECKPOINT", help="hub ids, folders, `demo` ...")
    add(
        "--ways",
        type=ways,
        default=("engine", "sdpa"),
        metavar="A,B",
        help=f"of {', '.join(WAYS)} (default: engine,sdpa)",
    )
    add("--lengths", type=lengths, default=(2048, 8192), metavar="N,M", help="new tokens (default: 2048,8192)")
    add("--encode", type=positive, default=2048, metavar="N", help="tokens of the prompt that is read (default: 2048)")
    add("--repeats", type=positive, default=ENOUGH, metavar="N", help=f"turns (default: {ENOUGH})")
    add("--dtype", choices=DTYPES, default="auto", help="default: from the checkpoint; float32 on a CPU")
    add("--gptq-backend", choices=GPTQ_BACKENDS, help="of Int4 and Int8 (default: torch where it can, else reference)")
    add("--device", help="cuda, cuda:1, cpu ... (default: cuda if there is one)")
    add("--threads", type=positive, metavar="N", help="of a CPU")
    add("-o", "--output-dir", type=Path, metavar="DIR", help="default: results/{first model}/speed")
    add_hub(flags)
    add("--debug", action="store_true", help="show tracebacks")
    return flags.parse_args()


def ways(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in found if name not in WAYS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(WAYS)}")
    return found


def lengths(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive(part.strip()) for part in text.split(",")))


class Result(NamedTuple):
    """One contender: what it is (`measure.About`), seconds of each turn by what was done, its peak memory by that."""

    contender: Contender
    about: Any
    seconds: dict[str, list[float]]
    peaks: dict[str, int]

    def rate(self, what: str, tokens: int) -> float:
        """Tokens per second, the median over the turns."""
        return tokens / statistics.median(self.seconds[what])

    def slow(self, what: str, tokens: int) -> float:
        """Tokens per second of the turn that 95 % of the turns were at least as fast as."""
        ordered = sorted(self.seconds[what])
        return tokens / ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


# -- measuring ---------------------------------------------------------------------------------------------------------


def main() -> int:
    flags, started = parse(), time.time()
    use_hub(flags.hub)
    named = contenders(flags)
    results = measure(named, flags.lengths, flags.encode, flags.repeats)
    told = notes(results, flags)
    folder = flags.output_dir or Path("results") / parse_model_name(flags.checkpoint_path[0]).model / "speed"
    grids = [speed_grid(results, flags.lengths), memory_grid(results, flags.lengths, flags.encode)]
    title = f"speed and memory on {results[0].about.device}"
    make_folder(folder)
    about = {"seconds": round(time.time() - started, 1), "manifest": manifest.environment()}
    content = {**about, "notes": told, "contenders": [as_json(result) for result in results]}
    write_atomically(folder / "table.json", json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    write_atomically(folder / "table.md", markdown(title, grids, told))
    write_atomically(folder / "table.csv", "\n".join(grid_csv(grid) for grid in grids))
    show(title, grids, [*told, f"written to {folder}"])
    return 0


def contenders(flags: argparse.Namespace) -> list[Contender]:
    """Every checkpoint in every way, examined before anything is loaded."""
    from qwen_model.loading import check_checkpoint, load_config

    found = []
    for given in flags.checkpoint_path:
        folder = resolve_checkpoint(given)
        check_checkpoint(folder)
        if flags.gptq_backend is not None:
            check_gptq_backend(folder, flags.gptq_backend, flags.dtype, flags.device)
        packed = getattr(load_config(folder), "gptq", None) is not None
        backend = (flags.gptq_backend,) if flags.gptq_backend else ("torch", "reference") if packed else ("auto",)
        for way in flags.ways:
            check_attention(folder, None if way == "engine" else way, flags.dtype, flags.device)
            name = f"{Path(given).name}, {way}"
            found.append(Contender(name, folder, way, flags.dtype, flags.device, backend, flags.threads))
    if len({contender.name for contender in found}) < len(found):
        raise UserError("-c names two checkpoints of the same name; rename a folder")
    return found


def measure(named: Sequence[Contender], new: Sequence[int], encode: int, repeats: int) -> list[Result]:
    """Every contender's turns. The first turn of each is a warm-up."""
    steps = [("encode", encode), *(("generate", tokens) for tokens in new)]
    processes: list[Process] = []
    total = len(named) * (repeats * sum(tokens if what == "generate" else 1 for what, tokens in steps))
    try:
        with progress("speed", 0, total, "token", scale=True) as bar:
            results = []
            for contender in named:
                bar.set_postfix_str(f"loading {contender.name}")
                processes.append(Process(contender.name, load, contender))
                processes[-1].call("warm_up")
                results.append(Result(contender, None, {}, {}))
            for _ in range(repeats):
                for what, tokens in steps:
                    for process, result in zip(processes, results, strict=True):
                        bar.set_postfix_str(result.contender.name)
                        spent = process.call(what, tokens)
                        key = f"{what}_{tokens}"
                        result.seconds.setdefault(key, []).append(spent.seconds)
                        result.peaks[key] = max(spent.peak, result.peaks.get(key, 0))
                        bar.update(tokens if what == "generate" else 1)
            # Last: the copy takes memory, which would count as the model's.
            abouts = [process.call("about") for process in processes]
            return [result._replace(about=about) for result, about in zip(results, abouts, strict=True)]
    finally:
        for process in processes:
            process.stop()


# -- what is written ---------------------------------------------------------------------------------------------------


def notes(results: Sequence[Result], flags: argparse.Namespace) -> list[str]:
    """What a reader of the figures should know."""
    told = []
    if flags.repeats < ENOUGH:
        told.append(f"{flags.repeats} turn{'s' * (flags.repeats > 1)}: a median of fewer than {ENOUGH} may be noise")
    for result in results:
        about = result.about
        seen = f"{about.sizes.per_token / 1e3:.1f} KB per token before it"
        sizes = f"a token reads {about.sizes.weights / 1e9:.2f} GB of weights and {seen}"
        backend = f", GPTQ layers: {about.backend}" if about.backend else ""
        told.append(
            f"{result.contender.name}: {about.dtype}{backend}; {sizes}; a copy runs at {about.bandwidth / 1e9:.0f} GB/s"
            + (f"; {about.state}" if about.state else "")
        )
    if results[0].about.device == "CPU":
        told.append("memory on a CPU is the most that the process held since it began; on a GPU, that torch allocated")
    return told


def speed_grid(results: Sequence[Result], new: Sequence[int]) -> Grid:
    head = [
        "",
        "new tokens",
        "tokens/s",
        "p95",
        "over encoded + generated",
        "limit",
        "share",
        "prompt tokens/s",
        "cards",
    ]
    rows = []
    for result in results:
        encode = next(key for key in result.seconds if key.startswith("encode_"))
        prompt = int(encode.removeprefix("encode_"))
        for tokens in new:
            key = f"generate_{tokens}"
            rate, about = result.rate(key, tokens), result.about
            limit = about.bandwidth / about.sizes.read_by(1, tokens)
            both = (prompt + tokens) / (
                statistics.median(result.seconds[encode]) + statistics.median(result.seconds[key])
            )
            figures = [f"{tokens:,}", f"{rate:.2f}", f"{result.slow(key, tokens):.2f}", f"{both:.2f}", f"{limit:.1f}"]
            share = [f"{rate / limit:.0%}", f"{result.rate(encode, prompt):.0f}", reported(result, "speed", key)]
            rows.append([result.contender.name, *figures, *share])
    return Grid("speed", head, rows)


def memory_grid(results: Sequence[Result], new: Sequence[int], encode: int) -> Grid:
    rows = []
    for result in results:
        for key, what in (
            (f"encode_{encode}", f"{encode:,} tokens read, 1 generated"),
            (f"generate_{max(new)}", f"{max(new):,} generated"),
        ):
            rows.append(
                [result.contender.name, what, f"{result.peaks[key] / 1e9:.2f}", reported(result, "memory", key)]
            )
    return Grid("peak memory", ["contender", "work", "GB", "cards"], rows)


def reported(result: Result, table: str, benchmark: str) -> str:
    """The cards' figures of this model and precision for this measurement, each with the version that it is of."""
    name = parse_model_name(str(result.contender.checkpoint))
    bits = name.variant or "BF16"
    found = []
    for row in card_figures():
        if (row["table"], row["model"], row["benchmark"]) != (table, name.model, benchmark):
            continue
        precision, _, kernel = row["variant"].partition("/")
        if precision == bits and name.version in ("", row["version"]):
            over = "over encoded and generated tokens" if "over encoded" in row["unit"] else ""
            gpus = "2 GPUs" if re.search(r"2xA100", row["unit"]) else ""
            said = ", ".join(part for part in (row["version"], kernel, gpus, over) if part)
            found.append(f"{row['value']} ({said})")
    return "; ".join(dict.fromkeys(found))


def as_json(result: Result) -> dict[str, Any]:
    """Every turn of a contender, unrounded."""
    about = result.about._asdict()
    return {
        "name": result.contender.name,
        "checkpoint": str(result.contender.checkpoint),
        "way": result.contender.way,
        **{**about, "sizes": about["sizes"]._asdict()},
        "seconds": result.seconds,
        "peak_bytes": result.peaks,
    }


if __name__ == "__main__":
    run_script(main)

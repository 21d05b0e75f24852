"""WMT22 general translation, English to Chinese (2,037 segments) and Chinese to English (1,875), 5 worked examples.

    python eval/evaluate_wmt22.py -c Qwen/Qwen-7B -d data/wmt22                          # examples from data/wmt21
    python eval/evaluate_wmt22.py -c Qwen/Qwen-7B -d data/wmt22 --subjects en-zh --shots-file shots.jsonl

-d: a folder with `sources/generaltest2022.{pair}.src.*` and `references/generaltest2022.{pair}.ref.A.*`, as in
wmt-conference/wmt22-news-systems (`txt/`). --shots-file: JSONL rows {"pair", "source", "reference"}; without it the
first five segments of newstest2021, from the folder `wmt21` beside the data (wmt-conference/wmt21-news-systems).

Reported: 5-shot BLEU. Neither examples nor template are published; ours is `English: ...` / `Chinese: ...`. The reply
counts up to its first line break (a chat model's: all of it on one line). Corpus BLEU and chrF by sacrebleu against
reference A, tokenizer `zh` for en-zh and `13a` for zh-en; their signatures are printed. Reference B of en-zh was made
from one of the systems: its figures stand below, never beside a reported one. `correct` in samples.jsonl means equal to
reference A.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.data.items import TEXT, Hub, given_path, locate, read_jsonl, read_text
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.metrics import by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import Interval, Score, bootstrap

PAIRS = {"en-zh": ("English", "Chinese"), "zh-en": ("Chinese", "English")}
TOKENIZER = {"en-zh": "zh", "zh-en": "13a"}
SEGMENTS = {"en-zh": 2037, "zh-en": 1875}
SHOTS = 5
NOT_ON_HUB = Hub("", "")
TEST_SET = "generaltest2022"
DRAWS = 1000  # of the bootstrap behind the intervals
STOPS = (END_OF_TEXT, "\n")

# --- data ---


def given_folder(given: str | None) -> str:
    if given and given_path(given).exists():
        return given
    missing = f"no folder {given}" if given else "no -d"
    raise UserError(f"{missing}: WMT22 is not on the hub; -d wants txt/ of wmt-conference/wmt22-news-systems")


def read_lines(path: Path) -> list[str]:
    """The segments of a file: split at newline only, for a segment may hold U+2028 or a carriage return."""
    text = read_text(path)
    lines = text.removesuffix("\n").split("\n") if text else []
    if all(line.endswith("\r") for line in lines):  # the whole file came through Windows
        return [line.removesuffix("\r") for line in lines]
    return lines


def parallel(folder: Path, test_set: str, pair: str, reference: str = "A") -> list[tuple[str, str]]:
    """(source, reference) of every segment of one direction."""
    source, target = pair.split("-")
    sources = read_lines(folder / "sources" / f"{test_set}.{pair}.src.{source}")
    references = read_lines(folder / "references" / f"{test_set}.{pair}.ref.{reference}.{target}")
    if len(sources) != len(references):
        raise UserError(
            f"{folder}: {pair} has {len(sources)} source and {len(references)} reference {reference} segments"
        )
    found = list(zip(sources, references, strict=True))
    if empty := [number for number, texts in enumerate(found, start=1) if not all(text.strip() for text in texts)]:
        raise UserError(
            f"{folder}: line {empty[0]} of {test_set} {pair} is empty in the source or reference {reference}"
        )
    return found


def read_examples(given: Path | None, folder: Path, pair: str, shots: int) -> list[tuple[str, str]]:
    """The worked examples of one direction: of --shots-file, else the beginning of newstest2021."""
    if given:
        rows = read_jsonl(given, needs={"pair": TEXT, "source": TEXT, "reference": TEXT})
        found = [(row["source"], row["reference"]) for row in rows if row["pair"] == pair]
    elif (folder.parent / "wmt21").is_dir():
        found = parallel(folder.parent / "wmt21", "newstest2021", pair)
    else:
        raise UserError(f"no examples: no folder {folder.parent / 'wmt21'}; give --shots-file, or -k 0")
    if len(found) < shots:
        raise UserError(f"-k {shots}: there are {len(found)} examples of {pair}")
    return found[:shots]


# --- prompt ---


def prompt(pair: str, examples: Sequence[tuple[str, str]], source: str) -> str:
    here, there = PAIRS[pair]
    shots = "".join(f"{here}: {text}\n{there}: {reference}\n\n" for text, reference in examples)
    return f"{shots}{here}: {source}\n{there}:"


# --- extract and score ---


def translation(reply: str, chat: bool) -> str:
    """The translation in a reply: its first line; a chat model has nothing to stop it, so all its lines become one."""
    reply = cut_at(reply, [END_OF_TEXT])
    if not chat:
        return reply.split("\n")[0].strip(" ")
    return " ".join(line.strip() for line in reply.split("\n") if line.strip())


def bleu(
    pair: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]], draws: int = 0
) -> tuple[Score, str]:
    """Corpus BLEU with its signature. references: one list a reference; draws: of the bootstrap for the interval."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=TOKENIZER[pair])
    return _corpus_score(metric, hypotheses, references, draws, "bleu")


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]], draws: int = 0) -> tuple[Score, str]:
    """Corpus chrF2 with its signature."""
    from sacrebleu.metrics import CHRF

    return _corpus_score(CHRF(), hypotheses, references, draws, "chrf")


def _corpus_score(metric: Any, hypotheses: Any, references: Any, draws: int, name: str) -> tuple[Score, str]:
    given = list(hypotheses), [list(reference) for reference in references]
    try:
        found = metric.corpus_score(*given, n_bootstrap=draws or 1)
        interval = Interval(float(found._mean - found._ci), float(found._mean + found._ci)) if draws else None
    except TypeError:  # sacrebleu's bootstrap cannot average draws of which some are exactly 0
        found, interval = metric.corpus_score(*given), _own_bootstrap(metric, *given) if draws else None
    return Score(found.score, len(hypotheses), interval, metric=name), metric.get_signature().format()


def _own_bootstrap(metric: Any, hypotheses: list[str], references: list[list[str]]) -> Interval:
    """The interval of a corpus score of nearly 0; slow, so with fewer draws."""

    def drawn(numbers: Sequence[int]) -> float:
        found = metric.corpus_score(
            [hypotheses[i] for i in numbers], [[reference[i] for i in numbers] for reference in references]
        )
        return float(found.score)

    return bootstrap(range(len(hypotheses)), drawn, draws=100)


# --- the benchmark ---


class WMT22(Benchmark):
    name = "wmt22"
    official_items = sum(SEGMENTS.values())
    shots = Shots(base=SHOTS, chat=SHOTS)
    extras = ("translation",)
    two_extractions = False

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        examples = "JSONL of worked examples (default: newstest2021)"
        flags.add_argument("--shots-file", type=Path, metavar="FILE", help=examples)

    def folder(self, setting: Setting) -> Path:
        return locate(given_folder(setting.data_path), NOT_ON_HUB, holds=(f"sources/{TEST_SET}.*", "sources"))

    def load(self, setting: Setting) -> Iterable[Item]:
        folder, shots = self.folder(setting), setting.shots
        for pair in setting.subjects(PAIRS):
            examples = read_examples(setting.flags.shots_file, folder, pair, shots) if shots else []
            for number, (source, reference) in enumerate(parallel(folder, TEST_SET, pair)):
                yield Item(f"{pair}/{number}", pair, gold=reference, row=source, examples=examples)

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"stop": () if setting.chat else STOPS}

    def departures(self, setting: Setting) -> list[str]:
        return ["--shots-file"] if setting.flags.shots_file else []

    def content(self, item: Item) -> Content:
        return Content(item.row, item.gold)

    def example_contents(self, item: Item) -> Sequence[Content]:
        return [Content(source, reference) for source, reference in item.examples]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(prompt(item.subject, item.examples, item.row))
        found = translation(reply, setting.chat)
        return {"response": reply, "prediction": found, "gold": item.gold, "correct": found == item.gold}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        folder = self.folder(setting)
        scores: dict[str, Score] = {}
        notes: list[str] = []
        for pair, replies in by_subject(records, "prediction").items():
            first = by_subject(records, "gold")[pair]
            score, signature = bleu(pair, replies, [first], DRAWS)
            whole = len(parallel(folder, TEST_SET, pair)) if setting.own_samples else SEGMENTS[pair]
            benchmark = f"wmt22_{pair.replace('-', '_')}"
            scores[f"bleu_{pair}"] = score._replace(benchmark=benchmark, as_reported=len(replies) == whole)
            notes.append(f"{pair} BLEU|{signature}")
            score, signature = chrf(replies, [first], DRAWS)
            scores[f"chrf_{pair}"] = score
            notes.append(f"{pair} chrF2|{signature}")
            if (folder / "references" / f"{TEST_SET}.{pair}.ref.B.{pair[-2:]}").exists():
                all_second = [reference for _, reference in parallel(folder, TEST_SET, pair, "B")]
                second = [all_second[int(name.split("/")[1])] for name in by_subject(records, "id")[pair]]
                scores[f"bleu_{pair}_reference_b"] = bleu(pair, replies, [second])[0]
                scores[f"bleu_{pair}_both_references"] = bleu(pair, replies, [first, second])[0]
                scores[f"chrf_{pair}_reference_b"] = chrf(replies, [second])[0]
        compared = {name: score._replace(compared=score.benchmark is not None) for name, score in scores.items()}
        return Results(compared, notes=notes)


def main() -> int:
    return run_benchmark(WMT22(), __doc__)


if __name__ == "__main__":
    run_script(main)

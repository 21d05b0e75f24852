"""VCSUM: summaries of long Chinese meetings by a chat model, Rouge-L.

    python eval/evaluate_vcsum.py -c Qwen/Qwen-7B-Chat -d data/vcsum
    python eval/evaluate_vcsum.py -c Qwen/Qwen-7B-Chat -d LongBench/data/vcsum.jsonl

-d: the official folder (hahahawu/VCSum, Wu et al. 2023: `overall_context_test.txt`, `long_test.txt`; 26 meetings), or
LongBench's `vcsum.jsonl` (200 meetings; hub: THUDM/LongBench), which is the set that most papers score.

The published prompt and cut are not known; ours follow LongBench (Bai et al. 2023): its Chinese instruction, the
meeting cut in the middle where it is longer than --max-seq-len allows, Rouge-L (F1) over jieba words. Rouge-L over
characters stands below. The reported figure was made with dynamic NTK and LogN attention, which the published
checkpoints switch on in their config.json. `correct` in samples.jsonl means that the reply is the reference itself.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.data.items import (
    CACHE,
    STRINGS,
    TEXT,
    WHOLE,
    Hub,
    Kind,
    find,
    locate,
    no_duplicates,
    read_jsonl,
    read_rows,
    tables,
)
from qwen_eval.errors import UserError, run_script
from qwen_eval.metrics import rouge_l
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import mean

HUB = Hub("THUDM/LongBench", "data.zip")
OFFICIAL_N = 26
LONGBENCH_N = 200  # which of the two sets the reported figure is of was not published
MAX_SEQ_LEN = 8192
NEW_TOKENS = 512
FRAME = 32  # tokens of the chat turn around the prompt

# --- data ---

OFFICIAL = "overall_context_test.txt"
LONGBENCH = ("vcsum.jsonl", *tables("vcsum", "test"))
TURNS = Kind("a list of lists of texts", lambda value: isinstance(value, list) and all(map(STRINGS.fits, value)))
SPEAKERS = Kind("a list", lambda value: isinstance(value, list))


def read_test(given: str | None) -> list[dict[str, str]]:
    """The meetings as {"context", "summary"}: the official test set, else LongBench's file (from the hub: no -d)."""
    place = locate(given, HUB, (OFFICIAL, *LONGBENCH), file_ok=True)
    if place.name == OFFICIAL or (place / OFFICIAL).exists():
        return read_official(place if place.is_dir() else place.parent)
    return [row for path in ([place] if place.is_file() else find(place, LONGBENCH)) for row in read_longbench(path)]


def read_official(folder: Path) -> list[dict[str, str]]:
    """The test meetings as {"context", "summary"}: one line a turn, `说话人1：` and what was said."""
    fields = {"id": TEXT | WHOLE, "context": TURNS, "speaker": SPEAKERS}
    meetings = read_jsonl(folder / OFFICIAL, fields)
    no_duplicates(meetings, "id", folder / OFFICIAL)
    summaries = {
        row["id"]: row["summary"] for row in read_jsonl(folder / "long_test.txt", {"id": TEXT | WHOLE, "summary": TEXT})
    }
    rows = []
    for meeting in meetings:
        if meeting["id"] not in summaries:
            raise UserError(f"{folder / 'long_test.txt'} has no summary of meeting {meeting['id']!r}")
        if len(meeting["speaker"]) != len(meeting["context"]):
            raise UserError(f"{folder / OFFICIAL}: meeting {meeting['id']!r} has not one speaker a turn")
        turns = zip(meeting["speaker"], meeting["context"], strict=True)
        text = "\n".join(f"说话人{who}：{''.join(sentences)}" for who, sentences in turns)
        rows.append({"context": text, "summary": summaries[meeting["id"]]})
    return rows


def read_longbench(path: Path) -> list[dict[str, str]]:
    answers = Kind(
        "a list that begins with a text", lambda value: isinstance(value, list) and TEXT.fits((*value, 0)[0])
    )
    rows = read_rows(path, {"context": TEXT, "answers": answers})
    return [{"context": row["context"], "summary": row["answers"][0]} for row in rows]


# --- prompt ---

BEFORE = "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n"
BEHIND = "\n\n会议总结："


def prompt(context: str) -> str:
    return f"{BEFORE}{context}{BEHIND}"


def middle_cut(tokens: Sequence[int], limit: int) -> list[int]:
    """At most `limit` tokens, the middle dropped: beginning and end say what a meeting is about and what came of it."""
    if len(tokens) <= limit:
        return list(tokens)
    head = limit // 2
    tail = limit - head
    return [*tokens[:head], *tokens[len(tokens) - tail :]]


def shorten(context: str, tokenizer: Any, limit: int) -> str:
    """The meeting cut in the middle so that the whole prompt has about `limit` tokens."""
    from qwen_eval.engines.local.prompts import Encoder

    tokens, frame = (ids.tolist() for ids in Encoder(tokenizer).plain([context, prompt("")]))
    room = limit - len(frame)
    if len(tokens) <= room:
        return context
    kept = middle_cut(tokens, room)
    head, tail = (tokenizer.decode(part, skip_special_tokens=True) for part in (kept[: room // 2], kept[room // 2 :]))
    return str(head + tail).replace("\ufffd", "")  # a character whose bytes the cut has parted


# --- score ---


def summary_rouge_l(reply: str, summary: str) -> dict[str, float]:
    """Rouge-L F1 in percent, over jieba words and over characters; white space is nothing in either."""
    import logging
    import warnings

    with warnings.catch_warnings():  # of its escapes and its use of pkg_resources, which no user can mend
        warnings.simplefilter("ignore")
        import jieba

    jieba.setLogLevel(logging.WARNING)
    CACHE.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(CACHE)  # not the temporary folder, where what it trusts might be another user's

    def in_percent(tokens: Callable[[str], Iterable[str]]) -> float:
        return 100.0 * rouge_l(reply, summary, lambda text: [one for one in tokens(text) if one.strip("\x00 \n\t\r　")])

    return {"words": in_percent(jieba.cut), "characters": in_percent(list)}


# --- the benchmark ---


class VCSUM(Benchmark):
    name = "vcsum"
    official_items = OFFICIAL_N
    max_prompt_tokens = MAX_SEQ_LEN
    extras = ("summarization",)
    two_extractions = False

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if flags.max_seq_len - NEW_TOKENS - FRAME < 1:
            raise UserError(f"--max-seq-len {flags.max_seq_len} leaves no room beside {NEW_TOKENS} new tokens")

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects(["test"])
        tokenizer = None
        if setting.checkpoint is not None:
            from qwen_model.loading import load_tokenizer

            tokenizer = load_tokenizer(setting.checkpoint)
        for number, row in enumerate(read_test(setting.data_path)):
            text = row["context"]
            if tokenizer is not None:
                text = shorten(text, tokenizer, setting.flags.max_seq_len - NEW_TOKENS - FRAME)
            yield Item(f"test/{number}", "test", gold=row["summary"], row={**row, "shown": text})

    def official(self, setting: Setting) -> int | None:
        return LONGBENCH_N if len(read_test(setting.data_path)) == LONGBENCH_N else OFFICIAL_N

    def data_set(self, setting: Setting) -> str:
        return "vcsum-longbench" if self.official(setting) == LONGBENCH_N else "vcsum"

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": 0, "max_seq_len": setting.flags.max_seq_len}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"max_new_tokens": NEW_TOKENS}

    def content(self, item: Item) -> Content:
        return Content(item.row["context"], item.row["summary"])

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = (yield Generate(prompt(item.row["shown"]))).strip()
        return {
            "response": reply,
            "gold": item.gold,
            "correct": reply == item.gold,
            "rouge_l": summary_rouge_l(reply, item.gold),
            "lost_middle": item.row["shown"] != item.row["context"],
        }

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = {
            name: mean((record["rouge_l"][unit] for record in records), metric="rouge_l", compared=unit == "words")
            for name, unit in (("rouge_l", "words"), ("rouge_l_characters", "characters"))
        }
        cut = sum(record["lost_middle"] for record in records)
        lost = f"{cut} of {len(records)} meetings were longer than --max-seq-len allows and lost their middle"
        return Results(scores, notes=[lost] if cut else [], shots=0)


def main() -> int:
    return run_benchmark(VCSUM(), __doc__)


if __name__ == "__main__":
    run_script(main)

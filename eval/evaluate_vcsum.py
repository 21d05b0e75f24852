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

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.cli import parser
from qwen_eval.data.items import (
    CACHE,
    STRINGS,
    TEXT,
    WHOLE,
    Hub,
    Item,
    Kind,
    choose_subjects,
    find,
    locate,
    no_duplicates,
    read_jsonl,
    read_rows,
    tables,
)
from qwen_eval.errors import UserError, run_script
from qwen_eval.extras import need
from qwen_eval.metrics import rouge_l
from qwen_eval.run import Run
from qwen_eval.stats import Score, mean

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


def main() -> int:
    args = parser(__doc__, max_seq_len=MAX_SEQ_LEN).parse_args()
    need("summarization")
    run = Run(args, "vcsum", OFFICIAL_N)
    choose_subjects(["test"], args.subjects)
    room = args.max_seq_len - NEW_TOKENS - FRAME
    if room < 1:
        raise UserError(f"--max-seq-len {args.max_seq_len} leaves no room beside {NEW_TOKENS} new tokens")

    rows, cut = read_test(run.data_path), 0
    if len(rows) == LONGBENCH_N and not run.own_samples:
        run.official_n = LONGBENCH_N
    texts = [row["context"] for row in rows]
    if run.checkpoint is not None:
        from qwen_model.loading import load_tokenizer

        tokenizer = load_tokenizer(run.checkpoint)
        texts = [shorten(text, tokenizer, room) for text in texts]
        cut = sum(text != row["context"] for text, row in zip(texts, rows, strict=True))
    items = [
        Item(f"test/{number}", "test", prompt(text), row["summary"])
        for number, (text, row) in enumerate(zip(texts, rows, strict=True))
    ]
    run.start(items, {"num_fewshot": 0, "max_seq_len": args.max_seq_len}, {"max_new_tokens": NEW_TOKENS})
    for item, reply in run.generate():
        reply = reply.strip()
        run.save(
            item, response=reply, gold=item.gold, correct=reply == item.gold, rouge_l=summary_rouge_l(reply, item.gold)
        )

    def average(field: str, compared: bool) -> Score:
        return mean((record["rouge_l"][field] for record in run.records), metric="rouge_l", compared=compared)

    scores = {"rouge_l": average("words", True), "rouge_l_characters": average("characters", False)}
    notes = (
        [f"{cut} of {len(rows)} meetings were longer than --max-seq-len allows and lost their middle"] if cut else []
    )
    return run.report(scores, notes=notes, shots=0)


if __name__ == "__main__":
    run_script(main)

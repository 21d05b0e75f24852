"""A needle in a haystack (evaluate_ppl.py --needle): does a chat model find one sentence in a long text?

    python eval/evaluate_ppl.py -c Qwen/Qwen-7B-Chat -d papers/ --needle --lengths 1024,8192,32768 --depths 0,50,100

For each length and depth the documents are cut to the length, the sentence `The access code of the harbour archive is
4829153.` is put in at that share of the text (at the end of a sentence), and one chat turn asks for the code. A cell
counts the replies that have the number in them. Place and number are drawn for each question from --seed; the sentence
and the question are Chinese where the text is. The idea is Kamradt's (2023, gkamradt/LLMTest_NeedleInAHaystack); text,
sentence and scoring are ours. Replies are greedy, the repetition penalty is off.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from qwen_eval.benchmarks.long_context.documents import Tokens, choose_documents, default_lengths
from qwen_eval.data.items import Item
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.errors import UserError
from qwen_eval.places import DEMO
from qwen_eval.reporting import plots
from qwen_eval.reporting.tables import Grid
from qwen_eval.run import Run
from qwen_eval.stats import Score, accuracy

if TYPE_CHECKING:
    import numpy as np

DECODING = {"max_new_tokens": 64, "repetition_penalty": 1.0}
LEAST_TEXT = 64  # tokens of the haystack; less is no haystack
NEAR = 2000  # characters to look back for the end of a sentence


class Language(NamedTuple):
    """Texts of a question; `end` finds the ends of sentences."""

    needle: str
    question: str
    frame: str
    places: tuple[str, ...]
    end: str


ENGLISH = Language(
    " The access code of the {place} archive is {code}. ",
    "What is the access code of the {place} archive? Answer with the number alone.",
    "Read the text below. A question about it follows behind it.\n\n{text}\n\nQuestion: {question}",
    ("harbour", "mountain", "museum", "railway", "garden", "castle", "library", "theatre", "island", "market"),
    r"[.!?][\"')\]]?\s+|\n\n",
)
CHINESE = Language(
    "{place}档案室的门禁码是{code}。",
    "{place}档案室的门禁码是多少？只回答这个数字。",
    "请阅读下面的文字，文字后面有一个问题。\n\n{text}\n\n问题：{question}",
    ("海港", "山城", "博物馆", "铁路", "花园", "古堡", "图书馆", "剧院", "海岛", "集市"),
    r"[。！？][”’」』）]?|\n\n",
)


def parse_depths(text: str) -> list[float]:
    """`0,50,100` as shares of the text in percent."""
    try:
        depths = sorted({float(word) for word in text.split(",")})
    except ValueError:
        depths = [-1.0]
    if not all(0 <= depth <= 100 for depth in depths):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of depths in percent, such as 0,50,100")
    return depths


# --- prompt ---


def language(text: str) -> Language:
    """Chinese where a third of the letters are Han characters: they carry more of the text than Latin ones."""
    han = len(re.findall(r"[\u4e00-\u9fff]", text))
    return CHINESE if 3 * han > sum(map(str.isalpha, text)) else ENGLISH


def hide(text: str, needle: str, depth: float, end: str) -> str:
    """The text with the needle in it: at the last end of a sentence before `depth` percent of the characters."""
    at = round(len(text) * depth / 100)
    if 0 < at < len(text):
        start = max(0, at - NEAR)
        ends = [start + match.end() for match in re.finditer(end, text[start:at])]
        at = ends[-1] if ends else at
    return text[:at] + needle + text[at:]


class Cell(NamedTuple):
    """Length of the prompt in tokens, and depth of the needle in percent of the text."""

    length: int
    depth: float

    @property
    def name(self) -> str:
        return f"seq_{self.length}/depth_{self.depth:g}"


def question(documents: Sequence[Tokens], encoder: Encoder, cell: Cell, number: int, seed: int) -> Item:
    """Question `number` of a cell: its prompt has at most `cell.length` tokens, the chat frame included."""
    # The text begins with any document, the same one at every depth: what stands before the needles is run once.
    first = Random(f"{seed}/{cell.length}/{number}").randrange(len(documents))
    draw, told = Random(f"{seed}/{cell.name}/{number}"), language(documents[first].text)
    place, code = draw.choice(told.places), str(draw.randrange(10**6, 10**7))
    needle, asked = (part.format(place=place, code=code) for part in (told.needle, told.question))

    def prompt(text: str) -> str:
        return told.frame.format(text=hide(text, needle, cell.depth, told.end), question=asked)

    tokens = haystack([*documents[first:], *documents[:first]], encoder, cell.length)
    room = cell.length - len(encoder.chat([prompt("")])[0])
    while room >= LEAST_TEXT:
        text = encoder.tokenizer.decode(tokens[:room].tolist(), skip_special_tokens=True).rstrip("\ufffd")
        text = text.replace(code, "")  # the number stands in the needle alone
        over = len(encoder.chat([prompt(text)])[0]) - cell.length
        if over <= 0:
            return Item(f"{cell.name}/{number}", f"seq_{cell.length}", prompt(text), code, cell)
        room -= over
    raise UserError(f"--lengths {cell.length}: the question leaves no room for a text; give longer ones")


def haystack(documents: Sequence[Tokens], encoder: Encoder, length: int) -> np.ndarray:
    """int32: the documents one after the other, a blank line between them, up to `length` tokens."""
    import numpy as np

    blank, parts, have = encoder.plain(["\n\n"])[0], [], 0
    for document in documents:
        parts += [document.tokens, blank]
        have += len(document.tokens)
        if have >= length:
            break
    return np.concatenate(parts)[:length]


# --- score ---


def found(reply: str, code: str) -> bool:
    """Whether the number is in the reply, alone; commas or blanks between its digits do no harm."""
    joined = re.sub(r"(?<=\d)[,，\u00a0 ](?=\d{3})", "", reply)
    return re.search(rf"(?<!\d){code}(?!\d)", joined) is not None


def share(run: Run, cells: Collection[Cell]) -> Score:
    """The share of the questions of these cells that was answered right; n is 0 where none was asked."""
    rows = zip(run.items, run.records, strict=True)
    return accuracy((record["correct"] for item, record in rows if item.row in cells), compared=False)


def main(args: argparse.Namespace) -> int:
    run = Run(args, "needle")
    if not run.chat:
        raise UserError("--needle asks in a chat turn: leave out --base, or ask a base checkpoint with --chat")
    assert run.checkpoint is not None
    from qwen_eval.engines.local import memory
    from qwen_model.loading import load_config, load_tokenizer

    from tqdm import tqdm

    config = load_config(run.checkpoint)
    lengths, depths = args.lengths or default_lengths(getattr(config, "seq_length", None)), args.depths
    memory.check(run.checkpoint, args, lengths, whole=True)
    source = str(DEMO / "data" / "ppl") if run.own_samples else run.data_path
    documents = choose_documents(run.checkpoint, source, enough=8 * lengths[-1]).long_enough
    if (total := sum(len(document.tokens) for document in documents)) < lengths[-1]:
        raise UserError(f"the documents have {total:,} tokens in all, fewer than the length {lengths[-1]:,}; add some")

    encoder = Encoder(load_tokenizer(run.checkpoint))
    cells = [Cell(length, depth) for length in lengths for depth in depths]
    items = [
        question(documents, encoder, cell, number, args.seed)
        for cell in tqdm(cells, desc="hiding needles", delay=2, leave=False)
        for number in range(args.needles)
    ]
    run.start(items, {"lengths": lengths, "depths": depths, "needles": args.needles}, DECODING)
    for item, reply in run.generate():
        right = found(reply, item.gold)
        run.save(item, response=reply, prediction=item.gold if right else None, gold=item.gold, correct=right)

    scores = {cell: share(run, [cell]) for cell in cells}
    values = [[scores[Cell(length, depth)].value for length in lengths] for depth in depths]
    columns, rows = [f"{length:,}" for length in lengths], [f"{depth:g}" for depth in depths]
    title = f"Needles found, in percent - {run.model}"
    plots.heat_map(run.folder / "plot", values, columns, rows, title, "length in tokens", "depth of the needle, %")
    told = [
        [f"{depth} %", *("-" if value is None else f"{value:.0f}" for value in row)]
        for depth, row in zip(rows, values, strict=True)
    ]
    table = Grid("found, in percent: depth of the needle by length in tokens", ["", *columns], told)
    breakdowns = {
        "by length": {f"seq_{length}": share(run, [c for c in cells if c.length == length]) for length in lengths},
        "by depth": {f"depth_{depth:g}": share(run, [c for c in cells if c.depth == depth]) for depth in depths},
    }
    return run.report({"acc": share(run, cells)}, breakdowns, grid=lambda lines: table)

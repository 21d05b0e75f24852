"""A needle in a haystack (evaluate_ppl.py --needle): does a chat model find one sentence in a long text?

    python eval/evaluate_ppl.py -c Qwen/Qwen-7B-Chat -d papers/ --needle --lengths 1024,8192,32768 --depths 0,50,100

For each length and depth the documents are cut to the length, the sentence `The access code of the harbour archive is
4829153.` is put in at that share of the text (at the end of a sentence), and one chat turn asks for the code. A cell
counts the replies that have the number in them. Place and number are drawn for each question from --seed; the sentence
and the question are Chinese where the text is. The idea is Kamradt's (2023, gkamradt/LLMTest_NeedleInAHaystack); text,
sentence and scoring are ours. Replies are greedy, the repetition penalty is off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_eval.benchmark import Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.benchmarks.long_context.documents import Tokens, choose_documents, default_lengths
from qwen_eval.benchmarks.long_context.flags import LongContextBenchmark
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.errors import UserError
from qwen_eval.places import DEMO
from qwen_eval.reporting import plots
from qwen_eval.reporting.tables import Grid, Line
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


def share(records: Sequence[Record], cells: Collection[Cell]) -> Score:
    """The share of the questions of these cells that was answered right; n is 0 where none was asked."""
    names = {cell.name for cell in cells}
    return accuracy((r["correct"] for r in records if r["id"].rpartition("/")[0] in names), compared=False)


# --- the benchmark ---


class Needle(LongContextBenchmark):
    name = "needle"
    two_extractions = False

    def lengths(self, setting: Setting) -> list[int]:
        from qwen_model.loading import load_config

        assert setting.checkpoint is not None  # the local engine has one
        trained = getattr(load_config(setting.checkpoint), "seq_length", None)
        given: list[int] | None = setting.flags.lengths
        return given or default_lengths(trained)

    def cells(self, setting: Setting) -> list[Cell]:
        return [Cell(length, depth) for length in self.lengths(setting) for depth in setting.flags.depths]

    def load(self, setting: Setting) -> Iterable[Item]:
        from qwen_eval.engines.local import memory
        from qwen_model.loading import load_tokenizer

        from tqdm import tqdm

        if not setting.chat:
            raise UserError("--needle asks in a chat turn: leave out --base, or ask a base checkpoint with --chat")
        assert setting.checkpoint is not None
        flags, longest = setting.flags, self.lengths(setting)[-1]
        memory.check(setting.checkpoint, flags, self.lengths(setting), whole=True)
        source = str(DEMO / "data" / "ppl") if setting.own_samples else setting.data_path
        documents = choose_documents(setting.checkpoint, source, enough=8 * longest).long_enough
        if (total := sum(len(document.tokens) for document in documents)) < longest:
            raise UserError(f"the documents have {total:,} tokens in all, fewer than the length {longest:,}; add some")
        encoder = Encoder(load_tokenizer(setting.checkpoint))
        for cell in tqdm(self.cells(setting), desc="hiding needles", delay=2, leave=False):
            for number in range(flags.needles):
                yield question(documents, encoder, cell, number, flags.seed)

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        flags = setting.flags
        return {"lengths": self.lengths(setting), "depths": flags.depths, "needles": flags.needles}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return DECODING

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(item.prompt)
        right = found(reply, item.gold)
        return {"response": reply, "prediction": item.gold if right else None, "gold": item.gold, "correct": right}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        lengths, depths, cells = self.lengths(setting), setting.flags.depths, self.cells(setting)
        values = [[share(records, [Cell(length, depth)]).value for length in lengths] for depth in depths]
        columns, rows = [f"{length:,}" for length in lengths], [f"{depth:g}" for depth in depths]
        shown = [
            [f"{depth} %", *("-" if value is None else f"{value:.0f}" for value in row)]
            for depth, row in zip(rows, values, strict=True)
        ]
        table = Grid("found, in percent: depth of the needle by length in tokens", ["", *columns], shown)
        lengthwise = {f"seq_{n}": share(records, [c for c in cells if c.length == n]) for n in lengths}
        by_depth = {f"depth_{d:g}": share(records, [c for c in cells if c.depth == d]) for d in depths}
        title = f"Needles found, in percent - {setting.model}"
        return Results(
            {"acc": share(records, cells)},
            {"by length": lengthwise, "by depth": by_depth},
            grid=lambda lines: table,
            plots=partial(draw, values, columns, rows, title),
        )


def draw(
    values: list[list[float | None]],
    columns: list[str],
    rows: list[str],
    title: str,
    lines: Sequence[Line],
    folder: Path,
) -> None:
    """plot.png and plot.svg: the table as a heat map."""
    plots.heat_map(folder / "plot", values, columns, rows, title, "length in tokens", "depth of the needle, %")

"""Train the demo's two models, from nothing: Qwen-demo (base) and Qwen-demo-Chat, in the published format.

    python tools/demo_training/train.py                     # writes demo/checkpoint/{base,chat}
    python tools/demo_training/train.py -o DIR --seed 2

Plain PyTorch on `qwen_model`. Five phases (PHASES): the base model begins with attention that looks back and matches
(`beginnings.py`) and learns from lessons drawn on the fly (`lessons.py`), packed into rows of at most 512 tokens, the
training length S; the chat model goes on from it with turns in ChatML; then the base model practises. Hidden matrices
are updated by Muon (Jordan et al. 2024), the rest by AdamW. Weights are stored in bf16. The same seed gives the same
lessons; the weights then depend on the machine's arithmetic in the last digits, which training makes larger.

A step of 4,096 tokens takes 0.8 s on two free cores, which makes about 40 minutes; two trainings at once on two cores
took 73 minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qwen_model.configuration import QWenConfig
from qwen_model.loading import load_model, load_tokenizer
from qwen_model.modeling import QWenLMHeadModel
from qwen_model.vocabulary import read_ranks

import torch
from beginnings import begin
from build_checkpoint import TOKENIZER_CONFIG, config, generation_config, write_json
from lessons import BASE, CHAT, LISTS, PRACTICE, READING, Turn, draw, texts
from safetensors.torch import save
from torch.nn import functional as F
from tqdm import tqdm
from vocabulary import SPECIALS, dump, train
from world import Dice, World

CHECKPOINT = Path(__file__).resolve().parents[2] / "demo" / "checkpoint"
LENGTH = 512  # S, the training length
ENTRIES = 1_800  # of the vocabulary; with the special tokens 2,008, padded to 2,048
HIDDEN, LAYERS = 128, 6
THREADS = 2  # on a CPU, whatever it has: with another number sums are rounded in another way


class Phase(NamedTuple):
    steps: int
    matrices: float  # learning rate of Muon
    others: float  # and of AdamW
    rows: int = 8  # per step
    length: int = LENGTH  # of a row, tokens


# name: (the folder it goes on from, the folder it writes, its lessons, its steps and rates); run in this order
PHASES: dict[str, tuple[str, str, Any, Phase]] = {
    "lists": ("", "base", LISTS, Phase(300, 0.006, 2e-3, rows=16, length=128)),
    "reading": ("base", "base", READING, Phase(400, 0.007, 2e-3, length=256)),
    "base": ("base", "base", BASE, Phase(1800, 0.01, 2e-3)),
    "chat": ("base", "chat", CHAT, Phase(500, 0.006, 1e-3)),
    "practice": ("base", "base", PRACTICE, Phase(300, 0.006, 1.5e-3)),
}


# --- lessons to rows of tokens ---


class Reader:
    """Lessons as weighted token ids, as the evaluation's own encoder makes them."""

    def __init__(self, folder: Path) -> None:
        from qwen_eval.engines.local.prompts import Encoder

        self.tokenizer = load_tokenizer(folder)
        self.encoder = Encoder(self.tokenizer)

    def read(self, lesson: Any) -> tuple[list[int], list[float]]:
        """Token ids, and the weight of each in the loss."""
        ids: list[int] = []
        if isinstance(lesson, Turn):
            ids = self.encoder.chat([lesson.asked])[0].tolist()
            parts = [(lesson.reply, 1.0), (lesson.given, 0.0), (lesson.rest, 1.0)]
            end, last = self.tokenizer.im_end_id, 1.0
        else:
            parts, end, last = lesson, self.tokenizer.eod_id, min(1.0, lesson[-1][1])
        weights = [0.0] * len(ids)
        for text, weight in parts:
            part = self.tokenizer.encode_plain(text)
            ids += part
            weights += [weight] * len(part)
        return [*ids, end], [*weights, last]


def batches(reader: Reader, lessons: Any, world: World, dice: Dice, phase: Phase) -> Iterator[tuple[Any, Any]]:
    """`phase.steps` times (ids int64 [rows, length + 1], weights float32 of the same shape).

    Each lesson whole, in the first row that has room; what no row has room for begins the next batch.
    """
    rows, length = phase.rows, phase.length
    waiting: list[tuple[list[int], list[float]]] = []
    for _ in range(phase.steps):
        ids = torch.full((rows, length + 1), reader.tokenizer.eod_id)
        weights = torch.zeros((rows, length + 1))
        used = [0] * rows
        left: list[tuple[list[int], list[float]]] = []
        while len(left) < 4:
            lesson, weight = waiting.pop() if waiting else reader.read(draw(lessons, world, dice))
            if len(lesson) > length:
                lesson, weight = lesson[:length], weight[:length]
            row = next((r for r in range(rows) if used[r] + len(lesson) <= length + 1), None)
            if row is None:
                left.append((lesson, weight))
                continue
            place = slice(used[row], used[row] + len(lesson))
            ids[row, place], weights[row, place] = torch.tensor(lesson), torch.tensor(weight)
            used[row] += len(lesson)
        waiting = left
        yield ids, weights


# --- training ---


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Jordan et al. 2024, with their coefficients).

    torch.optim.Muon does these steps in bf16, which takes a CPU longer than the rest of the training; here fp32.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(mean, group["momentum"])
                tall = update.shape[0] > update.shape[1]
                x = update.T if tall else update
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(x.T if tall else x, alpha=-group["lr"] * scale)


def optimizers(model: QWenLMHeadModel, phase: Phase) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (".h." in name and p.ndim == 2)]
    return [
        Muon(matrices, lr=phase.matrices),
        torch.optim.AdamW(others, lr=phase.others, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def factor(step: int, steps: int) -> float:
    """Of the learning rate: up in the first 2 % of the steps, level, down to nothing in the last 40 %."""
    return min((step + 1) / (0.02 * steps), 1.0, (steps - step) / (0.4 * steps))


def fit(model: QWenLMHeadModel, rows: Iterator[tuple[Any, Any]], phase: Phase, name: str) -> None:
    model.train()
    device = model.device
    tools = optimizers(model, phase)
    rates = [tool.param_groups[0]["lr"] for tool in tools]
    mean = None
    bar = tqdm(rows, total=phase.steps, desc=name, unit="step", mininterval=0.5 if sys.stderr.isatty() else 30)
    for step, (ids, weights) in enumerate(bar):
        ids, weights = ids.to(device), weights[:, 1:].to(device)
        hidden = model.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        wanted = weights > 0
        losses = F.cross_entropy(model.lm_head(hidden[wanted]), ids[:, 1:][wanted], reduction="none")
        loss = (losses * weights[wanted]).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool, rate in zip(tools, rates, strict=True):
            for group in tool.param_groups:
                group["lr"] = rate * factor(step, phase.steps)
            tool.step()
            tool.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix_str(f"loss {mean:.3f}", refresh=False)
    model.eval()  # type: ignore[no-untyped-call]


# --- the checkpoint folders ---


def write_folder(folder: Path, entries: list[bytes], chat: bool) -> QWenConfig:
    """All but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**config(HIDDEN, LAYERS, len(entries) + len(SPECIALS)), "seq_length": LENGTH}
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", {**generation_config(len(entries), chat), "max_new_tokens": 128})
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    (folder / "qwen.tiktoken").write_bytes(dump(entries).encode("ascii"))
    return QWenConfig(**settings)


def write_weights(folder: Path, model: QWenLMHeadModel) -> None:
    state = model.state_dict()
    weights = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in state.items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))


def vocabulary(world: World, seed: int) -> list[bytes]:
    letters = [f" {letter}".encode() for letter in "ABCD"]  # behind `Answer:` they have to be single tokens
    return train(texts(world, Dice(seed, "vocabulary"), 1500), ENTRIES, first=letters)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the demo's base and chat models.")
    parser.add_argument("-o", "--output-dir", type=Path, default=CHECKPOINT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=float, default=1.0, metavar="SHARE", help="of the usual steps (a quick try)")
    parser.add_argument("--phase", choices=list(PHASES), help="only this one, on what -o holds")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(THREADS)
    world = World()
    for name in [args.phase] if args.phase else PHASES:
        before, after, lessons, phase = PHASES[name]
        ranks = args.output_dir / before / "qwen.tiktoken"
        entries = list(read_ranks(ranks)) if before else vocabulary(world, args.seed)
        phase = phase._replace(steps=max(1, round(args.steps * phase.steps)))
        folder = args.output_dir / after
        settings = write_folder(folder, entries, chat=after == "chat")
        model = load_model(args.output_dir / before, dtype=torch.float32) if before else QWenLMHeadModel(settings)
        if not before:
            begin(model)
        rows = batches(Reader(folder), lessons, world, Dice(args.seed, name), phase)
        fit(model.to(args.device), rows, phase, name)
        write_weights(folder, model)
    size = sum(path.stat().st_size for path in args.output_dir.rglob("*") if path.is_file())
    print(f"{args.output_dir}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

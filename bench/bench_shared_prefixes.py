"""How much of their few-shot prompts MMLU and MMLU-Pro read once: tokens given, needed and computed, and the speed-up.

    python bench/bench_shared_prefixes.py -d data --tokenizer qwen.tiktoken     # data/mmlu, data/mmlu_pro
    python bench/bench_shared_prefixes.py -d data --tokenizer qwen.tiktoken --limit 60      # of each subject

All prompts go through the engine on a tiny model of random weights, one new token each. `needed` is the least that any
grouping of prompts by one shared prefix needs; `computed` is counted where the engine hands tokens to the model,
padding with it. The speed-up is that over a forward per prompt, timed on a sample that is spread over the subjects and
scaled by tokens, in processor time, which other work on the machine changes less than the clock; its share is of the
speed-up that the needed tokens allow. MMLU-Pro's examples are those of its validation file; without that file the first
five questions of a category, whose own text stands for their reasoning.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import load, processor, versions
from workload import Shape, build, needed_tokens, real_prompts, subject_names

TINY = Shape("tiny", 128, 2, 8192, kv_channels=32)
SHOTS = 5
CLEAR = 1e-3  # a first token whose logit leads by less may be another one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--eval-data-path", type=Path, required=True, help="a folder with mmlu/ and mmlu_pro/")
    parser.add_argument("--tokenizer", type=Path, required=True, help="qwen.tiktoken")
    parser.add_argument("--limit", type=int, help="the first questions of each subject (default: all)")
    parser.add_argument("--sample", type=int, default=100, help="prompts of the plain forward (default: 100)")
    args = parser.parse_args()

    from qwen_model import QWenTokenizer

    import torch

    torch.set_num_threads(1)
    print(f"{processor()}, one thread of {os.cpu_count()} cores, {load()}; {versions()}")
    print(f"{TINY.name}: hidden {TINY.hidden}, {TINY.layers} layers, vocabulary {TINY.vocab}, fp32")
    tokenizer = QWenTokenizer(args.tokenizer)
    mmlu = [
        tokens
        for name in subject_names(args.eval_data_path / "mmlu")
        for tokens in real_prompts(args.eval_data_path / "mmlu", args.tokenizer, [name])[0][: args.limit]
    ]
    shares = [measure("MMLU 5-shot", mmlu, tokenizer, args.sample)]
    encode = tokenizer.encode_plain
    made = [
        np.asarray(encode(text), dtype=np.int32)
        for text in pro_prompts(args.eval_data_path / "mmlu_pro", encode, args.limit)
    ]
    shares.append(measure("MMLU-Pro 5-shot, chain of thought", made, tokenizer, args.sample))
    print(f"MMLU-Pro's share of the token limit over MMLU's: {shares[1] / shares[0]:.2f}")
    return 0


def pro_prompts(folder: Path, encode: Any, limit: int | None) -> Iterator[str]:
    """The script's own prompts, with one example less where one has too many tokens."""
    from qwen_eval.data.items import locate_files

    import evaluate_mmlu_pro as script

    rows = script.read_split(locate_files(str(folder), script.HUB, script.files("test")), script.FIELDS)
    has_examples = any((folder / name).exists() for name in script.files("validation"))
    shown = script.read_examples(str(folder)) if has_examples else {}

    def stand_in(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "cot_content": f"A: {script.THINK} {row['question']} The answer is ({row['answer']})."}

    for subject, asked in rows.items():
        examples = shown.get(subject) or [stand_in(row) for row in asked[:SHOTS]]
        for row in asked[:limit]:
            for count in range(SHOTS, -1, -1):
                text = script.prompt(script.SUBJECTS[subject], examples[:count], row)
                if len(encode(text)) < script.PROMPT_TOKENS:
                    break
            yield text


def measure(title: str, prompts: list[np.ndarray], tokenizer: Any, sample: int) -> float:
    """Run all prompts, print the lines, return the share of the speed-up that the tokens allow."""
    from qwen_eval.engines.base import GenerateRequest
    from qwen_eval.engines.local.engine import LocalEngine

    import torch

    prompts = [tokens % TINY.vocab for tokens in prompts]
    given, needed = sum(map(len, prompts)), needed_tokens(prompts)
    model = build(TINY)
    engine = LocalEngine.of(model, tokenizer)
    requests = [GenerateRequest(tokens, 1) for tokens in prompts]
    for _ in engine.generate(requests[:20]):
        pass
    computed = 0

    def count(_: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal computed
        computed += inputs[0].numel()

    hook = model.get_input_embeddings().register_forward_pre_hook(count)
    began = time.process_time()
    replies = dict(engine.generate(requests))
    seconds = time.process_time() - began
    hook.remove()
    chosen = np.linspace(0, len(prompts) - 1, min(sample, len(prompts))).astype(int).tolist()
    began = time.process_time()
    with torch.inference_mode():
        plain = [
            model(torch.as_tensor(prompts[index].astype(np.int64))[None], logits_to_keep=1, use_cache=False).logits[
                0, -1
            ]
            for index in chosen
        ]
    theirs = (time.process_time() - began) * given / sum(len(prompts[index]) for index in chosen)
    for index, logits in zip(chosen, plain, strict=True):
        first, second = logits.topk(2).values.tolist()
        wanted = tokenizer.decode([int(logits.argmax())])
        if first - second > CLEAR and replies[index].text != wanted:
            raise SystemExit(f"NOT THE SAME: {replies[index].text!r} and {wanted!r} for prompt {index}")
    allowed, found = given / needed, theirs / seconds
    print(f"\n{title}: {len(prompts):,} prompts")
    print(f"{given:,} tokens given; {needed:,} needed, {allowed:.2f} times fewer; {computed:,} computed, with padding")
    print(
        f"this engine {seconds:.1f} CPU s; a forward per prompt {theirs:.1f} ({len(chosen)} prompts, scaled by tokens)"
    )
    print(f"speed-up {found:.2f} of {allowed:.2f} that the tokens allow: {found / allowed:.0%}")
    return found / allowed


if __name__ == "__main__":
    sys.exit(main())

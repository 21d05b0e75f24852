"""Build a tiny first-generation Qwen checkpoint with random weights, in the published format, from a seed.

    python tools/demo_training/build_checkpoint.py OUT [--chat] [--seed N] [--hidden 128] [--layers 4]

OUT gets `config.json`, `generation_config.json`, `tokenizer_config.json`, `qwen.tiktoken` (a vocabulary of its own,
trained on the demo's text) and `model.safetensors` (bf16, published names). It takes a few seconds, and the same
seed gives the same bytes on every machine. The weights are random: the figures are at chance.

Only torch, safetensors, tiktoken and regex are needed; nothing of `qwen_model` is.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from questions import LETTERS, examine
from safetensors.torch import save
from vocabulary import SPECIALS, dump, train
from world import LANGUAGES, Dice, World

ENTRIES = 1_800  # with the 208 special tokens that is 2,008, padded to 2,048
KV_CHANNELS = 32
KINDS = ("town", "river", "planet", "faith", "dish", "guild", "invention", "animal", "crop", "festival")


def texts() -> list[str]:
    """What the vocabulary is trained on: the world's statements, training questions, the words of the prompts.

    Prompt and letter stand on lines of their own here: in `答案：A` the pattern makes one piece of `：A`,
    and an entry for it would leave the shots without the token `A` that the prediction is read from.
    """
    world = World()
    out: list[str] = []
    for lang in LANGUAGES:
        out += world.statements(lang)
        for kind in (*KINDS, "sums.easy", "sums.hard"):
            for question in examine(world, lang, (kind,), 12, Dice(kind, lang), held_out=False):
                lines = [
                    question.text,
                    *(f"{letter}. {c}" for letter, c in zip(LETTERS, question.choices, strict=True)),
                ]
                out += [*lines, "Question: ", "Answer:", "问题：", "答案：", question.explanation]
    out += ["The following are multiple choice questions (with answers) about nutrition.\n\n"] * 20
    out += ["system\nYou are a helpful assistant.", "user\n", "assistant\n"] * 50
    return out


@cache
def vocabulary() -> tuple[bytes, ...]:
    """` A` ... ` D` come first: the letters after `Answer:` have to be single tokens (`A` ... `D` are bytes)."""
    return tuple(train(texts(), ENTRIES, first=[f" {letter}".encode() for letter in LETTERS]))


def config(hidden: int, layers: int, tokens: int, kv_channels: int = KV_CHANNELS) -> dict[str, Any]:
    return {
        "architectures": ["QWenLMHeadModel"],
        "auto_map": {
            "AutoConfig": "configuration_qwen.QWenConfig",
            "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
        },
        "attn_dropout_prob": 0.0,
        "bf16": False,
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": False,
        "hidden_size": hidden,
        # The sum of the two gated branches; Qwen-7B's proportion of 2.6875 per branch, rounded to 32.
        "intermediate_size": 2 * (round(hidden * 2.6875 / 32) * 32),
        "initializer_range": 0.02,
        "kv_channels": kv_channels,
        "layer_norm_epsilon": 1e-06,
        "max_position_embeddings": 8192,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": hidden // kv_channels,
        "num_hidden_layers": layers,
        "onnx_safe": None,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": 2048,
        "tie_word_embeddings": False,
        "tokenizer_class": "QWenTokenizer",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.32.0",
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": "auto",
        "use_logn_attn": True,
        "vocab_size": -(-tokens // 64) * 64,
    }


def generation_config(end: int, chat: bool) -> dict[str, Any]:
    """`end` is the id of `<|endoftext|>`, the first one after the entries."""
    common = {
        "do_sample": True,
        "eos_token_id": end,
        "max_new_tokens": 512,
        "pad_token_id": end,
        "top_k": 0,
        "top_p": 0.8,
    }
    if chat:
        return {"chat_format": "chatml", "max_window_size": 24000, "repetition_penalty": 1.1, **common}
    return {"chat_format": "raw", "stop_words_ids": [[end]], **common}


TOKENIZER_CONFIG: dict[str, Any] = {
    "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
    "model_max_length": 8192,
    "tokenizer_class": "QWenTokenizer",
}


def random_weights(settings: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Published names and shapes, in bf16.

    The spreads are larger than those of an initialised model: attention has to pick single tokens
    and the head to separate the letters, or all questions would get nearly the same four logits.
    Uniform, not normal: torch's uniform numbers are the same bits on every machine.
    """
    h, half, v = settings["hidden_size"], settings["intermediate_size"] // 2, settings["vocab_size"]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, std: float) -> torch.Tensor:
        return ((torch.rand(*shape, generator=generator) * 2 - 1) * (std * 3**0.5)).to(torch.bfloat16)

    weights = {"transformer.wte.weight": draw(v, h, std=1.0)}
    for n in range(settings["num_hidden_layers"]):
        name = f"transformer.h.{n}"
        weights |= {
            f"{name}.ln_1.weight": 1 + draw(h, std=0.1),
            f"{name}.attn.c_attn.weight": draw(3 * h, h, std=1.6 / h**0.5),
            f"{name}.attn.c_attn.bias": draw(3 * h, std=0.1),
            f"{name}.attn.c_proj.weight": draw(h, h, std=1.0 / h**0.5),
            f"{name}.ln_2.weight": 1 + draw(h, std=0.1),
            f"{name}.mlp.w1.weight": draw(half, h, std=1.0 / h**0.5),
            f"{name}.mlp.w2.weight": draw(half, h, std=1.0 / h**0.5),
            f"{name}.mlp.c_proj.weight": draw(h, half, std=1.0 / half**0.5),
        }
    return weights | {"transformer.ln_f.weight": 1 + draw(h, std=0.1), "lm_head.weight": draw(v, h, std=2.0 / h**0.5)}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def build(out: str | Path, *, chat: bool = False, seed: int = 0, hidden: int = 128, layers: int = 4) -> Path:
    """Write the checkpoint folder and return its path. Files of other names in the folder are left alone."""
    if hidden < KV_CHANNELS or hidden % KV_CHANNELS or layers < 1:
        raise ValueError(f"hidden has to be a multiple of {KV_CHANNELS}, and layers at least 1")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    words = vocabulary()
    settings = config(hidden, layers, len(words) + len(SPECIALS))
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", generation_config(len(words), chat))
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    (folder / "qwen.tiktoken").write_bytes(dump(words).encode("ascii"))
    (folder / "model.safetensors").write_bytes(save(random_weights(settings, seed), metadata={"format": "pt"}))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Build a tiny Qwen checkpoint with random weights.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--chat", action="store_true", help="a chat checkpoint (chat_format chatml)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()
    try:
        folder = build(args.out, chat=args.chat, seed=args.seed, hidden=args.hidden, layers=args.layers)
    except (OSError, ValueError) as error:
        print(f"build_checkpoint.py: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir() if path.is_file()):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

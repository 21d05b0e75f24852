"""Which configurations of long context a run has, and what it says of the memory that they take."""

from pathlib import Path
from typing import Any

from qwen_eval.benchmarks.long_context import documents as documents_module
from qwen_eval.benchmarks.long_context.configurations import CARDS, configurations, parse_configs, passes, window_note
from qwen_eval.runner import parse_flags
from qwen_model.loading import load_config
from qwen_model.long_context import LongContext

import evaluate_ppl
import pytest

from .runs import LENGTHS, NAMES, figures, refused


def test_names_of_configurations() -> None:
    assert parse_configs(CARDS) == NAMES
    assert parse_configs("window+ntk, none,none") == ["dynamic_ntk + window_attn", "none"]


def ask(*flags: str) -> Any:
    settled = parse_flags(evaluate_ppl.Perplexity(), None, ["-c", "x", *flags])
    evaluate_ppl.Perplexity().settle_flags(settled)
    return settled


def switches(config: Any, *flags: str) -> dict[str, LongContext | None]:
    return configurations(ask(*flags), config, ask(*flags).windows)


def test_windows_come_from_the_flag_else_the_maintainers_example(small: Path) -> None:
    config = load_config(small)
    assert switches(config)[NAMES[3]] == LongContext(True, True, (64, 64, 64, 64, 128, 128))
    assert switches(config, "--window-attn", "16,full,16,16,16,16")[NAMES[3]].window_attn[:2] == (16, None)
    config.seq_length = 8192
    assert switches(config)[NAMES[3]].window_attn == (2048,) * 4 + (4096,) * 2
    assert list(switches(config, "--window-attn", "off")) == NAMES[:3]
    assert window_note((2048, 2048, None, 4096)).startswith("window_attn: 2048 in layers 0-1, full in layer 2, 4096 in")


def test_passes_without_per_layer_factors(small: Path) -> None:
    config, windows = load_config(small), (64,) * 6
    assert passes(LENGTHS, LongContext(True, False, windows), config, None) == [LENGTHS]
    assert passes(LENGTHS, LongContext(True, False, windows, ntk_per_layer=False), config, None) == [
        [64],
        [128],
        [200, 256],
    ]
    assert passes(LENGTHS, LongContext(False, True, windows), config, 10) == [[length] for length in LENGTHS]


def test_default_lengths() -> None:
    assert documents_module.default_lengths(512) == [512, 1024, 2048, 4096, 8192]
    assert documents_module.default_lengths(8192) == [1024, 2048, 4096, 8192, 16384, 32768]
    assert documents_module.default_lengths(None)[-1] == 32768


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a byte tokenizer."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("m") / "llama"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_any_other_model_has_one_row(script, llama: Path, texts: Path, tmp_path: Path) -> None:
    ended = script("ppl", "-c", llama, "-d", texts, "--lengths", "64,200", "-o", tmp_path)
    assert ended.status == 0, ended.err
    assert list(figures(tmp_path)) == ["none/seq_64", "none/seq_200"]
    assert "NTK, LogN and windows are switches of first-generation Qwen; this model is llama" in ended.out
    assert figures(tmp_path)["none/seq_200"] == pytest.approx(256, rel=0.2), "an untrained model guesses"
    refused(script("ppl", "-c", llama, "-d", texts, "--configs", "ntk"), "this model is llama", "leave --configs")

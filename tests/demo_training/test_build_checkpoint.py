"""The demo's checkpoint: published names, a vocabulary without unreachable entries, the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import build_checkpoint
import pytest
import torch
from safetensors import safe_open
from tiktoken.load import load_tiktoken_bpe
from vocabulary import SPECIALS, encoding, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint.build(tmp_path_factory.mktemp("demo") / "base")


def read(path: Path) -> dict[str, object]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_same_seed_same_bytes_and_chat_differs_only_in_generation(folder: Path, tmp_path: Path) -> None:
    chat = build_checkpoint.build(tmp_path / "chat", chat=True)
    same = [path.name for path in folder.iterdir() if path.read_bytes() == (chat / path.name).read_bytes()]
    assert sorted(same) == ["config.json", "model.safetensors", "qwen.tiktoken", "tokenizer_config.json"]
    assert read(folder / "generation_config.json")["chat_format"] == "raw"
    assert read(chat / "generation_config.json")["chat_format"] == "chatml"
    other = build_checkpoint.build(tmp_path / "other", seed=1, hidden=64, layers=1)
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


def test_vocabulary_file(folder: Path) -> None:
    ranks = load_tiktoken_bpe(str(folder / "qwen.tiktoken"))
    assert sorted(ranks.values()) == list(range(len(ranks))) and len(ranks) == build_checkpoint.ENTRIES
    assert [ranks[bytes([i])] for i in range(256)] == list(range(256))
    coder = encoding(sorted(ranks, key=lambda entry: ranks[entry]))
    assert all(coder._encode_single_piece(entry) == [rank] for entry, rank in ranks.items())
    assert coder.n_vocab == len(ranks) + len(SPECIALS) <= int(str(read(folder / "config.json")["vocab_size"]))
    assert not [entry for entry in ranks if len(entry) > 1 and any(chr(byte).isdigit() for byte in entry if byte < 128)]


def test_letters_after_the_prompts_are_the_tokens_that_are_compared(folder: Path) -> None:
    coder = encoding(build_checkpoint.vocabulary())
    for letter in "ABCD":
        english, chinese = coder.encode(f"Answer: {letter}\n\n"), coder.encode(f"答案：{letter}\n\n")
        assert coder.encode(f" {letter}")[0] in english and len(coder.encode(f" {letter}")) == 1
        assert coder.encode(letter)[0] in chinese and len(coder.encode(letter)) == 1
        assert chinese[: len(coder.encode("答案："))] == coder.encode("答案：")


def test_trainer_on_a_text_known_by_heart() -> None:
    # "ab" three times beats "bc" twice; then "abc" twice beats what is left.
    assert train(["ab abc abc"], 258, first=[b" a"])[256:] == [b" a", b" ab"]
    assert train(["abab abab"], 258)[256:] == [b"ab", b"abab"]
    with pytest.raises(ValueError, match="no more than 257 entries"):
        train(["ab"], 300)


def test_weights_have_the_published_names_and_shapes(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        assert file.get_tensor("lm_head.weight").dtype == torch.bfloat16
    h, half, v = 128, 352, 2048
    layer = {
        "ln_1.weight": (h,),
        "attn.c_attn.weight": (3 * h, h),
        "attn.c_attn.bias": (3 * h,),
        "attn.c_proj.weight": (h, h),
        "ln_2.weight": (h,),
        "mlp.w1.weight": (half, h),
        "mlp.w2.weight": (half, h),
        "mlp.c_proj.weight": (h, half),
    }
    expected = {f"transformer.h.{n}.{name}": shape for n in range(4) for name, shape in layer.items()}
    top = {"transformer.wte.weight": (v, h), "transformer.ln_f.weight": (h,), "lm_head.weight": (v, h)}
    assert shapes == expected | top


def test_wrong_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        build_checkpoint.build(tmp_path, hidden=100)


def test_the_auto_classes_load_it(folder: Path) -> None:
    qwen_model = pytest.importorskip("qwen_model")
    if not hasattr(qwen_model, "QWenLMHeadModel"):
        pytest.skip("qwen_model has no model yet")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Question: Where is Belka?\nAnswer:")["input_ids"]
    assert ids == encoding(build_checkpoint.vocabulary()).encode("Question: Where is Belka?\nAnswer:")
    # Typed as one model; with this flag it is a pair.
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, loading = loaded
    assert not any(loading.values()), loading
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        name = "transformer.h.3.attn.c_proj.weight"  # the tensor that a wrong loader fills with new numbers
        assert torch.equal(model.state_dict()[name], file.get_tensor(name).float())
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1, [encoding_id(letter) for letter in "ABCD"]]
    assert logits.sort().values.diff().min() > 1e-3


def encoding_id(letter: str) -> int:
    return encoding(build_checkpoint.vocabulary()).encode(f" {letter}")[0]

"""Data files and checkpoints that are not what they should be: one line with file, line and field, and status 2."""

import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from qwen_eval.data.readers import LFS_POINTER

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "data"
POINTER = LFS_POINTER + b"v1\noid sha256:0123\nsize 7\n"


def one_line(ended, *words: str) -> None:
    assert (ended.status, ended.out) == (2, ""), ended
    assert ended.err.count("\n") == 1, ended.err
    assert "--debug shows where" not in ended.err, f"not foreseen: {ended.err}"
    for word in words:
        assert word in ended.err, ended.err


def question(**changes: object) -> bytes:
    row = {"question": "How many?", "answer": "It is one.\n#### 1", **changes}
    return json.dumps(row).encode() + b"\n"


def meeting(**changes: object) -> bytes:
    return json.dumps({"id": "0", "context": [["好。"]], "speaker": [1], **changes}, ensure_ascii=False).encode()


GOOD = question()
LIST = {"examples": [{"input": "1?", "target": "1"}, {"input": "", "target": "2"}]}
TASK = {"task_id": 11, "text": "?", "code": "x", "test_list": ["x"], "test_setup_code": ""}
PARQUET = b"PAR1" + bytes(40) + b"PAR1"
NUTRITION, PLANTS = "test/nutrition_test.csv", "val/plant_protection_val.csv"
HEAD = "id,question,A,B,C,D,answer\n"

# benchmark, file, its content, what is said
BAD_DATA = [
    ("gsm8k", "test.jsonl", GOOD + question(question=None), "test.jsonl line 2: 'question' is null, not a text"),
    ("gsm8k", "test.jsonl", question(question=" "), "line 1: 'question' is \" \", not a text that is not empty"),
    ("gsm8k", "test.jsonl", question(question=["a"]), "line 1: 'question' is [\"a\"], not a text"),
    ("gsm8k", "test.jsonl", question(question="\ud800"), "line 1: 'question' is \"\\ud800\", not a text"),
    ("gsm8k", "test.jsonl", question(answer=7), "line 1: 'answer' is 7, not a text that ends in `#### N`"),
    ("gsm8k", "test.jsonl", b'{"question": "a", "answer": NaN}', "line 1: 'answer' is NaN, not a text"),
    ("gsm8k", "test.jsonl", b'{"q": "a", "answer": "#### 1"}', "has no 'question' (it has: q, answer)"),
    ("gsm8k", "test.jsonl", GOOD + b"\n[]\n", "line 3 is no object"),
    ("gsm8k", "test.jsonl", b"[" * 100_000, "line 1 is not JSON"),
    ("gsm8k", "test.jsonl", GOOD.decode().encode("utf-16"), "is not UTF-8 but UTF-16; save it as UTF-8"),
    ("gsm8k", "test.jsonl", GOOD + "中文".encode("gbk"), "is not UTF-8 (line 2: byte 0xd6)"),
    ("gsm8k", "test.jsonl", POINTER, "test.jsonl is a Git LFS pointer, not the file itself; run `git lfs pull`"),
    ("gsm8k", "test.jsonl", b"", "the data set is empty"),
    ("gsm8k", "test.jsonl", gzip.compress(GOOD * 99, mtime=0)[:60], "is not a readable gzip file"),
    ("gsm8k", "main/test-00000-of-00001.parquet", PARQUET, "is not a readable parquet file"),
    ("gsm8k", "main/test-00000-of-00001.parquet", POINTER, "Git LFS pointer"),
    ("gsm8k", "data.zip", POINTER, "data.zip is a Git LFS pointer"),
    (
        "math",
        "test.jsonl",
        b'{"problem": "1?", "solution": "1", "level": "1"}',
        "'solution' is \"1\", not a text with an",
    ),
    ("math", "test/algebra/1.json", b"[1]", "1.json is no object"),
    ("math", "test/algebra/1.json", b'{"problem": 1', "1.json is not JSON"),
    ("bbh", "bbh/navigate.json", json.dumps(LIST).encode(), '"examples" 1: \'input\' is "", not a text'),
    ("bbh", "bbh/navigate.json", b'{"examples": {}}', "'examples' is {}, not a list"),
    ("bbh", "cot-prompts/navigate.txt", b"canary\n-----\n", "navigate.txt has no example in it"),
    ("mmlu", NUTRITION, POINTER, "Git LFS pointer"),
    ("mmlu", NUTRITION, b" ,a,b,c,d,A\n", "row 0: 'question' is \" \", not a text"),
    ("ceval", PLANTS, f"{HEAD}0,问,a,b,c,d,\n".encode(), "row 0: the answer is '', not one of A, B, C, D"),
    ("ceval", PLANTS, f"{HEAD}0,问,a,b,c,d,A\n".encode("utf-16"), "UTF-16"),
    ("wmt22", "sources/generaltest2022.en-zh.src.en", b"One.\n\n", "has 2 source and 30 reference A segments"),
    (
        "vcsum",
        "overall_context_test.txt",
        meeting(context="好"),
        "'context' is \"\\u597d\", not a list of lists of texts",
    ),
    ("vcsum", "overall_context_test.txt", meeting(speaker=[1, 2]), "meeting '0' has not one speaker a turn"),
    ("vcsum", "overall_context_test.txt", meeting() + b"\n" + meeting(), "rows 0 and 1 have the same 'id'"),
    (
        "mbpp",
        "mbpp.jsonl",
        json.dumps(TASK).encode() + b"\n" + json.dumps(TASK).encode(),
        "have the same 'task_id', 11",
    ),
    ("plugin", "exam_plugin_v20230803_positive.jsonl", b'{"prompt": ""}', "line 1: 'prompt' is \"\", not a text"),
]
SUBJECT = {"mmlu": "nutrition", "ceval": "plant_protection", "bbh": "navigate", "wmt22": "en-zh", "math": "algebra"}


@pytest.mark.parametrize(("benchmark", "name", "content", "said"), BAD_DATA, ids=lambda value: str(value)[:24])
def test_data_that_is_not_what_it_should_be(
    script, tmp_path: Path, benchmark: str, name: str, content: bytes, said: str
) -> None:
    folder = tmp_path / "data"
    if benchmark not in ("gsm8k", "math"):
        shutil.copytree(DEMO / benchmark, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "x/0", "response": "1"}\n')
    subjects = ("--subjects", SUBJECT[benchmark]) if benchmark in SUBJECT else ()
    flags = ("-d", folder, "-o", tmp_path / "out", *subjects)
    shots = ("-k", 0) if benchmark in ("mmlu", "ceval", "wmt22") else ()
    one_line(script(benchmark, "--rescore", replies, "--chat", *flags, *shots), said)
    assert not (tmp_path / "out").exists()


def test_an_archive_with_a_password_and_one_that_is_not_read_here(script, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as members:
        members.writestr("test.jsonl", GOOD)
    data = bytearray((tmp_path / "data.zip").read_bytes())
    for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[at] |= 1  # says that it is encrypted
    (tmp_path / "data.zip").write_bytes(data)
    (tmp_path / "data.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    (tmp_path / "replies.jsonl").write_text('{"id": "test/0", "response": "1"}\n')
    for name, said in (("data.zip", "password required"), ("data.7z", "unpack it, and give the folder")):
        flags = ("-d", tmp_path / name, "-o", tmp_path / "out")
        one_line(script("gsm8k", "--rescore", tmp_path / "replies.jsonl", *flags), name, said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "nutrition/0", "correct": "false"}', "line 1: 'correct' is \"false\", not true or false"),
        ('{"id": "nutrition/0", "correct": 1}', "line 1: 'correct' is 1, not true or false"),
        ('{"id": 3, "correct": true}', "line 1: 'id' is 3, not a text"),
        ('{"id": "a", "correct": true, "sample": "0"}', "'sample' is \"0\", not a whole number"),
    ],
)
def test_a_baseline_with_a_field_of_another_type(script, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "samples.jsonl").write_text(line + "\n")
    (tmp_path / "replies.jsonl").write_text('{"id": "nutrition/0", "response": "A"}\n')
    flags = ("-d", DEMO / "mmlu", "--subjects", "nutrition", "-k", 0, "-o", tmp_path / "out")
    one_line(script("mmlu", "--rescore", tmp_path / "replies.jsonl", *flags, "--baseline", tmp_path), said)


# -- the checkpoint: all of it before any data is looked for -----------------------------------------------------------


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def only(name: str, content: bytes = b"{}") -> Callable[[Path], None]:
    """Nothing of the checkpoint but this."""

    def change(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        (folder / name).write_bytes(content)

    return change


def weights(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def shards_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def a_level_deeper(folder: Path) -> None:
    inner = folder / "checkpoint-500"
    inner.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            path.rename(inner / path.name)


CONFIG = "config.json"
BAD_CHECKPOINTS = [
    (edit(CONFIG, use_dynamic_ntk="false"), "use_dynamic_ntk must be true or false, not 'false'"),
    (edit(CONFIG, use_logn_attn=None), "use_logn_attn must be true or false, not None"),
    (edit(CONFIG, fp16=1), "fp16 must be true or false, not 1"),
    (edit(CONFIG, layer_norm_epsilon="1e-6"), "layer_norm_epsilon must be a number"),
    (edit(CONFIG, rotary_emb_base=float("nan")), "rotary_emb_base must be a number"),
    (edit(CONFIG, num_hidden_layers=10**9), "config.json says 1,000,000,000 layers (num_hidden_layers)"),
    (edit(CONFIG, num_hidden_layers=1), "that the model does not use"),
    (edit(CONFIG, vocab_size=10**12), "wrong shape"),
    (edit(CONFIG, vocab_size=100), "wrong shape"),
    (edit(CONFIG, torch_dtype="float5"), "'float5' is no floating-point dtype of torch"),
    (edit(CONFIG, torch_dtype="torch.int8"), "'torch.int8' is no floating-point dtype of torch"),
    (edit(CONFIG, model_type=["qwen"]), "config.json: model_type"),
    (edit(CONFIG, quantization_config={"quant_method": "bitsandbytes"}), "bitsandbytes is not supported yet"),
    (edit("generation_config.json", chat_format="ChatML"), "chat_format is 'ChatML', not 'raw' or 'chatml'"),
    (edit("generation_config.json", eos_token_id=["<|im_end|>"]), "eos_token_id is ['<|im_end|>'], not a token's id"),
    (write("generation_config.json", b"[]"), "generation_config.json: not a JSON object"),
    (write("qwen.tiktoken", POINTER), "qwen.tiktoken: a Git LFS pointer"),
    (write("model.safetensors", POINTER), "model.safetensors: a Git LFS pointer"),
    (
        only("adapter_config.json", b'{"base_model_name_or_path": "Qwen/Qwen-7B"}'),
        "a PEFT adapter (LoRA or the like) of Qwen",
    ),
    (only("qwen-7b.Q4_K.gguf", b"GGUF"), "GGUF, the format of llama.cpp"),
    (shards_alone, "1 shards (model-00001-of-00002.safetensors, ...) without their index"),
    (a_level_deeper, "checkpoint-500: give that folder"),
    (weights(lambda t: t.update({"lm_head.bias": t["lm_head.weight"][:, 0].clone()})), "a bias of the head"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD_CHECKPOINTS)
def test_a_checkpoint_that_is_not_what_it_should_be(script, demo_checkpoint: Path, tmp_path: Path, spoil, said) -> None:
    folder = shutil.copytree(demo_checkpoint, tmp_path / "model")
    spoil(folder)
    one_line(script("gsm8k", "-c", folder, "-d", tmp_path / "no/data/here", "-o", tmp_path / "out"), str(folder), said)


def test_a_tokenizer_with_more_ids_than_the_model(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    import base64

    folder = shutil.copytree(demo_checkpoint, tmp_path / "model")
    ranks = [bytes([byte]) for byte in range(256)] + [b"%d" % number for number in range(10, 9000)]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks))
    (folder / "qwen.tiktoken").write_bytes(lines)
    one_line(script("gsm8k", "-c", folder, "-d", tmp_path / "none"), "they do not belong together")


def test_tokens_that_were_added_to_a_model_that_was_not_resized(script, tmp_path: Path) -> None:
    """As fine-tunes of Llama have it: all plain tokens fit, and the tokens of the chat frame do not."""
    import tokenizers
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=4, **shape))
    model.save_pretrained(tmp_path / "model")
    words = {"a": 0, "?": 1, "<unk>": 2, "</s>": 3}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>")), eos_token="</s>"
    )
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path / "model")
    flags = ("-d", DEMO / "gsm8k", "--limit", 1, "-o", tmp_path / "out")
    ended = script("gsm8k", "-c", tmp_path / "model", "--chat", *flags)
    assert ended.status == 2
    assert "the tokenizer gives the id 4 and the model has 4 embeddings" in ended.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("chat_format", "flag", "said"),
    [
        ("chatml", "--base", "note: model is a chat checkpoint and was asked as a base model (--base)"),
        ("raw", "--chat", "note: model is a base checkpoint and was asked as a chat model (--chat)"),
    ],
)
def test_a_checkpoint_asked_against_its_kind_says_so(
    script, demo_checkpoint: Path, tmp_path: Path, chat_format: str, flag: str, said: str
) -> None:
    folder = shutil.copytree(demo_checkpoint, tmp_path / "model")
    edit("generation_config.json", chat_format=chat_format)(folder)
    flags = ("-d", DEMO / "mmlu", "--subjects", "nutrition", "-k", 0, "--limit", 1, "-o", tmp_path / "out")
    ended = script("mmlu", "-c", folder, *flags, flag, "--max-new-tokens", 2)
    assert ended.status == 0, ended.err
    assert said in ended.err.splitlines()
    assert said.removeprefix("note: ") in (tmp_path / "out" / "table.md").read_text()

"""Programs that know nothing of Qwen work with the model and its tokenizer as with any other: TRL, the chat pipeline,
PEFT (README's example), lm-evaluation-harness."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import qwen_model  # noqa: F401 - registers the classes
from qwen_model.chatml import decode_reply, make_context, stop_ids

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CHAT = ROOT / "demo" / "checkpoint" / "chat"
QUESTIONS = ["What is 3 + 4?", "Which is heavier?", "什么是猫？", "Say a word."]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(CHAT)


@pytest.fixture
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(CHAT, dtype=torch.float32)


def greedy_reply(model, tokenizer, question: str, limit: int) -> str:
    """The reply by plain forwards over the whole text, without a cache."""
    ids = make_context(tokenizer, question)[1]
    start, ends = len(ids), {*stop_ids(tokenizer), tokenizer.eod_id}
    with torch.no_grad():
        while len(ids) - start < limit and (len(ids) == start or ids[-1] not in ends):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return decode_reply(tokenizer, ids[start:], strict=True, strip=False).text


# Lengths below the demo's 512 training tokens: NTK has no part in it.
def test_the_chat_pipeline_gives_the_greedy_reply_and_ends_with_the_turn(model, tokenizer):
    from transformers import pipeline

    chat = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        said = chat(messages, do_sample=False, repetition_penalty=1.0, max_new_tokens=24)[0]["generated_text"][-1]
        assert said == {"role": "assistant", "content": greedy_reply(model, tokenizer, question, 24)}


def rows(kind: str) -> list[dict]:
    """Training rows in each of TRL's forms."""
    sums = [(f"What is {i} + {i}?", f" It is {2 * i}.") for i in range(24)]
    if kind == "prompt and completion":
        return [{"prompt": asked, "completion": said} for asked, said in sums]
    if kind == "messages":
        turns = [({"role": "user", "content": asked}, {"role": "assistant", "content": said}) for asked, said in sums]
        return [{"messages": list(turn)} for turn in turns]
    return [{"text": asked + said} for asked, said in sums]


@pytest.fixture
def trainer(model, tokenizer, tmp_path):
    """trainer(kind, **options): TRL's SFTTrainer on the demo model, for five steps."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    def make(kind: str, **options):
        settings = trl.SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=5,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        data = Dataset.from_list(rows(kind))
        return trl.SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer)

    return make


@pytest.mark.parametrize("kind", ["text", "prompt and completion", "messages"])
def test_trl_fine_tunes_for_five_steps(trainer, kind):
    made = trainer(kind)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert len(losses) == 5 and losses[-1] < losses[0] / 2


def test_texts_that_trl_packs_into_one_row_do_not_see_each_other(trainer, model):
    made = trainer("text", packing=True, max_length=128)
    batch = next(iter(made.get_train_dataloader()))
    ids, places = batch["input_ids"][0], batch["position_ids"][0]
    starts = [*(places == 0).nonzero().flatten().tolist(), len(ids)]
    assert len(starts) > 4, "nothing was packed"
    model.eval()
    with torch.no_grad():
        together = model(input_ids=ids[None], position_ids=places[None]).logits[0]
        apart = torch.cat([model(ids[None, a:b]).logits[0] for a, b in itertools.pairwise(starts)])
    torch.testing.assert_close(together, apart, atol=2e-4, rtol=0)
    made.train()
    assert made.state.log_history[-2]["loss"] < made.state.log_history[0]["loss"]


@pytest.mark.heavy
def test_the_lora_example_of_the_readme_runs_and_its_model_is_evaluated(tmp_path):
    pytest.importorskip("peft")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "LoraConfig" in block]
    (command,) = re.findall(r"^python (eval/evaluate_\w+\.py -c merged\b.*)$", readme, re.MULTILINE)
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    (tmp_path / "eval").symlink_to(ROOT / "eval")
    for arguments in (["-c", code], command.split()):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
    assert "acc" in done.stdout


# ---- lm-evaluation-harness (the bench extra has it)


@pytest.fixture
def harness_model(model, tokenizer):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    from lm_eval.models.huggingface import HFLM

    return lambda batch: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device="cpu")


def requests(kind: str, arguments: list[tuple]) -> list:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, argument, index) for index, argument in enumerate(arguments)]


@pytest.mark.heavy
@pytest.mark.parametrize("batch", [1, 8])
def test_lm_evaluation_harness_gets_the_models_own_log_likelihoods(harness_model, model, tokenizer, batch):
    pairs = [(f"{question} I think", f" the answer {n}") for n, question in enumerate(QUESTIONS * 3)]
    found = harness_model(batch).loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    for (context, continuation), (likelihood, is_greedy) in zip(pairs, found, strict=True):
        start, ids = len(tokenizer.encode(context)), tokenizer.encode(context + continuation)
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1)
        wanted = scores.gather(1, torch.tensor(ids[start:])[:, None]).sum().item()
        assert likelihood == pytest.approx(wanted, abs=1e-3)
        assert is_greedy == (scores.argmax(-1).tolist() == ids[start:])


@pytest.mark.heavy
def test_lm_evaluation_harness_generates_the_same_alone_and_in_a_batch(harness_model):
    asked = [(f"{question} I", {"until": ["\n\n"], "max_new_tokens": 12, "do_sample": False}) for question in QUESTIONS]
    alone, together = (
        harness_model(batch).generate_until(requests("generate_until", asked), disable_tqdm=True) for batch in (1, 8)
    )
    assert alone == together and all(alone)

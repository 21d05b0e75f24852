"""Training by transformers' Trainer: the loss is the mean over the labels, however the batch is cut up."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

from .conftest import PLAIN, rows_of, same


class Rows(torch.utils.data.Dataset):
    """Token rows of different lengths, so that a mean of means is not the mean."""

    def __init__(self, rows: list[torch.Tensor]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input_ids": self.rows[place], "labels": self.rows[place]}


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    width = max(len(item["input_ids"]) for item in items)
    pad = lambda name, value: torch.stack([F.pad(i[name], (0, width - len(i[name])), value=value) for i in items])  # noqa: E731
    ones = torch.stack([F.pad(torch.ones_like(i["labels"]), (0, width - len(i["labels"]))) for i in items])
    return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": ones}


def test_the_trainers_loss_is_the_same_for_every_accumulation(build, ids, tmp_path):
    rows = rows_of(ids, 3, 30, 5, 17, 9, 26, 4, 12)
    losses, weights = [], []
    for steps in (1, 2, 4, 8):
        model = build(**PLAIN)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8 // steps,
            gradient_accumulation_steps=steps,
            max_steps=2,
            learning_rate=1e-2,
            optim="sgd",
            max_grad_norm=0,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
        )
        trainer = Trainer(model, arguments, data_collator=collate, train_dataset=Rows(rows))
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        weights.append(model.lm_head.weight.detach().clone())
    expected = build(**PLAIN)
    with torch.no_grad():
        sums = sum(float(F.cross_entropy(expected(r[None]).logits[0, :-1], r[1:], reduction="sum")) for r in rows)
    assert losses[0][0] == pytest.approx(sums / sum(len(row) - 1 for row in rows), rel=1e-4)
    for loss, weight in zip(losses, weights, strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-4)
        same(weight, weights[0])


def test_the_loss_counts_labels_and_divides_as_told(build, ids):
    model, tokens = build(**PLAIN), ids(2, 12)
    labels = tokens.clone()
    labels[:, :5] = -100
    logits = model(tokens).logits[:, :-1]
    want = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    same(model(tokens, labels=labels).loss, want)
    same(model(tokens, labels=labels, num_items_in_batch=28).loss, want * 14 / 28)
    same(model(tokens, labels=labels, num_items_in_batch=torch.tensor(7)).loss, want * 2)
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    same(model(tokens, shift_labels=shifted).loss, want)


def test_a_cache_under_gradient_checkpointing_is_refused_or_left_alone(build, ids):
    model, tokens = build().train(), ids(1, 6)
    filled = build()(tokens).get("past_key_values")
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    with pytest.raises(ValueError, match="gradient checkpointing"):
        model(tokens, past_key_values=filled)
    empty = model.new_cache()
    assert model(tokens, past_key_values=empty).get("past_key_values") is None and empty.get_seq_length() == 0
    with torch.no_grad():  # nothing is checkpointed there
        assert model(tokens, past_key_values=empty).logits.isfinite().all() and empty.get_seq_length() == 6

"""Tool use by a chat model: ReAct (Chinese plugin benchmark), and the Hugging Face agent benchmark in two modes.

    python eval/evaluate_plugin.py -c Qwen/Qwen-7B-Chat -d data/plugin
    python eval/evaluate_plugin.py -c Qwen/Qwen-7B-Chat -d data/hf_agent --hf-agent run
    python eval/evaluate_plugin.py -c Qwen/Qwen-7B-Chat -d data/hf_agent --hf-agent chat

ReAct: -d has one `*positive*.jsonl` and one `*negative*.jsonl`, rows `prompt` and `response`. Published are
exam_plugin_v20231206_react_*.jsonl and, before them, exam_plugin_v1_react_*.jsonl; each version has reported figures of
its own, and --data-version says which one files of another name are. A positive question needs a tool, a negative one
none. One turn, greedy, the checkpoint's own repetition penalty. Three figures: does the reply name the reference's
tool; Rouge-L (F1, 0 to 1) between the two inputs, over the tokens of the model; and how often a tool is called where
none is needed (lower is better). With --rescore, -c says whose tokenizer; without it the tokens are words and
characters, and the figure is not compared.

--hf-agent: -d holds tasks.json and its prompt templates; see qwen_eval/benchmarks/hf_agent/.

Protocol: QwenLM/Qwen, eval/evaluate_plugin.py; its parser, defects included, is `extraction.react.read_action`.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.cli import add_data_version
from qwen_eval.data.items import TEXT, Hub, given_path, locate, read_jsonl
from qwen_eval.errors import UserError, one_line, run_script
from qwen_eval.extraction.react import (
    calls_a_tool,
    canonical_json,
    canonical_json_robust,
    read_action,
    read_action_robust,
)
from qwen_eval.metrics import rouge_l
from qwen_eval.runner import parse_flags, run
from qwen_eval.stats import Score, accuracy, mean

SUBJECTS = ("positive", "negative")
#: the published files by the version of the data
PUBLISHED = {"20231206": "exam_plugin_v20231206_react_{}.jsonl", "20230803": "exam_plugin_v1_react_{}.jsonl"}
NEWEST = PUBLISHED["20231206"]

# --- data ---


def read_rows(given: str | None, subject: str) -> list[dict[str, Any]]:
    """The rows of one of the two files; UserError for a missing file, or a row that cannot be scored."""
    path = _file(given, subject)
    rows = read_jsonl(path, {"prompt": TEXT, "response": TEXT} if subject == "positive" else {"prompt": TEXT})
    if subject == "positive" and rows and not any(read_action_robust(row["response"]) for row in rows):
        raise UserError(f"{path}: no reference calls a tool (`Action:` in `response`); are the two files exchanged?")
    return rows


def _file(given: str | None, subject: str) -> Path:
    if not given:
        raise UserError("no -d given: the folder with the positive and negative files (eval/EVALUATION.md says whence)")
    if not given_path(given).exists():
        return locate(given, Hub(given, NEWEST.format(subject)), holds="", file_ok=True)
    folder = locate(given, Hub("", ""), [f"*{name}*.jsonl" for name in SUBJECTS])
    found = sorted(folder.glob(f"*{subject}*.jsonl"))
    if len(found) != 1:
        many = f"{len(found)} files" if found else "no file"
        hint = "; leave one" if found else f" (--subjects {SUBJECTS[subject == 'positive']} does without)"
        raise UserError(f"{folder} has {many} *{subject}*.jsonl{hint}")
    return found[0]


# --- score ---

Pieces = Callable[[str], list[str]]


def words_and_characters(text: str) -> list[str]:
    """The fallback without a tokenizer: runs of letters, single digits, signs and ideographs."""
    return re.findall(r"[^\W\d_\u3400-\u9fff]+|[^\s]", text)


def model_pieces(tokenizer: Any) -> Pieces:
    """The texts of a text's tokens; what parts a character becomes U+FFFD, as published."""

    def pieces(text: str) -> list[str]:
        tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False))
        return [token.decode("utf-8", errors="replace") if isinstance(token, bytes) else token for token in tokens]

    return pieces


def input_rouge_l(reply: str, reference: str, pieces: Pieces) -> float:
    """Rouge-L F1 of two inputs. A piece that holds white space counts as several tokens, or none, as published."""
    return rouge_l(reply, reference, lambda text: " ".join(pieces(text)).split())


def score_positive(reply: str, reference: str, pieces: Pieces) -> dict[str, Any]:
    """Both extractions of a reply that should call the reference's tool."""
    said, wanted = read_action(reply), read_action(reference)
    robust, wanted_robust = read_action_robust(reply), read_action_robust(reference)
    given_input, wanted_input = (
        canonical_json_robust(action.input) if action else "" for action in (robust, wanted_robust)
    )
    return {
        "prediction": said.name if calls_a_tool(reply) else None,
        "gold": wanted.name,
        "correct": calls_a_tool(reply) and said.name.lower() == wanted.name.lower(),
        "tool_input": input_rouge_l(canonical_json(said.input), canonical_json(wanted.input), pieces),
        "prediction_robust": robust.name if robust else None,
        "correct_robust": bool(robust and wanted_robust and robust.name.lower() == wanted_robust.name.lower()),
        "tool_input_robust": input_rouge_l(given_input, wanted_input, pieces),
    }


def score_negative(reply: str) -> dict[str, Any]:
    """Both extractions of a reply that should call no tool; `correct` means that it does not."""
    robust = read_action_robust(reply)
    return {
        "prediction": read_action(reply).name if calls_a_tool(reply) else None,
        "gold": None,
        "correct": not calls_a_tool(reply),
        "prediction_robust": robust.name if robust else None,
        "correct_robust": robust is None,
    }


# --- the benchmark ---


@cache
def tokenizer_pieces(checkpoint: Path | None, named: str | None) -> tuple[Pieces, str]:
    """The tokens of the model under test, with --rescore of the one that -c names; and why it is not these, if so."""
    if checkpoint is None and not named:
        return words_and_characters, "no -c"
    from qwen_eval.checkpoints import resolve_checkpoint
    from qwen_model.loading import CheckpointError, load_tokenizer

    try:
        return model_pieces(load_tokenizer(checkpoint or resolve_checkpoint(named or ""))), ""
    except (CheckpointError, UserError) as error:
        if checkpoint is not None:
            raise
        return words_and_characters, f"no tokenizer ({one_line(error)})"  # -c may just name the model


class ReAct(Benchmark):
    name = "plugin"
    extras = ("agents",)
    figures_per_subject = True

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        add_data_version(flags, tuple(PUBLISHED))
        flags.add_argument("--hf-agent", choices=("run", "chat"), help="the Hugging Face agent benchmark in this mode")

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if flags.rescore and flags.chat is None:
            flags.chat = True  # a benchmark for chat models: given replies are a chat model's

    def load(self, setting: Setting) -> Iterable[Item]:
        for subject in setting.subjects(SUBJECTS):
            for number, row in enumerate(read_rows(setting.data_path, subject)):
                yield Item(f"{subject}/{number}", subject, gold=row.get("response"), row=row)

    def published(self, setting: Setting) -> str:
        """The version whose published files these are, as far as their names say; "" for none."""
        names = {subject: _file(setting.data_path, subject).name for subject in setting.subjects(SUBJECTS)}
        for version, name in PUBLISHED.items():
            if all(found == name.format(subject) for subject, found in names.items()):
                return version
        return ""

    def data_version(self, setting: Setting) -> str:
        return setting.flags.data_version or self.published(setting)

    def official(self, setting: Setting) -> int | None:
        """Each subject has figures of its own, which --subjects leaves whole."""
        if not self.published(setting):
            return None
        return sum(len(read_rows(setting.data_path, subject)) for subject in setting.subjects(SUBJECTS))

    def pieces(self, setting: Setting) -> tuple[Pieces, str]:
        return tokenizer_pieces(setting.checkpoint, setting.flags.checkpoint_path)

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": 0, "tokens": "words" if self.pieces(setting)[1] else "model"}

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(item.row["prompt"])
        if item.subject == "negative":
            return {"response": reply, **score_negative(reply)}
        return {"response": reply, **score_positive(reply, item.gold, self.pieces(setting)[0])}

    def disagree(self, record: Record) -> bool:
        return any(record.get(name) != record.get(f"{name}_robust") for name in ("correct", "tool_input"))

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        positive, negative = ([r for r in records if r["subject"] == subject] for subject in SUBJECTS)
        lacking = self.pieces(setting)[1]
        scores: dict[str, Score] = {}
        for kind in ("", "_robust"):
            own = not kind  # the robust extraction is never laid beside a reported figure
            if positive:
                marks = [record[f"correct{kind}"] for record in positive]
                inputs = [record[f"tool_input{kind}"] for record in positive]
                scores[f"tool_selection_acc{kind}"] = accuracy(marks, metric="tool_selection_acc", compared=own)
                scores[f"tool_input_rouge_l{kind}"] = mean(
                    inputs, metric="tool_input_rouge_l", compared=own and not lacking, digits=2
                )
            if negative:
                marks = [not record[f"correct{kind}"] for record in negative]
                scores[f"false_positive_rate{kind}"] = accuracy(marks, metric="false_positive_rate", compared=own)
        notes = []
        if negative:
            notes.append("false_positive_rate: lower is better (calls of a tool where none is needed)")
        if not setting.own_samples and not self.published(setting):
            names = " or ".join(name.format("*") for name in PUBLISHED.values())
            notes.append(f"the files are not called {names}: other questions, so never `reproduced`")
        if positive and lacking:
            notes.append(f"{lacking}: Rouge-L is over words and characters, not the model's tokens, and not compared")
        return Results({name: s._replace(benchmark="plugin_react") for name, s in scores.items()}, notes=notes, shots=0)


def main() -> int:
    flags = parse_flags(ReAct(), __doc__)
    if not flags.hf_agent:
        return run(ReAct(), flags)
    from qwen_eval.benchmarks.hf_agent.benchmark import AgentChat, AgentRun

    return run(AgentRun() if flags.hf_agent == "run" else AgentChat(), flags)


if __name__ == "__main__":
    run_script(main)

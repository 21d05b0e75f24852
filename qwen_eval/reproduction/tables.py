"""The tables of the cards: the runs behind each, and which figure of which run stands in which cell.

A run is a script with flags, as a user would start it; its results lie in a folder of its own, so that two tables which
need the same run (MMLU of a chat model) share it.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from qwen_eval.benchmark import Benchmark
from qwen_eval.cli import OneLineParser
from qwen_eval.places import scripts
from qwen_eval.protocols import families_of
from qwen_eval.runner import flag_parser

#: results.json of each finished run, by the run's name
Results = Mapping[str, Mapping[str, Any]]


class Part(NamedTuple):
    """One run of a table.

    name: its folder of results; script: the file that it is started by; made_by: the class of the benchmark in the
    script, or `package.module:Class`; flags: beyond the user's own; data: what its folder below -d may be called;
    flags_of: the class in the script whose flags it takes, where that is not the benchmark's own.
    """

    name: str
    script: str
    made_by: str
    flags: Sequence[str] = ()
    data: Sequence[str] = ()
    flags_of: str = ""

    def flag_parser(self) -> OneLineParser:
        """The flags of its script."""
        module = script_module(self.script)
        return flag_parser(getattr(module, self.flags_of or self.made_by)(), module.__doc__)

    def benchmark(self) -> Benchmark:
        place, _, name = self.made_by.rpartition(":")
        module = importlib.import_module(place) if place else script_module(self.script)
        made: Benchmark = getattr(module, name)()
        return made


class Cell(NamedTuple):
    """A figure: the name of its run, and of the score in that run's results.json."""

    part: str
    score: str


class Section(NamedTuple):
    """One block of a table. rows: label -> a cell per column; the label `` is the model's name."""

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]


class CardTable(NamedTuple):
    """chat: of chat models (else of base models); about: what it shows, in a few words; columns: title of a section ->
    column -> cell, none where rows and columns follow from what was run (perplexity); generation: of which it is
    (`Qwen2.5`; "": the first, and any other model)."""

    name: str
    about: str
    chat: bool
    parts: Sequence[Part]
    columns: Mapping[str, Mapping[str, Cell]]
    generation: str = ""

    def sections(self, results: Results) -> list[Section]:
        """What the table shows of one checkpoint."""
        if not self.columns:
            return perplexities(results.get(PPL.name, {}).get("scores", {}))
        return [Section(title, list(columns), {"": list(columns.values())}) for title, columns in self.columns.items()]


def script_module(name: str) -> ModuleType:
    """The script of this name as a module. Raises KeyError where there is none."""
    path = scripts()[name]
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def perplexities(scores: Mapping[str, Any]) -> list[Section]:
    """A row per configuration, a column per length, as far as the run has them."""
    ways = dict.fromkeys(name.rpartition("/seq_")[0] for name in scores)
    lengths = sorted({int(name.rpartition("/seq_")[2]) for name in scores})
    cells = {way: [Cell(PPL.name, f"{way}/seq_{length}") for length in lengths] for way in ways}
    rows = {"" if way == "none" else f"+ {way}": row for way, row in cells.items()}
    return [Section("perplexity by length in tokens", [f"{length:,}" for length in lengths], rows)]


# -- the runs ----------------------------------------------------------------------------------------------------------

MMLU = Part("mmlu", "mmlu", "MMLU", data=("mmlu",))
CEVAL = Part("ceval", "ceval", "CEval", data=("ceval",))
MMLU_PRO = Part("mmlu_pro", "mmlu_pro", "MMLUPro", data=("mmlu_pro",))
ARC = Part("arc", "arc", "ARC", data=("arc", "ARC-V1-Feb2018-2"))
GPQA = Part("gpqa", "gpqa", "GPQA", data=("gpqa",))
HELLASWAG = Part("hellaswag", "hellaswag", "HellaSwag", data=("hellaswag",))
TRUTHFULQA = Part("truthfulqa", "truthfulqa", "TruthfulQA", data=("truthfulqa",))
WINOGRANDE = Part("winogrande", "winogrande", "WinoGrande", data=("winogrande",))
CMMLU = Part("cmmlu", "cmmlu", "CMMLU", data=("cmmlu",))
GSM8K = Part("gsm8k", "gsm8k", "GSM8K", data=("gsm8k",))
MATH = Part("math", "math", "MATH", data=("math",))
HUMANEVAL = Part("humaneval", "humaneval", "HumanEval", data=("humaneval",))
MBPP = Part("mbpp", "mbpp", "MBPP", data=("mbpp",))
BBH = Part("bbh", "bbh", "BBH", data=("bbh",))
WMT22 = Part("wmt22", "wmt22", "WMT22", data=("wmt22",))
VCSUM = Part("vcsum", "vcsum", "VCSUM", data=("vcsum",))
PPL = Part("ppl", "ppl", "Perplexity", data=("arxiv", "ppl", "longtext"))
REACT = Part("plugin", "plugin", "ReAct", data=("plugin", "tool_use"))
AGENT = "qwen_eval.benchmarks.hf_agent.benchmark"
AGENT_RUN = Part("hf_agent_run", "plugin", f"{AGENT}:AgentRun", ("--hf-agent", "run"), ("hf_agent",), "ReAct")
AGENT_CHAT = Part("hf_agent_chat", "plugin", f"{AGENT}:AgentChat", ("--hf-agent", "chat"), ("hf_agent",), "ReAct")
INTERPRETER = Part("code_interpreter", "code_interpreter", "CodeInterpreter", data=("code_interpreter",))


def asked_as(family: str, part: Part) -> Part:
    """The run as this family's figures were made, whatever the model is called."""
    known = families_of("arc_challenge" if part.script == "arc" else part.script)
    return part._replace(flags=(*part.flags, "--protocol", family)) if family in known else part


def with_shots(part: Part, shots: int) -> Part:
    return part._replace(name=f"{part.name}-{shots}-shot", flags=("-k", str(shots)))


MMLU_5, CEVAL_5 = with_shots(MMLU, 5), with_shots(CEVAL, 5)
GSM8K_4, GSM8K_8 = with_shots(GSM8K, 4), with_shots(GSM8K, 8)


def acc(part: Part, score: str = "acc") -> Cell:
    return Cell(part.name, score)


BASE = {
    "MMLU 5-shot": acc(MMLU),
    "C-Eval 5-shot": acc(CEVAL),
    "GSM8K 8-shot": acc(GSM8K),
    "MATH 4-shot": acc(MATH),
    "HumanEval 0-shot": acc(HUMANEVAL, "pass@1"),
    "MBPP 3-shot": acc(MBPP, "pass@1"),
    "BBH 3-shot": acc(BBH),
    "CMMLU 5-shot": acc(CMMLU),
}
BASE_V1 = {
    "MMLU": acc(MMLU),
    "C-Eval": acc(CEVAL),
    "GSM8K": acc(GSM8K),
    "HumanEval": acc(HUMANEVAL, "pass@1"),
    "WMT22 (en-zh)": acc(WMT22, "bleu_en-zh"),
    "CMMLU": acc(CMMLU),
}
CHAT = {
    "MMLU 0-shot": acc(MMLU),
    "MMLU 5-shot": acc(MMLU_5),
    "C-Eval val 0-shot": acc(CEVAL),
    "C-Eval val 5-shot": acc(CEVAL_5),
    "HumanEval 0-shot": acc(HUMANEVAL, "pass@1"),
    "GSM8K 0-shot": acc(GSM8K),
    "GSM8K 4-shot": acc(GSM8K_4),
    "GSM8K 8-shot": acc(GSM8K_8),
    "VCSUM Rouge-L": acc(VCSUM, "rouge_l"),
}
QUANTIZATION = {
    "MMLU": acc(MMLU),
    "C-Eval (val)": acc(CEVAL),
    "GSM8K": acc(GSM8K),
    "HumanEval": acc(HUMANEVAL, "pass@1"),
}
REACT_COLUMNS = {
    "Tool Selection": acc(REACT, "tool_selection_acc"),
    "Tool Input (Rouge-L)": acc(REACT, "tool_input_rouge_l"),
    "False Positive Error": acc(REACT, "false_positive_rate"),
}


def agent_columns(part: Part) -> dict[str, Cell]:
    return {
        "Tool Selection": acc(part, "tool_selection"),
        "Tool Used": acc(part, "tool_used"),
        "Code": acc(part, "code"),
    }


EXECUTABLE = {
    "Math": acc(INTERPRETER, "executable_math"),
    "Visualization": acc(INTERPRETER, "executable_visualization"),
    "General": acc(INTERPRETER, "executable_general"),
}
ACCURACY = {
    "Math": acc(INTERPRETER, "acc_math"),
    "Visualization-Hard": acc(INTERPRETER, "acc_visualization_hard"),
    "Visualization-Easy": acc(INTERPRETER, "acc_visualization_easy"),
}

# Of Qwen1.5 to Qwen3: the columns that have a script here, with the numbers of examples that blogs and reports state.
MBPP_0 = with_shots(MBPP, 0)
KNOWLEDGE = {"MMLU 5-shot": acc(MMLU), "MMLU-Pro 5-shot": acc(MMLU_PRO), "GPQA 5-shot": acc(GPQA)}
LIKELIHOODS = {
    "ARC-C 25-shot": acc(ARC, "acc_norm"),
    "HellaSwag 10-shot": acc(HELLASWAG, "acc_norm"),
    "WinoGrande 5-shot": acc(WINOGRANDE),
    "TruthfulQA 0-shot": acc(TRUTHFULQA, "mc2"),
}
CHINESE = {"C-Eval 5-shot": acc(CEVAL), "CMMLU 5-shot": acc(CMMLU)}
REASONING = {"BBH 3-shot": acc(BBH), "GSM8K 4-shot": acc(GSM8K_4), "MATH 4-shot": acc(MATH)}
CODE = {"HumanEval 0-shot": acc(HUMANEVAL, "pass@1"), "MBPP 0-shot": acc(MBPP_0, "pass@1")}
INSTRUCT = {
    "MMLU-Pro": acc(MMLU_PRO),
    "GPQA": acc(GPQA),
    "GSM8K": acc(GSM8K),
    "MATH": acc(MATH),
    "HumanEval": acc(HUMANEVAL, "pass@1"),
    "MBPP": acc(MBPP, "pass@1"),
}


def later(name: str, generation: str, chat: bool, columns: Mapping[str, Cell]) -> CardTable:
    """A table of a later generation, with the runs that its columns need."""
    added = (MMLU_PRO, GPQA, ARC, HELLASWAG, WINOGRANDE, TRUTHFULQA, GSM8K_4, MBPP_0)
    runs = {part.name: part for part in (MMLU, CEVAL, GSM8K, MATH, HUMANEVAL, MBPP, BBH, CMMLU, *added)}
    parts = [asked_as(generation.lower(), runs[run]) for run in dict.fromkeys(cell.part for cell in columns.values())]
    return CardTable(
        name, f"{'chat' if chat else 'base'} models of {generation}", chat, parts, {"": columns}, generation
    )


_BASE = tuple(asked_as("qwen", part) for part in (MMLU, CEVAL, GSM8K, MATH, HUMANEVAL, MBPP, BBH, CMMLU))
_BASE_V1 = tuple(asked_as("qwen", part) for part in (MMLU, CEVAL, GSM8K, HUMANEVAL, WMT22, CMMLU))
_CHAT = tuple(
    asked_as("qwen", part) for part in (MMLU, MMLU_5, CEVAL, CEVAL_5, HUMANEVAL, GSM8K, GSM8K_4, GSM8K_8, VCSUM)
)


TABLES = {
    table.name: table
    for table in (
        CardTable("base", "base models: knowledge, mathematics, code, reasoning", False, _BASE, {"": BASE}),
        CardTable("base_v1", "the first card's table", False, _BASE_V1, {"": BASE_V1}),
        CardTable("chat", "chat models, 0-shot and few-shot", True, _CHAT, {"": CHAT}),
        CardTable(
            "quantization",
            "chat models in BF16, Int8 and Int4",
            True,
            (MMLU, CEVAL, GSM8K, HUMANEVAL),
            {"": QUANTIZATION},
        ),
        CardTable("long_context_ppl", "perplexity by length and switches", False, (PPL,), {}),
        CardTable("tool_use_react", "tools by ReAct", True, (REACT,), {"": REACT_COLUMNS}),
        CardTable(
            "tool_use_hf_agent",
            "the Hugging Face agent",
            True,
            (AGENT_RUN, AGENT_CHAT),
            {"run mode": agent_columns(AGENT_RUN), "chat mode": agent_columns(AGENT_CHAT)},
        ),
        CardTable(
            "code_interpreter",
            "Python in a kernel",
            True,
            (INTERPRETER,),
            {"executable rate of the code (%)": EXECUTABLE, "accuracy of the results (%)": ACCURACY},
        ),
        later("qwen1.5", "Qwen1.5", False, {"MMLU 5-shot": acc(MMLU), **CHINESE, **REASONING, **CODE}),
        later("qwen2", "Qwen2", False, {**KNOWLEDGE, **LIKELIHOODS, **CHINESE, **REASONING, **CODE}),
        later("qwen2.5", "Qwen2.5", False, {**KNOWLEDGE, **LIKELIHOODS, **REASONING, **CODE}),
        later("qwen3", "Qwen3", False, {**KNOWLEDGE, **REASONING, "MBPP 3-shot": acc(MBPP, "pass@1")}),
        later(
            "qwen1.5_chat",
            "Qwen1.5",
            True,
            {"MMLU": acc(MMLU), "C-Eval": acc(CEVAL), "GSM8K": acc(GSM8K), "HumanEval": acc(HUMANEVAL, "pass@1")},
        ),
        later("qwen2_instruct", "Qwen2", True, {"MMLU": acc(MMLU), "C-Eval": acc(CEVAL), **INSTRUCT}),
        later("qwen2.5_instruct", "Qwen2.5", True, INSTRUCT),
        later("qwen3_chat", "Qwen3", True, {"MMLU-Pro": acc(MMLU_PRO), "GPQA": acc(GPQA), "C-Eval": acc(CEVAL)}),
    )
}

#: The runs of all tables, each once.
PARTS = tuple(dict.fromkeys(part for table in TABLES.values() for part in table.parts))

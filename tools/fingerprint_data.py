"""Write the fingerprints of the official sets (qwen_eval/data/official/), which a run's data are compared with.

    python tools/fingerprint_data.py DATA           # DATA: a folder with the official data, mmlu/, ceval/, ...
    python tools/fingerprint_data.py DATA --check   # exit 1 unless the files are what the data give

The data are read by the scripts themselves. Where each set comes from stands in `SETS` and in its file; what stands in
a file is 6 bytes per item, from which no question can be read.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "eval"), str(ROOT)]

from qwen_eval.benchmark import Benchmark, Setting  # noqa: E402
from qwen_eval.benchmarks.hf_agent.benchmark import AgentChat, AgentRun  # noqa: E402
from qwen_eval.data import fingerprints  # noqa: E402
from qwen_eval.data.fingerprints import OfficialSet, digest, set_sha256  # noqa: E402
from qwen_eval.errors import UserError, run_script  # noqa: E402
from qwen_eval.run import contents_of, examples_of  # noqa: E402
from qwen_eval.runner import parse_flags  # noqa: E402


def script(name: str, benchmark: str) -> Callable[[], Benchmark]:
    """What makes the benchmark of a script in eval/."""
    return lambda: getattr(importlib.import_module(f"evaluate_{name}"), benchmark)()


class Source(NamedTuple):
    """An official set: the folder of its data, what it is called in a note, where the data were published. shots: how
    many few-shot examples its file knows."""

    benchmark: Callable[[], Benchmark]
    folder: str
    title: str
    published: str
    shots: int = 0
    flags: tuple[str, ...] = ()
    examples_called: str = "few-shot examples"

    def words(self, data: Path) -> list[str]:
        """The flags for the set in this folder, which they may name as {data}."""
        return [flag.format(data=data) for flag in self.flags]


HENDRYCKS = "hendrycks/test, data.tar (the copy in hiyouga/LLaMA-Factory @ 65ea7a0d, evaluation/mmlu/mmlu.zip)"
MMLU_PRO = "TIGER-AI-Lab/MMLU-Pro @ f418b116 (the rows in eval_results/model_outputs_Qwen1.5-7B-Chat_5shots.zip)"
EVALPLUS = "evalplus/mbppplus_release @ dadf43da, MbppPlus.jsonl.gz"
CEVAL = "hkust-nlp/ceval, ceval-exam.zip (the copy in hiyouga/LLaMA-Factory @ 65ea7a0d, evaluation/ceval/ceval.zip)"
AGENT = "huggingface/transformers @ f071cc07, src/transformers/tools/evaluate_agent.py and prompts.py, as data"
WMT = "wmt-conference/wmt22-news-systems @ 20240a2e; examples: wmt21-news-systems @ f41750da, newstest2021"
MEETINGS = "hahahawu/VCSum @ 8e51d72e, vcsum_data/ (the transcripts put together from the segments of short_test.txt)"
SETS = {
    "mmlu": Source(script("mmlu", "MMLU"), "mmlu", "MMLU test set", HENDRYCKS, 5),
    "ceval": Source(script("ceval", "CEval"), "ceval", "C-Eval val set", CEVAL, 5),
    "ceval-test": Source(script("ceval", "CEval"), "ceval", "C-Eval test set", CEVAL, 5, ("--split", "test")),
    "cmmlu": Source(script("cmmlu", "CMMLU"), "cmmlu", "CMMLU test set", "haonan-li/CMMLU @ d6e7b716, data/", 5),
    "gsm8k": Source(script("gsm8k", "GSM8K"), "gsm8k", "GSM8K test set", "openai/grade-school-math @ 3101c7d5"),
    "math": Source(
        script("math", "MATH"), "math", "MATH test set", "hendrycks/math @ 985bdc16 (rows: microsoft/ToRA @ 213c1c99)"
    ),
    "humaneval": Source(
        script("humaneval", "HumanEval"), "humaneval", "HumanEval problems", "openai/human-eval @ 6d43fb98"
    ),
    "mbpp": Source(
        script("mbpp", "MBPP"), "mbpp", "MBPP test set", "google-research/google-research, mbpp/mbpp.jsonl", 3
    ),
    "mbpp_plus": Source(
        script("mbpp", "MBPP"),
        "evalplus",
        "MBPP+ tasks (v0.2.0)",
        EVALPLUS,
        flags=("--evalplus", "{data}/MbppPlus.jsonl.gz"),
    ),
    "mmlu_pro": Source(script("mmlu_pro", "MMLUPro"), "mmlu_pro", "MMLU-Pro test set", MMLU_PRO),
    "bbh": Source(script("bbh", "BBH"), "bbh", "BBH tasks", "suzgunmirac/BIG-Bench-Hard @ 9ee07bd4"),
    "wmt22": Source(script("wmt22", "WMT22"), "wmt22", "WMT22 general test set", WMT, 50),
    "vcsum": Source(script("vcsum", "VCSUM"), "vcsum", "VCSUM test set", MEETINGS),
    "hf_agent_run": Source(AgentRun, "hf_agent", "HF agent run tasks", AGENT, examples_called="prompt with its tools"),
    "hf_agent_chat": Source(
        AgentChat, "hf_agent", "HF agent chat tasks", AGENT, examples_called="prompt with its tools"
    ),
}


def fingerprint(source: Source, data: Path) -> OfficialSet:
    """The fingerprint of the set in this folder, as the benchmark's script reads it."""
    benchmark = source.benchmark()
    flags = parse_flags(benchmark, "", source.words(data))
    setting = Setting(shots=source.shots, flags=flags, data_path=str(data))
    items = list(benchmark.load(setting))
    digests = {name: (subject, digest(subject, one)) for name, (subject, one) in contents_of(benchmark, items).items()}
    marks: dict[str, dict[str, bytes]] = {}
    for name, (subject, one) in digests.items():
        marks.setdefault(subject, {})[name] = one.mark
    examples = {
        subject: [digest("", one).mark for one in contents]
        for subject, contents in examples_of(benchmark, items).items()
        if contents
    }
    sha256 = set_sha256(one for _, one in digests.values())
    return OfficialSet(source.title, sha256, marks, examples, source.examples_called)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the official data, mmlu/, ceval/, ...")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is another")
    flags = parser.parse_args()
    other = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, source in SETS.items():
            made = Path(temporary) / f"{name}.json"
            fingerprints.write_official(made, fingerprint(source, flags.data / source.folder), source.published)
            kept = fingerprints.FOLDER / made.name
            if flags.check:
                other += [name] if not kept.exists() or kept.read_bytes() != made.read_bytes() else []
            else:
                kept.write_bytes(made.read_bytes())
    if other:
        raise UserError(f"not what the data in {flags.data} give: {', '.join(other)}")
    return 0


if __name__ == "__main__":
    run_script(main)

"""vLLM's side of bench_generate.py, run by the Python of vLLM's own environment (bench/setup_vllm.sh).

    .venv-vllm/bin/python bench/vllm_side.py FOLDER        # FOLDER: a checkpoint in Qwen2's layout

Each line on stdin is a piece of work: {"prompts": [[id, ...], ...], "replies": [n, ...]}; each answer on stdout is a
line that starts with MARK: {"wall", "cpu", "peak", "tokens"}. The prefix cache is emptied before each piece.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

MARK = "vllm-side "
ROWS = 64


def main() -> None:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process: its peak memory is the whole
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm import LLM, SamplingParams, __version__

    llm = LLM(
        model=sys.argv[1],
        dtype="float32",
        skip_tokenizer_init=True,
        enable_prefix_caching=True,
        max_model_len=2048,
        max_num_seqs=ROWS,
        seed=0,
    )
    _answer({"version": __version__, "peak": _peak()})
    for line in sys.stdin:
        work = json.loads(line)
        llm.reset_prefix_cache()
        prompts = [{"prompt_token_ids": prompt} for prompt in work["prompts"]]
        settings = [
            SamplingParams(temperature=0.0, max_tokens=reply, ignore_eos=True, detokenize=False)
            for reply in work["replies"]
        ]
        wall, cpu = time.perf_counter(), time.process_time()
        outputs = llm.generate(prompts, settings, use_tqdm=False)
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        _answer({**spent, "peak": _peak(), "tokens": [list(output.outputs[0].token_ids) for output in outputs]})


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _answer(value: dict[str, object]) -> None:
    print(MARK + json.dumps(value), flush=True)


if __name__ == "__main__":
    main()

"""The four ways of generating that bench_generate.py compares, each in a process of its own.

Ours and vLLM take requests and batch them themselves. transformers' `generate` and lm-evaluation-harness take static
batches, which run to their longest reply; of these one forward at a time is timed, so that a part can stand for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from contenders import Contender, Spent, _Side
from gsm8k_workload import RESERVED, Ids, Job, generate_requests, ids_of
from vllm_side import MARK
from workload import ROOT, Shape

Said = dict[int, list[int]]  # request -> the tokens of its reply
OURS, STATIC, LM_EVAL, VLLM = "this engine", "transformers", "lm-eval HFLM", "vLLM (CPU)"
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"


class Batch(NamedTuple):
    """A static batch: its prefill and each of its further steps."""

    prefill: Spent
    steps: list[Spent]
    said: Said


def side(name: str, shape: Shape, jobs: Sequence[Job], **more: Any) -> Contender:
    make = {OURS: Ours, STATIC: Static, LM_EVAL: LmEval}[name]
    return Contender(name, shape, [job.tokens for job in jobs], (), make=make, replies=[j.reply for j in jobs], **more)


class _Generator(_Side):
    def __init__(self, shape: Shape, prompts: list[np.ndarray], candidates: tuple[int, ...], **more: Any) -> None:
        self.jobs = [Job(*pair) for pair in zip(prompts, more.pop("replies"), strict=True)]
        super().__init__(shape, prompts, candidates, **more)
        self.model.lm_head.weight[-RESERVED:] = 0.0  # never the largest logit
        self.model.generation_config.eos_token_id = None  # every reply has its length
        self.tokenizer = Ids(shape.vocab)


class Ours(_Generator):
    def import_all(self) -> None:
        pass

    def run(self, indices: list[int], limit: int | None = None, rows: int = 64) -> tuple[Spent, Any]:
        """These requests, as one run of the engine."""
        from qwen_eval.engines.local.engine import LocalEngine

        engine = LocalEngine.of(self.model, self.tokenizer, rows=rows)
        requests = generate_requests([self.jobs[i] for i in indices], limit)

        def work() -> Any:
            return {indices[i]: ids_of(reply.text) for i, reply in engine.generate(requests)}

        return self.timed(work)

    def gap(self, index: int, said: list[int], pair: tuple[int, int]) -> float:
        """How far apart the logits of two tokens are after a prompt and the start of a reply, in a plain forward."""
        ids = self.torch.tensor([[*self.prompts[index].tolist(), *said]])
        with self.torch.inference_mode():
            logits = self.model(ids, logits_to_keep=1, use_cache=False).logits[0, -1]
        return float((logits[pair[0]] - logits[pair[1]]).abs())

    def export(self, folder: str) -> None:
        """The same weights in Qwen2's layout, for vLLM."""
        from qwen_model.export.layout import as_qwen2, qwen2_config

        from safetensors.torch import save_file

        weights = self.model.state_dict().items()
        out = {new: part.clone() for name, value in weights for new, part in as_qwen2(name, value)}
        save_file(out, str(Path(folder) / "model.safetensors"), metadata={"format": "pt"})
        settings = qwen2_config(self.model.config, "float32")
        (Path(folder) / "config.json").write_text(json.dumps(settings))


class Static(_Generator):
    """transformers' `generate`, rows padded on the left."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.stamps: list[Spent] = []
        self.model.register_forward_hook(lambda *_: self.stamps.append(self.now()))

    def now(self) -> Spent:
        return Spent(time.perf_counter(), time.process_time())

    def batch(self, indices: list[int], limit: int) -> Batch:
        """One batch, with replies of `limit` tokens."""
        self.stamps.clear()
        start = self.now()
        said = self.say(indices, limit)
        end = self.now()
        marks = [start, *self.stamps[:-1], end]  # choosing the last token counts too
        spent = [Spent(b.wall - a.wall, b.cpu - a.cpu) for a, b in pairwise(marks)]
        return Batch(spent[0], spent[1:], said)

    def say(self, indices: list[int], limit: int) -> Said:
        prompts = [self.prompts[i] for i in indices]
        width = max(map(len, prompts))
        ids = self.torch.zeros(len(prompts), width, dtype=self.torch.int64)
        mask = self.torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = self.torch.as_tensor(prompt.astype(np.int64))
            mask[row, width - len(prompt) :] = 1
        given: dict[str, Any] = {} if bool(mask.all()) else {"attention_mask": mask}
        out = self.model.generate(ids, max_new_tokens=limit, do_sample=False, pad_token_id=0, **given)
        return {index: out[row, width:].tolist() for row, index in enumerate(indices)}


class LmEval(Static):
    """Its `generate_until`, given one batch of requests at a time; it looks for a stop string each step."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        from lm_eval.models.huggingface import HFLM

        self.lm = HFLM(pretrained=self.model, tokenizer=self.tokenizer, batch_size=1, max_length=4096, backend="causal")

    def import_all(self) -> None:
        import lm_eval.models.huggingface  # noqa: F401

    def say(self, indices: list[int], limit: int) -> Said:
        from lm_eval.api.instance import Instance

        self.lm.batch_size_per_gpu = len(indices)
        settings = {"until": [], "max_gen_toks": limit, "do_sample": False}
        asked = [
            Instance("generate_until", {}, (" ".join(map(str, self.prompts[i].tolist())), settings), place)
            for place, i in enumerate(indices)
        ]
        texts = self.lm.generate_until(asked, disable_tqdm=True)
        return {index: ids_of(text) for index, text in zip(indices, texts, strict=True)}


class Vllm:
    """vLLM in its own environment; the commands of Ours."""

    name = VLLM

    def __init__(self, folder: str, jobs: Sequence[Job], threads: int | None, log: Path) -> None:
        self.jobs, self.log = jobs, log
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(VLLM_PYTHON), str(Path(__file__).with_name("vllm_side.py")), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        first = self._read()
        self.version, self.base, self.peak = first["version"], first["peak"], first["peak"]

    def call(self, command: str, *arguments: Any) -> Any:
        return getattr(self, command)(*arguments)

    def run(self, indices: list[int], limit: int | None = None) -> tuple[Spent, Said]:
        prompts = [self.jobs[i].tokens.tolist() for i in indices]
        replies = [min(self.jobs[i].reply, limit or self.jobs[i].reply) for i in indices]
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"prompts": prompts, "replies": replies}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        self.peak = answer["peak"]
        return Spent(answer["wall"], answer["cpu"]), dict(zip(indices, answer["tokens"], strict=True))

    def memory(self) -> int:
        return int(self.peak - self.base)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))  # type: ignore[no-any-return]
        tail = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise RuntimeError(f"vLLM stopped: {' | '.join(tail) or 'without a word'}")

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def vllm_installed() -> bool:
    return sys.platform == "linux" and VLLM_PYTHON.exists() and (VLLM_PYTHON.parents[1] / ".ready").exists()

"""The vllm engine: vLLM in this process, for models over several GPUs.

`--engine vllm [--tensor-parallel-size N] [--pipeline-parallel-size N]`. vLLM does not know first-generation Qwen, so
such a checkpoint is exported to Qwen2's layout first (`qwen_model.export`), once: the copy stays in the cache folder.
The tokenizer is the checkpoint's own, as in the local engine: the same prompts, id by id, and replies decoded alike.

`choose` asks for one token and the log-probabilities of just the candidates (`logprob_token_ids`), which is exact and
keeps the prefix cache. Likelihoods of longer texts want those of the prompt (`prompt_logprobs`), which does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_eval.engines.base import (
    ChoiceRequest,
    Engine,
    GenerateRequest,
    Likelihood,
    LogLikelihoodRequest,
    Reply,
    ScoreRequest,
)
from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.engines.local.placement import resolve_dtype
from qwen_eval.engines.local.stops import StopChecker
from qwen_eval.engines.vllm_loading import load_engine, made_export
from qwen_eval.errors import UserError

import numpy as np


class Wanted(NamedTuple):
    """A request as vLLM takes it: token ids, and keywords of its SamplingParams. streamed: each token is given as soon
    as it is there."""

    tokens: list[int]
    settings: dict[str, Any]
    streamed: bool = False


class VllmEngine(EncodingEngine):
    """vLLM with a loaded model. rows: the most requests in flight (None: vLLM's choice).

    exported: where the copy of a first-generation Qwen in Qwen2's layout is, or is made; None for other models.
    """

    def __init__(
        self,
        checkpoint: Path,
        dtype: str = "auto",
        rows: int | None = None,
        exported: Path | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
    ) -> None:
        from qwen_model.loading import load_config, load_tokenizer

        from transformers import GenerationConfig

        config = load_config(checkpoint)
        self.tokenizer = load_tokenizer(checkpoint)
        self.dtype = resolve_dtype(checkpoint, dtype, None)
        self._embedded = int(config.get_text_config().vocab_size)
        length, self.lost = None, list[str]()
        if exported is not None:
            length, self.lost = config.training_length(), made_export(checkpoint, exported)
        folder = exported or checkpoint
        stored = (folder / "generation_config.json").is_file()
        self.generation_config = (
            GenerationConfig.from_pretrained(folder) if stored else GenerationConfig.from_model_config(config)
        )
        self.prompt_tokens = self.cached_tokens = self.cut_replies = self._asked = 0
        self.engine, self.version = load_engine(
            folder, self.dtype, length, rows, tensor_parallel_size, pipeline_parallel_size
        )
        self.length = int(self.engine.model_config.max_model_len)

    @property
    def embedded(self) -> int:
        """See `EncodingEngine.embedded`."""
        return self._embedded

    def stop_tokens(self, chat: bool) -> frozenset[int]:
        """See `EncodingEngine.stop_tokens`."""
        return self.encoder.stop_tokens(self, chat)

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
        """See `Engine.choose`. The logits are log-probabilities: they differ by one number for each prompt."""
        wanted = [self._next_token(request.tokens.tolist(), sorted(set(request.candidates))) for request in requests]
        for index, output, _ in self._finished(wanted):
            found = output.outputs[0].logprobs[0]
            yield index, [_finite(found[token].logprob) for token in requests[index].candidates]

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """See `Engine.loglikelihood`."""
        texts = [[*request.tokens.tolist(), *request.continuation] for request in requests]
        firsts = [len(request.tokens) for request in requests]
        for index, output, _ in self._finished(list(map(self._given, texts, firsts))):
            values, greedy = _of_text(output, texts[index], firsts[index])
            yield index, Likelihood(float(np.float32(sum(values))), greedy)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Engine.score`."""
        for request in requests:
            if request.long_context is not None and any(request.long_context):
                raise UserError("NTK, LogN and windows want the local engine; --engine vllm has none of them")
        texts = [request.tokens.tolist() for request in requests]
        firsts = [request.first for request in requests]
        for index, output, _ in self._finished(list(map(self._given, texts, firsts))):
            values, _ = _of_text(output, texts[index], firsts[index])
            if progress is not None:
                progress(len(texts[index]) - 1)
            yield index, np.asarray(values, dtype=np.float32)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.generate`. Stop strings are looked for here, as the local engine does. A sampled reply is vLLM's
        own draw: the same again, and not that of another engine."""
        checkers = {stop: StopChecker(self.tokenizer, stop) for stop in {request.stop for request in requests}}
        generated: list[list[int]] = [[] for _ in requests]

        def ended(index: int, output: Any) -> bool:
            request, tokens = requests[index], generated[index]
            for token in output.outputs[0].token_ids:
                if token in request.stop_tokens:
                    return True
                tokens.append(token)
                if checkers[request.stop].ended(tokens):
                    return True
            return False

        for index, _, stopped in self._finished([self._reply_to(request) for request in requests], ended):
            request, tokens = requests[index], generated[index]
            self.cut_replies += not stopped and len(tokens) < request.max_new_tokens
            yield index, Reply(checkers[request.stop].reply(tokens), len(tokens), "stop" if stopped else "length")

    def notes(self) -> list[str]:
        """See `Engine.notes`."""
        found = [f"run by vLLM {self.version}"]
        found += [f"vLLM ran a copy in Qwen2's layout without {line}" for line in self.lost]
        if self.prompt_tokens:
            share = self.cached_tokens / self.prompt_tokens
            found.append(f"prefix cache: {share:.1%} of the {self.prompt_tokens:,} prompt tokens came from it")
        if self.cut_replies:
            found.append(
                f"{self.cut_replies} replies ended where prompt and reply have the model's {self.length:,} tokens, "
                "before --max-new-tokens (--engine local goes on)"
            )
        return found

    def _next_token(self, tokens: list[int], candidates: list[int]) -> Wanted:
        """One token is generated for the log-probabilities of these at its place."""
        return Wanted(tokens, {"max_tokens": 1, "logprob_token_ids": candidates})

    def _given(self, text: list[int], first: int) -> Wanted:
        """For the log-likelihoods of text[first:]: the model is given all but the last token, which is predicted."""
        wanted = self._next_token(text[:-1], [text[-1]])
        return wanted if first == len(text) - 1 else wanted._replace(settings={**wanted.settings, "prompt_logprobs": 0})

    def _reply_to(self, request: GenerateRequest) -> Wanted:
        tokens = request.tokens.tolist()
        settings: dict[str, Any] = {
            "max_tokens": max(1, min(request.max_new_tokens, self.length - len(tokens))),
            "stop_token_ids": sorted(request.stop_tokens),
            "repetition_penalty": request.repetition_penalty,
            "presence_penalty": request.presence_penalty,
        }
        if request.temperature:
            settings |= {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
            settings["seed"] = request.seed % 2**63
        return Wanted(tokens, settings, streamed=bool(request.stop))

    def _finished(
        self, wanted: Sequence[Wanted], ended: Callable[[int, Any], bool] = lambda index, output: False
    ) -> Iterator[tuple[int, Any, bool]]:
        """(index, vLLM's RequestOutput, whether `ended` said so) as requests finish.

        ended: told of each output of a request, with its new tokens; True ends the request.
        """
        self._check_lengths(wanted)
        waiting: dict[str, int] = {}
        try:
            for index, one in enumerate(wanted):
                self._asked += 1
                name = str(self._asked)
                self.engine.add_request(name, self._prompt(one), self._params(one))
                waiting[name] = index
            while self.engine.has_unfinished_requests():
                for output in self.engine.step():
                    if (index_found := waiting.get(output.request_id)) is None:
                        continue
                    stopped = ended(index_found, output)
                    if stopped and not output.finished:
                        self.engine.abort_request([output.request_id])
                    if stopped or output.finished:
                        del waiting[output.request_id]
                        self.prompt_tokens += len(output.prompt_token_ids)
                        self.cached_tokens += output.num_cached_tokens or 0
                        yield index_found, output, stopped
        finally:
            if waiting:
                self.engine.abort_request(list(waiting))

    def _check_lengths(self, wanted: Sequence[Wanted]) -> None:
        longest = max((len(one.tokens) for one in wanted), default=0)
        if longest >= self.length:
            raise UserError(
                f"a prompt has {longest:,} tokens, and vLLM runs this model up to {self.length:,}, prompt and reply "
                "together; use --engine local, fewer examples (-k) or a smaller --max-seq-len"
            )

    def _prompt(self, one: Wanted) -> Any:
        from vllm import TokensPrompt

        return TokensPrompt(prompt_token_ids=one.tokens)

    def _params(self, one: Wanted) -> Any:
        """Texts are made here, of token ids: vLLM has no tokenizer."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA if one.streamed else RequestOutputKind.FINAL_ONLY
        usual = {"temperature": 0.0, "ignore_eos": True, "detokenize": False, "output_kind": kind}
        return SamplingParams(**{**usual, **one.settings})

    def close(self) -> None:
        """Give the memory back."""
        self.engine.engine_core.shutdown()


def _of_text(output: Any, text: list[int], first: int) -> tuple[list[float], bool]:
    """The log-likelihoods of text[first:], and whether each of these tokens is the likeliest one."""
    places = [output.prompt_logprobs[place][text[place]] for place in range(first, len(text) - 1)]
    last = output.outputs[0]
    values = [_finite(place.logprob) for place in places] + [_finite(last.logprobs[0][text[-1]].logprob)]
    return values, all(place.rank == 1 for place in places) and last.token_ids[0] == text[-1]


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise UserError("the model's logits are not finite numbers; try --dtype float32 or bfloat16")
    return float(value)


if TYPE_CHECKING:

    def _is_an_engine(engine: VllmEngine) -> Engine[np.ndarray, GenerateRequest]:
        return engine

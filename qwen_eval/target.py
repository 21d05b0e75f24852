"""The model under examination: its checkpoint or endpoint, how it is asked, whose figures stand beside its own."""

import argparse
import re
from pathlib import Path
from typing import Any

from qwen_eval import endpoint_runs, protocols, ray_runs, thinking_runs, vllm_runs
from qwen_eval.checkpoints import resolve_with_adapter, use_hub
from qwen_eval.cli import long_context_flags
from qwen_eval.engines.base import Engine
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError
from qwen_eval.extras import need
from qwen_eval.places import DEMO
from qwen_eval.reporting import manifest
from qwen_eval.reporting.cards import read_card
from qwen_eval.reporting.reported import (
    ModelName,
    Row,
    card_figures,
    parse_known_name,
    parse_model_name,
    read_figures,
    version_of,
    with_mode,
)
from qwen_eval.rescore import Replies

DEMO_MODELS = {"demo": "Qwen-demo", "demo-chat": "Qwen-demo-Chat"}


def _shown(name: ModelName) -> str:
    return name.model + (f"-{name.variant}" if name.variant else "")


class Target:
    """Public attributes: `chat`, `model` (its name), `checkpoint` (its folder; None for given replies or an endpoint),
    `adapter` (the folder of the one on it; None: there is none), `demo` (an embedded model), `endpoint` (the address of
    a served model, which is known by its name alone), `tokenizer` (the folder of a served model's tokenizer, if that is
    here), `replies` (those of --rescore), `thinking` (how it thinks; None: it does not, as far as is known)."""

    def __init__(self, args: argparse.Namespace, choice: bool = False, engines: Engines | None = None) -> None:
        """choice: the base protocol compares logits, so given replies are read as a chat model's. engines: those of
        several runs, which share a model."""
        if not args.checkpoint_path and not args.rescore:
            raise UserError("no checkpoint: give -c a hub id, a folder or `demo`, or --rescore a file of replies")
        use_hub(args.hub)
        self.args = args
        self.demo = args.checkpoint_path in DEMO_MODELS
        self.replies = Replies(args.rescore) if args.rescore else None
        self._engines = engines or Engines()
        self._engine: Engine[Any, Any] | None = None
        self.checkpoint: Path | None = None
        self.adapter: Path | None = None
        self.endpoint: str | None = None  # the address, without secrets
        self.tokenizer: Path | None = None
        self.long_context: dict[str, Any] = {}  # a setting where a flag gives a switch
        self.kv_cache: dict[str, str] = {}  # a setting where it is int8
        self.processes = 1  # with a copy of a local model each
        self.ray: ray_runs.RayRun | None = None  # where the copies on a cluster go
        if args.ray is not None and args.rescore is None:
            ray_runs.check_flags(args)
        if self.replies is None and args.engine == "openai":
            self.endpoint = endpoint_runs.check_flags(args)
            self.tokenizer = endpoint_runs.tokenizer_folder(args)
        elif self.replies is None:
            self._find_checkpoint()
        if args.engine != "vllm" and max(args.tensor_parallel_size, args.pipeline_parallel_size) > 1:
            raise UserError("--tensor-parallel-size and --pipeline-parallel-size want --engine vllm")
        if args.tokenizer and self.endpoint is None:
            raise UserError("--tokenizer wants --engine openai; a model that runs here has its own")
        if args.adapter and self.adapter is None:
            raise UserError("--adapter wants a model that runs here: not --rescore, not --engine openai")
        own = (
            ModelName(DEMO_MODELS[args.checkpoint_path])
            if self.demo and not args.adapter
            else parse_model_name(args.adapter or args.checkpoint_path or args.reported_as or "rescored")
        )
        self.model = _shown(own)
        self.figures, self.figure_notes = self._figures()  # those that may stand beside its own
        self.name = self._reported_name(own)  # whose
        self.family = protocols.family_of((self.name.model, own.model), self.checkpoint)  # "": not known
        self.chat = self._is_chat(choice)
        folder = self.checkpoint or self.tokenizer
        self.thinking = thinking_runs.settle(args.thinking, self.chat, self.model, folder, self.replies)
        notes = (self._mode_note(), *self._adapter_notes(), self.thinking.note if self.thinking else "")
        self.model_notes = [note for note in notes if note]

    def _find_checkpoint(self) -> None:
        """The model's files, examined before any data is fetched."""
        from qwen_eval.engines.local import parallel, placement
        from qwen_model.loading import check_checkpoint

        args = self.args
        if args.engine == "vllm":
            vllm_runs.check_flags(args)
        self.checkpoint, self.adapter = resolve_with_adapter(args.checkpoint_path, args.adapter)
        if self.adapter is not None:
            need("adapters")
        self.long_context = placement.resolve_long_context(self.checkpoint, **long_context_flags(args))
        if args.engine != "vllm":
            self.kv_cache = placement.resolve_kv_cache(self.checkpoint, args.kv_cache)
        check_checkpoint(self.checkpoint, self.adapter)
        if args.engine == "vllm":
            if self.adapter is not None:
                raise UserError(f"{args.checkpoint_path} is an adapter; merge it into its model, or use --engine local")
            vllm_runs.check_checkpoint(self.checkpoint, args.dtype)
        if args.ray is not None:
            self.ray = ray_runs.plan(args, self.checkpoint)
            self.processes = self.ray.places.copies
        if args.engine == "vllm" or self.ray is not None:  # the nodes say what they cannot run
            return
        self.processes = parallel.process_count(args.data_parallel, args.device, args.device_map)
        if args.device_map is not None and args.device is not None:
            raise UserError("--device-map takes all visible GPUs (CUDA_VISIBLE_DEVICES); leave --device out")
        if args.gptq_backend != "auto":
            placement.check_gptq_backend(self.checkpoint, args.gptq_backend, args.dtype, args.device)
        placement.check_attention(self.checkpoint, args.attn_implementation, args.dtype, args.device)

    def _is_chat(self, choice: bool) -> bool:
        if self.args.chat is not None:
            return bool(self.args.chat)
        if self.args.engine == "openai" or (self.replies is not None and self.args.thinking is not None):
            return True
        if self.checkpoint is not None:
            from qwen_model.loading import is_chat

            return is_chat(self.checkpoint, self.adapter)
        assert self.replies is not None
        if self.args.checkpoint_path:
            return any(word in self.model.lower() for word in ("chat", "instruct"))
        return choice and not self.replies.have_logits

    def _mode_note(self) -> str:
        """What a reader of the figures should know of a checkpoint that is asked against its kind; "" for none."""
        if self.checkpoint is None:
            return ""
        from qwen_model.loading import is_chat

        says_chat = is_chat(self.checkpoint, self.adapter)
        if says_chat and not self.chat:
            return f"{self.model} is a chat checkpoint and was asked as a base model (--base)"
        if self.chat and not says_chat:
            return f"{self.model} is a base checkpoint and was asked as a chat model (--chat)"
        if not says_chat and re.search(r"chat|instruct", self.model, re.IGNORECASE):
            return (
                f"{self.model} is asked as a base model, though its name says chat: its files do not "
                "(generation_config.json without chat_format, or no chat template); --chat asks it as one"
            )
        return ""

    def _adapter_notes(self) -> list[str]:
        """What a reader of the figures should know of the adapter, if there is one."""
        if self.adapter is None:
            return []
        from qwen_model.adapters import is_untrained

        base = DEMO_MODELS.get(self.args.checkpoint_path) or _shown(parse_model_name(str(self.checkpoint)))
        how = "merged into its weights" if self._adapter_identity()["merged"] else "beside its packed weights"
        notes = [f"{self.model} is an adapter on {base}, {how}"]
        if is_untrained(self.adapter):
            notes.append(f"{self.model} was never trained (its lora_B is all zero): the figures are the base's")
        return notes

    def _figures(self) -> tuple[tuple[Row, ...], list[str]]:
        """The reported figures, with what to know of them: those of --reported, of the demo's card, of the cards."""
        if self.args.reported:
            return read_card(self.args.reported)
        if self.adapter is not None and not self.args.reported_as:
            return (), []  # its name may be a card's: it is another model all the same
        if self.demo and not self.args.reported_as:
            return read_figures(DEMO / "reported_numbers.csv"), []
        return card_figures(), []

    def _reported_name(self, own: ModelName) -> ModelName:
        """Whose figures stand beside: the model that --reported-as names, the only one of --reported, or this one."""
        if self.args.reported_as:
            return parse_known_name(self.args.reported_as, self.figures)
        models = {row["model"] for row in self.figures}
        if self.args.reported and own.model not in models and len(models) == 1:
            return ModelName(models.pop(), "", own.variant)
        if self.args.reported and not models & {own.model, ""}:
            known = ", ".join(sorted(models)[:5])
            raise UserError(
                f"--reported {self.args.reported} has no figure of {own.model!r}; --reported-as names one of its "
                f"{len(models)} models ({known})"
            )
        return own

    @property
    def reported_name(self) -> ModelName:
        """`name` with its version, where the checkpoint's files say which it is, and its way of thinking."""
        name = with_mode(self.figures, self.name, self.thinking.mode if self.thinking else "")
        known = name.version or self.args.reported
        return name if known else name._replace(version=version_of(name.model, self.checkpoint))

    @property
    def model_id(self) -> str:
        """`Qwen/Qwen-7B`, where -c gives the id of a hub; "" for a folder."""
        given = str(self.args.adapter or self.args.checkpoint_path or "")
        is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", given) and not given.startswith(".") and not Path(given).exists()
        return given if is_id else ""

    def identity(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What must be the same for finished items to be taken over."""
        if self.replies is not None:
            return {"settings": settings, "replies_sha256": self.replies.sha256}
        if self.args.engine == "openai":
            served = {"base_url": self.endpoint, "served_model": self.args.checkpoint_path}
            if self.tokenizer is not None:
                served["tokenizer_sha256"] = manifest.files_sha256(self.tokenizer, manifest.TOKENIZER)
            return {"settings": settings, "engine": "openai", **served}
        assert self.checkpoint is not None
        from qwen_eval.engines.local.placement import resolve_dtype

        attention = self.args.attn_implementation
        return {
            "settings": settings,
            "engine": self.args.engine,
            "dtype": self.ray.dtype if self.ray else resolve_dtype(self.checkpoint, self.args.dtype, self.args.device),
            **({} if attention is None else {"attn_implementation": attention}),
            **({} if self.args.gptq_backend == "auto" else {"gptq_backend": self.args.gptq_backend}),
            **({} if self.adapter is None else {"adapter": self._adapter_identity()}),
            "weights_sha256": manifest.files_sha256(self.checkpoint, manifest.WEIGHTS),
            "config_sha256": manifest.files_sha256(self.checkpoint, ("config.json", "generation_config.json")),
            "tokenizer_sha256": manifest.files_sha256(self.checkpoint, manifest.TOKENIZER),
        }

    def _adapter_identity(self) -> dict[str, Any]:
        """merged: into the weights; False: it stands beside packed ones."""
        from qwen_model.adapters import IDENTITY, beside_packed
        from qwen_model.loading import load_config

        assert self.checkpoint is not None and self.adapter is not None
        merged = not beside_packed(self.adapter, load_config(self.checkpoint))
        return {"sha256": manifest.files_sha256(self.adapter, IDENTITY), "merged": merged}

    @property
    def generation_folder(self) -> Path | None:
        """The folder with the generation_config.json in force."""
        if self.checkpoint is None:
            return None
        from qwen_model.chat_format import generation_folder

        return generation_folder(self.checkpoint, self.adapter)

    @property
    def engine(self) -> Engine[Any, Any]:
        """The engine, loaded when the first item needs it."""
        args = self.args
        if self._engine is None and args.engine == "openai":
            self._engine = self._engines.endpoint(args.base_url, args.checkpoint_path, args.batch_size, self.tokenizer)
        elif self._engine is None:
            self._engine = self._vllm_engine() if args.engine == "vllm" else self._local_engine()
        if self.thinking is not None:
            self._engine.set_thinking(self.thinking.on, self.thinking.switch)
        return self._engine

    def _vllm_engine(self) -> Engine[Any, Any]:
        args = self.args
        assert self.checkpoint is not None
        how = (vllm_runs.export_folder(self.checkpoint), args.tensor_parallel_size, args.pipeline_parallel_size)
        if self.ray is not None:
            made = (self.ray.dtype, args.batch_size, *how)
            return self._engines.on_ray(self.ray.places, self.checkpoint, args.batch_size, "vllm", *made)
        return self._engines.vllm(self.checkpoint, args.dtype, args.batch_size, *how)

    def _local_engine(self) -> Engine[Any, Any]:
        args = self.args
        assert self.checkpoint is not None
        switches = {"kv_cache": args.kv_cache, "gptq_backend": args.gptq_backend, **long_context_flags(args)}
        switches["adapter"] = self.adapter
        if self.ray is not None:
            how = (self.ray.dtype, self.ray.device, args.batch_size, args.attn_implementation)
            return self._engines.on_ray(self.ray.places, self.checkpoint, args.batch_size, "local", *how, **switches)
        how = (args.dtype, args.device, args.batch_size, args.attn_implementation)
        return self._engines.local(self.checkpoint, *how, args.device_map, self.processes, **switches)

    def engine_notes(self) -> list[str]:
        """What a reader of the figures should know of how a local model was run in this start."""
        return self._engine.notes() if self._engine is not None else []

    @property
    def environment(self) -> dict[str, Any]:
        """For the manifest: over how many processes, or how over several devices, the model ran in this start, and how
        many answers each gave."""
        placed = {"device_map": self.args.device_map} if self.args.device_map else {}
        shares = getattr(self._engine, "shares", None)
        several = {"processes": self.processes} if self.processes > 1 else {}
        return {**placed, **several, **({"answers": shares} if shares else {})}

    @property
    def requests(self) -> dict[str, int] | None:
        """How many requests of this start an endpoint was asked, tried again and failed; None for a local model."""
        if self.replies is not None or self.args.engine != "openai":
            return None
        return dict(self._engine.counts or {}) if self._engine else {"asked": 0, "retried": 0, "failed": 0}

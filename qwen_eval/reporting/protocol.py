"""By which flags a run leaves the protocol that the reported figures were measured with: see `run.Run.departures`.

-k is not here: it chooses the reported figure. Nor are dtype and batch size: what they move is the engine band.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwen_eval.engines.decoding import FLAGS, resolve

if TYPE_CHECKING:
    from qwen_eval.engines.decoding import Decoding
    from qwen_eval.target import Target

SWITCHES = ("use_dynamic_ntk", "use_logn_attn", "window_attn")


def departures(target: Target, decoding: Decoding | None, fixed: Mapping[str, Any] | None) -> list[str]:
    """The flags that make another protocol. Given replies were made by none of them.

    decoding: in force; fixed: what the benchmark fixes of it; both None where nothing is generated.
    """
    args, found = target.args, []
    if args.rescore:
        return []
    if target.checkpoint is not None and args.chat is not None:
        from qwen_model.loading import is_chat

        if is_chat(target.checkpoint) != target.chat:
            found.append("chat" if target.chat else "base")
    if args.max_seq_len != args.protocol_max_seq_len:
        found.append("max_seq_len")
    if fixed is not None:
        plain = resolve(target.generation_folder, fixed, argparse.Namespace())
        found += [name for name in FLAGS if getattr(decoding, name) != getattr(plain, name)]
    if target.checkpoint is not None and target.long_context:
        from qwen_model.loading import load_config
        from qwen_model.long_context import resolve as resolve_switches

        own, given = resolve_switches(load_config(target.checkpoint))._asdict(), target.long_context["long_context"]
        found += [name for name in SWITCHES if given[name] != own[name]]
    if target.kv_cache and args.kv_cache != "auto":
        from qwen_model.loading import load_config

        found += ["kv_cache"] * (not load_config(target.checkpoint).use_cache_quantization)  # type: ignore[arg-type]
    return [f"--{name.replace('_', '-')}" for name in found]

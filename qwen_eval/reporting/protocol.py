"""By which flags a run leaves the protocol that the reported figures were measured with: see `Reporting.departures`.

-k is not here: it chooses the reported figure. Nor are dtype and batch size: what they move is the engine band.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qwen_eval.engines.decoding import resolve

if TYPE_CHECKING:
    from qwen_eval.run import Run

DECODING = ("max_new_tokens", "repetition_penalty", "temperature", "top_p")
SWITCHES = ("use_dynamic_ntk", "use_logn_attn", "window_attn")


def departures(run: Run, fixed: Mapping[str, Any] | None) -> list[str]:
    """The flags that make another protocol. Given replies were made by none of them. fixed: what the benchmark fixes of
    the decoding; None where nothing is generated."""
    args, found = run.args, []
    if args.rescore:
        return []
    if run.checkpoint is not None and args.chat is not None:
        from qwen_model.loading import is_chat

        if is_chat(run.checkpoint) != run.chat:
            found.append("chat" if run.chat else "base")
    if args.max_seq_len != args.protocol_max_seq_len:
        found.append("max_seq_len")
    if fixed is not None:
        plain = resolve(run.checkpoint, fixed, argparse.Namespace())
        found += [name for name in DECODING if getattr(run.decoding, name) != getattr(plain, name)]
    if run.checkpoint is not None and run.long_context:
        from qwen_model.loading import load_config
        from qwen_model.long_context import resolve as resolve_switches

        own, given = resolve_switches(load_config(run.checkpoint))._asdict(), run.long_context["long_context"]
        found += [name for name in SWITCHES if given[name] != own[name]]
    return [f"--{name.replace('_', '-')}" for name in found]

"""The configurations of evaluate_ppl.py: which switches each has, and which lengths it can read in one pass.

Names are those of the reported figures (column variant): `none`, `dynamic_ntk`, `dynamic_ntk + logn`,
`dynamic_ntk + logn + window_attn`; on the command line `none`, `ntk`, `ntk+logn`, `ntk+logn+window`, or any other
sum of the three parts.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwen_eval.errors import UserError

if TYPE_CHECKING:
    from qwen_model.long_context import LongContext

PARTS = {"ntk": "dynamic_ntk", "logn": "logn", "window": "window_attn"}  # ours: the cards'
CARDS = "none,ntk,ntk+logn,ntk+logn+window"
FIRST_WINDOW = 2048  # of the maintainers' example


def parse_configs(text: str) -> list[str]:
    """`none,ntk+logn` as the names that the reported figures have: none, dynamic_ntk + logn."""
    names = []
    for word in text.split(","):
        parts = [] if word.strip() == "none" else [part.strip() for part in word.split("+")]
        if unknown := [part for part in parts if part not in PARTS]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is no part of a configuration; there are none, {CARDS[5:]}"
            )
        names.append(" + ".join(PARTS[part] for part in PARTS if part in parts) or "none")
    return list(dict.fromkeys(names))


def configurations(args: argparse.Namespace, config: Any, windows: Any) -> "dict[str, LongContext | None]":
    """The switches of each configuration by its name. Other models than first-generation Qwen have `none` only.

    windows: what --window-attn gives, None without it.
    """
    from qwen_model.long_context import resolve

    flags = ("--use-dynamic-ntk", args.use_dynamic_ntk), ("--use-logn-attn", args.use_logn_attn)
    if given := [name for name, value in flags if value is not None]:
        raise UserError(f"{given[0]}: here configurations switch it; name them with --configs, such as {CARDS}")
    if config.model_type != "qwen":
        if args.configs not in (None, ["none"]) or windows is not None:
            raise UserError(
                f"this model is {config.model_type}: NTK, LogN and windows are switches of first-generation Qwen; "
                f"leave --configs and --window-attn out"
            )
        return {"none": None}
    if windows is None:  # the checkpoint's own, or the example of the maintainers
        short = getattr(config, "window_attn", None) is None and (config.seq_length or FIRST_WINDOW) < FIRST_WINDOW
        windows = config.seq_length if short else True
    found: dict[str, LongContext | None] = {}
    try:
        for name in args.configs or parse_configs(CARDS):
            switches = resolve(
                config, "dynamic_ntk" in name, "logn" in name, windows if "window_attn" in name else False
            )
            if "window_attn" not in name or switches.window_attn is not None:
                found[name] = switches
            elif args.configs:
                raise UserError(f"--window-attn leaves no layer a window, and --configs asks for {name!r}")
    except ValueError as error:
        raise UserError(f"-c {args.checkpoint_path}: {error}") from error
    return found


def passes(lengths: Sequence[int], switches: "LongContext | None", config: Any, stride: int | None) -> list[list[int]]:
    """The lengths in groups that one pass over a document serves: where a token sees the same in all of them."""
    from qwen_eval.engines.local.forward import rope_follows_length
    from qwen_model.rope import ntk_alpha

    groups: dict[Any, list[int]] = {}
    for length in lengths:
        key: Any = length if stride or rope_follows_length(config) else None
        if switches is not None and switches.use_dynamic_ntk and not stride:
            layers = config.num_hidden_layers
            windows = switches.windows(layers, length) if switches.ntk_per_layer else [None] * layers
            key = tuple(ntk_alpha(window or length, config.training_length()) for window in windows)
        groups.setdefault(key, []).append(length)
    return list(groups.values())


def widest(ways: "Mapping[str, LongContext | None]") -> Sequence[int | None] | None:
    """The windows of the configuration that holds most keys and values: None where one has no windows."""
    found = [way.window_attn if way else None for way in ways.values()]
    return None if None in found else found[0]


def remarks(ways: "Mapping[str, LongContext | None]", config: Any) -> list[str]:
    """What a reader of the table should know of its configurations: the windows, or why there is only one row."""
    if config.model_type != "qwen":
        return [f"NTK, LogN and windows are switches of first-generation Qwen; this model is {config.model_type}"]
    return [window_note(way.window_attn) for way in ways.values() if way and way.window_attn][:1]


def window_note(windows: Sequence[int | None]) -> str:
    """The sizes in a line: `2048 in layers 0-3, 4096 in layers 4-7`."""
    runs: list[list[Any]] = []
    for layer, window in enumerate(windows):
        if runs and runs[-1][0] == window:
            runs[-1][2] = layer
        else:
            runs.append([window, layer, layer])
    told = [f"{window or 'full'} in layer{f's {a}-{b}' if a < b else f' {a}'}" for window, a, b in runs]
    return f"window_attn: {', '.join(told)} (ours: the sizes behind the reported figures are not published)"

"""The three long-context techniques as switches: dynamic NTK, LogN attention and window attention.

Each is given at load (`load_model(..., window_attn="on")`), on the model (`model.long_context = ...`) or for one call
(`model(ids, long_context=...)`), and is the checkpoint's where it is not given; config.json is never edited. What a
prefill ran with stays with its cache, as the NTK factor does.

Source: Qwen technical report (arXiv 2309.16609) section 2.3.2. Window attention - windows shorter in the lower layers -
was never in the published code and its sizes are unpublished: the preset is the example that a maintainer gave
(QwenLM/Qwen issue 422), 2048 for the first four layers, 4096 for the next four, 8192 above that and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .configuration import QWenConfig

#: a window in tokens for each layer, None for full attention; or None: window attention off
Windows = tuple[int | None, ...] | None

PRESET = {"first": 2048, "growth": 2, "layers_per_step": 4, "max": None}
LOGN_MODES = ("absolute", "visible")
FORMS = "off, on, a first window such as 2048, one window a layer such as 512,1024,full, or a schedule in JSON"


class LongContext(NamedTuple):
    """Which techniques are on.

    window_attn: for each layer its window in tokens (a token sees itself and the w - 1 before it), None for full
        attention; None altogether: off, as in the published code.
    ntk_per_layer: the NTK factor of a layer is that of min(length, window), so that a layer whose window is at most
        the training length never leaves its trained range. Without window attention it has no effect.
    logn_mode: the LogN factor looks at a token's index ("absolute", as published) or at the number of tokens that it
        sees in this layer ("visible"). Without window attention it has no effect.
    """

    use_dynamic_ntk: bool
    use_logn_attn: bool
    window_attn: Windows = None
    ntk_per_layer: bool = True
    logn_mode: str = "absolute"

    def windows(self, layers: int, columns: int) -> list[int | None]:
        """The windows that bind among `columns` tokens, one a layer; None where a layer sees all of them."""
        return [w if w is not None and w < columns else None for w in self.window_attn or (None,) * layers]

    def check(self, config: QWenConfig) -> LongContext:
        """Itself, if a model of this configuration can run with it.

        Raises:
            ValueError: a wrong number of windows, a window below 1, an unknown mode, or no training length.
        """
        if self.window_attn is not None:
            _sizes(self.window_attn, config.num_hidden_layers)
        if self.logn_mode not in LOGN_MODES:
            raise ValueError(f"logn_mode must be {' or '.join(LOGN_MODES)}, not {self.logn_mode!r}")
        if self.use_dynamic_ntk or self.use_logn_attn:
            config.training_length()
        if self.use_dynamic_ntk and config.rotary_dim == 2:  # alpha^(d / (d - 2)) has no value there
            raise ValueError("use_dynamic_ntk needs more than 2 rotary dimensions")
        return self


OFF = LongContext(False, False)


def resolve(
    config: QWenConfig,
    use_dynamic_ntk: bool | None = None,
    use_logn_attn: bool | None = None,
    window_attn: Any = None,
) -> LongContext:
    """The switches of a checkpoint, less what is given here (None: as the checkpoint has it).

    window_attn: a specification as on the command line ("off", "on", "2048", "512,1024,full", JSON), or the same as a
    Python value: a bool, a first window, a sequence with one entry per layer, a mapping (see `_from_mapping`). "on" is
    config.json's own `window_attn` if it has one, else the preset.

    Raises:
        ValueError: a specification that does not fit the model; the message is one line.
    """
    own = getattr(config, "window_attn", None)
    sizes, options = _windows(own if window_attn is None else window_attn, config.num_hidden_layers, own)
    return LongContext(
        config.use_dynamic_ntk if use_dynamic_ntk is None else use_dynamic_ntk,
        config.use_logn_attn if use_logn_attn is None else use_logn_attn,
        sizes,
        **options,
    ).check(config)


def given_switches(
    config: Any, use_dynamic_ntk: bool | None, use_logn_attn: bool | None, window_attn: Any
) -> LongContext | None:
    """The switches of a checkpoint of any family when these are given; None where none is.

    Raises:
        ValueError: they do not fit the model, or it is no first-generation Qwen.
    """
    given = {"use_dynamic_ntk": use_dynamic_ntk, "use_logn_attn": use_logn_attn, "window_attn": window_attn}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return None
    if config.model_type != "qwen":
        verb = "is a switch" if len(names) == 1 else "are switches"
        raise ValueError(
            f"{', '.join(names)} {verb} of first-generation Qwen only, and this model is {config.model_type}"
        )
    return resolve(config, use_dynamic_ntk, use_logn_attn, window_attn)


def parse_window_attn(text: str) -> Any:
    """What a `--window-attn` flag says, before any model is known: a bool, an int, a list or a dict.

    Raises:
        ValueError: not a window specification.
    """
    text = text.strip()
    if text.lower() in ("on", "off"):
        return text.lower() == "on"
    if text.startswith(("{", "[")):
        try:
            found = json.loads(text)
        except ValueError:
            raise ValueError(f"window attention: {text!r} is not valid JSON") from None
    else:
        found = [_word(word) for word in text.split(",")]
        found = found[0] if len(found) == 1 else found
    _windows(found, None, None)  # whatever is wrong without regard to the model
    return found


def _word(word: str) -> int | None:
    word = word.strip().lower()
    if word == "full":
        return None
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"window attention: {word!r} is not a window; give {FORMS}") from None


def _windows(spec: Any, layers: int | None, own: Any) -> tuple[Windows, dict[str, Any]]:
    """Windows of a specification, and the options that it names. layers None: only checked for its form."""
    if isinstance(spec, str):
        spec = parse_window_attn(spec)
    if spec is None or spec is False:
        return None, {}
    if spec is True:
        inherits = own is not None and own is not True and own is not False and own not in ("on", "off")
        return _windows(own if inherits else PRESET, layers, None)
    if isinstance(spec, Mapping):
        return _from_mapping(spec, layers)
    if isinstance(spec, int):
        return _schedule({**PRESET, "first": spec}, layers), {}
    if isinstance(spec, Sequence):
        return _sizes(spec, layers), {}
    raise ValueError(f"window attention: {spec!r} is no specification; give {FORMS}")


def _from_mapping(spec: Mapping[str, Any], layers: int | None) -> tuple[Windows, dict[str, Any]]:
    """{"sizes": [...]}, {"schedule": {...}} or the schedule itself, with `ntk_per_layer` and `logn_mode` if wanted.

    A schedule gives layer l the window first * growth^(l // layers_per_step), full attention where that exceeds max.
    """
    rest = dict(spec)
    options: dict[str, Any] = {name: rest.pop(name) for name in ("ntk_per_layer", "logn_mode") if name in rest}
    if not isinstance(options.get("ntk_per_layer", True), bool):
        raise ValueError(f"window attention: ntk_per_layer must be true or false, not {options['ntk_per_layer']!r}")
    if options.get("logn_mode", "absolute") not in LOGN_MODES:
        raise ValueError(f"window attention: logn_mode must be {' or '.join(LOGN_MODES)}, not {options['logn_mode']!r}")
    if set(rest) == {"sizes"} and isinstance(rest["sizes"], Sequence) and not isinstance(rest["sizes"], str):
        return _sizes(rest["sizes"], layers), options
    schedule = rest["schedule"] if set(rest) == {"schedule"} else rest
    if not isinstance(schedule, Mapping) or set(schedule) - set(PRESET):
        raise ValueError(f"window attention: a schedule has {', '.join(PRESET)}, not {', '.join(map(str, schedule))}")
    return _schedule({**PRESET, **schedule}, layers), options


def _schedule(schedule: Mapping[str, Any], layers: int | None) -> Windows:
    first, growth, step, most = (schedule[name] for name in PRESET)
    for name, value in (("first", first), ("layers_per_step", step), ("max", most)):
        if value is not None or name != "max":
            _size(value, f"{name} of the schedule")
    if isinstance(growth, bool) or not isinstance(growth, (int, float)) or not 1 <= growth <= 1000:
        raise ValueError(f"window attention: growth of the schedule must be from 1 to 1000, not {growth!r}")
    sizes = [int(first * growth ** (layer // step)) for layer in range(layers or 1)]
    return _sizes([size if most is None or size <= most else None for size in sizes], layers)


def _sizes(sizes: Sequence[Any], layers: int | None) -> Windows:
    if layers is not None and len(sizes) != layers:
        raise ValueError(f"window attention: {len(sizes)} windows for the {layers} layers of the model")
    windows = tuple(None if size in (None, "full") else _size(size, "a window") for size in sizes)
    return None if all(window is None for window in windows) else windows


def _size(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"window attention: {what} must be a whole number of at least 1, not {value!r}")
    return value

"""Devices that are not there: tensors that compute on the CPU, say that they lie on `fakegpu:0` or `fakegpu:1`, refuse
to mix, and count how often the host waits for one of them.

So a machine without a GPU finds what would fail on one (a tensor made on the wrong device, a model spread over two
whose parts forget to move a tensor) and what would be slow there. It says nothing of kernels, dtypes or speed.

    with fake_devices() as seen:
        spread(model, "fakegpu:0", "fakegpu:1")
        ...
        seen.waits   # {"file.py:12": times}

Source: PyTorch's wrapper subclasses and its Python backend for PrivateUse1 (torch.utils.backend_registration).
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "fakegpu"
_setup_privateuseone_for_python_backend(NAME)
# Gradient checkpointing asks the accelerator of the process, which is this one from now on, in other tests too.
getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]
PACKAGES = Path(torch.__file__).parents[1]
# Operations that may read tensors of several devices: they copy, or take indices from the host.
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}


@dataclass
class Seen:
    """How often the host waited, by the line of the program that made it wait."""

    waits: Counter[str] = field(default_factory=Counter)


_seen = Seen()


def _wait() -> None:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path != Path(__file__) and PACKAGES not in path.parents:
            _seen.waits[f"{path.name}:{frame.lineno}"] += 1
            return


class OnDevice(torch.Tensor):
    """A tensor that says it lies on a device; `held` has its numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=device
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        _wait()
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert a tensor of a device to numpy; copy it to the host with .cpu() first")

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held}, {self.device})"


def _device(given: Any) -> torch.device:
    device = torch.device(given)
    return torch.device(NAME, device.index or 0) if device.type == NAME else device


def _unwrapped(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf.held if isinstance(leaf, OnDevice) else leaf, tree)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the numbers; its results lie where its tensors do, or where it was told to put them."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    target = _device(kwargs["device"]) if kwargs.get("device") is not None else None
    name = func.name()
    if ours:
        _check(name, tensors)
        if name == "aten::_local_scalar_dense" or (target is not None and target.type == "cpu"):
            _wait()
    if target is not None and target.type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*_unwrapped(args), **_unwrapped(kwargs))
    if name == "aten::copy_":
        target = args[0].device
    place = target or (ours[0].device if ours else torch.device("cpu"))
    if place.type != NAME:
        return result
    known = {id(tensor.held): tensor for tensor in ours}  # what works in place gives back its own tensor

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or isinstance(leaf, OnDevice):
            return leaf
        return known.get(id(leaf)) if id(leaf) in known else OnDevice(leaf, place)

    return tree_map(wrapped, result)


def _check(name: str, tensors: list[torch.Tensor]) -> None:
    """RuntimeError, as a GPU's, where tensors of several devices meet; a number without dimensions may come along."""
    places = {str(tensor.device) for tensor in tensors if isinstance(tensor, OnDevice) or tensor.dim()}
    devices = {place for place in places if place != "cpu"}
    if len(places) > 1 and not (name in MAY_MIX and (len(devices) == 1 or "copy" in name)):
        raise RuntimeError(f"{name}: expected all tensors on one device, found {', '.join(sorted(places))}")


class _Operations(TorchDispatchMode):
    """Operations that make tensors on a device out of nothing reach no tensor's own handler."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Functions that choose a kernel by the device, or copy to it, before any operation is seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func is torch.nn.functional.scaled_dot_product_attention and any(isinstance(x, OnDevice) for x in leaves):
            _check("scaled_dot_product_attention", leaves)
            return OnDevice(func(*_unwrapped(args), **_unwrapped(kwargs)), leaves[0].device)
        place = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and place is not None and _device(place).type == NAME and not leaves:
            made = func(*args, **{**kwargs, "device": "cpu"})
            return OnDevice(made, _device(place))
        return func(*args, **kwargs)


def spread(model: Any, *devices: str) -> Any:
    """Put a model on devices as accelerate's `device_map` does: embedding first, equal shares of the layers, then the
    rest; what goes into a layer is brought to its device."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    layers = next(list(part) for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    for module in model.modules():
        _place(module, devices[-1])
    _place(model.get_input_embeddings(), devices[0])
    for number, layer in enumerate(layers):
        device = devices[number * len(devices) // len(layers)]
        for module in layer.modules():
            _place(module, device)
        if len(devices) > 1:
            add_hook_to_module(layer, AlignDevicesHook(execution_device=device))
    for module in model.modules():  # rotary tables are made before the first layer
        if "rotary" in type(module).__name__.lower():
            _place(module, devices[0])
    return model


def _place(module: torch.nn.Module, device: str) -> None:
    """This module's own parameters and buffers, not its children's."""
    for group in (module._parameters, module._buffers):
        for name, tensor in group.items():
            if tensor is not None:
                held = tensor.held if isinstance(tensor, OnDevice) else tensor.detach()
                made: torch.Tensor = OnDevice(held, _device(device))
                is_parameter = group is module._parameters
                group[name] = torch.nn.Parameter(made, requires_grad=False) if is_parameter else made  # type: ignore


@contextlib.contextmanager
def fake_devices() -> Iterator[Seen]:
    """Within it, tensors can be made on the devices. Inference mode, which wrapper tensors do not know, is no_grad."""
    global _seen
    _seen = Seen()
    off = mock.patch.multiple(torch.inference_mode, __enter__=lambda self: None, __exit__=lambda self, *error: None)
    with torch.no_grad(), off, _Operations(), _Functions():
        yield _seen

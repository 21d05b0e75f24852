"""Devices: how much memory one has free, and a model whose layers lie on several (what a layer needs goes where its
weights are)."""

from __future__ import annotations

import os
from typing import Any

import torch

from .rope import PositionTables

META = torch.device("meta")  # weights that accelerate brings in when they are needed


def at(hidden: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Hidden states where the next weights are."""
    return hidden if device in (hidden.device, META) else hidden.to(device)


def moved_to(value: Any, device: torch.device, moved: dict[tuple[int, torch.device], Any]) -> Any:
    """Tables, a mask or keywords on another device: each is copied there once per call."""
    if isinstance(value, dict):
        return {name: moved_to(each, device, moved) for name, each in value.items()}
    if isinstance(value, PositionTables):
        return PositionTables(*(moved_to(each, device, moved) for each in value))
    if not isinstance(value, torch.Tensor):
        return value.to(device) if hasattr(value, "to") else value
    if (id(value), device) not in moved:
        moved[id(value), device] = value.to(device)
    return moved[id(value), device]


def host_memory() -> int:
    """Bytes of the host's memory that are free: by psutil, which comes with accelerate, else as Linux counts them."""
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except ImportError:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host_memory()

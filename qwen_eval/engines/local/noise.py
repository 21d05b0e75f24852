"""Random noise that is the same wherever it is made: a hash of (seed, step, token), nothing that is carried along.

A sampled token is the one with the largest logit + Gumbel noise (the Gumbel-max trick; Maddison et al. 2014, arXiv
1411.0030). The noise of one token does not depend on the other tokens, the batch, the dtype or the device, so rounding
of the logits changes a sampled token only where two sums lie within the rounding. Drawing by the inverse of the
cumulative distribution does not have this: there each logit's rounding moves every token's border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

CPU_CELLS = 1 << 15  # hashed at a time: what a core's cache holds
GPU_CELLS = 1 << 24


def step_keys(seeds: Sequence[int], steps: Sequence[int]) -> torch.Tensor:
    """64 bits of each (seed, step) as int32 [B, 2] on the CPU, by the output function of SplitMix64 (Steele et al.
    2014), once for the seed and once more for the step."""
    seed, step = (np.array([int(value) % 2**64 for value in values], dtype=np.uint64) for values in (seeds, steps))
    key = _mix64(_mix64(seed) + (step + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy(key.view(np.int32).reshape(-1, 2))


def _mix64(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = word ^ (word >> np.uint64(31))
    return mixed


def add_gumbel(scores: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """`scores` (fp32 [B, V]) with the noise of token v added in column v, in place. keys: int32 [B, 2], same device."""
    rows, vocabulary = scores.shape
    tokens = torch.arange(vocabulary, dtype=torch.int32, device=scores.device)
    at_a_time = max(1, (CPU_CELLS if scores.device.type == "cpu" else GPU_CELLS) // vocabulary)
    for start in range(0, rows, at_a_time):
        part = slice(start, start + at_a_time)
        scores[part].add_(gumbel(hashed(keys[part], tokens)))
    return scores


def hashed(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """32 bits of each (key, token): int32 [B, V]. keys int32 [B, 2], tokens int32 [V]. Arithmetic modulo 2^32.

    Two rounds of the shift-multiply kind with the constants of lowbias32 (Wellons 2018), one half of the key in each.
    """
    word = tokens * _signed(0x9E3779B1) + keys[:, :1]
    word.bitwise_xor_(_shifted(word, 16)).mul_(_signed(0x7FEB352D)).add_(keys[:, 1:])
    word.bitwise_xor_(_shifted(word, 15)).mul_(_signed(0x846CA68B))
    return word.bitwise_xor_(_shifted(word, 16))


def _signed(word: int) -> int:
    """The same 32 bits as a signed number: torch has few operations on unsigned ones."""
    return word - 2**32 if word >= 2**31 else word


def _shifted(word: torch.Tensor, by: int) -> torch.Tensor:
    """A shift to the right that brings in zeros, also where the number is negative."""
    return (word >> by).bitwise_and_(2 ** (32 - by) - 1)


def gumbel(bits: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, fp32, from 32-bit words (overwritten): -ln(-ln(1 - u)) with u from 31 of the bits.

    u lies within (0, 1): at least 2^-32, so that also tokens of very small probability have their right chance, and
    at most 1 - 2^-24, so that no noise is infinite.
    """
    uniform = bits.bitwise_and_(2**31 - 1).float().add_(0.5).mul_(2.0**-31 * (1 - 2.0**-24))
    return uniform.neg_().log1p_().neg_().log_().neg_()

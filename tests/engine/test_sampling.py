"""The next token: the same distribution, cut and penalty as transformers' own processors; draws that reproduce."""

from collections.abc import Sequence

from qwen_eval.engines.base import GenerateRequest
from qwen_eval.engines.local.noise import add_gumbel, gumbel, hashed, step_keys
from qwen_eval.engines.local.sampling import penalise, pick
from qwen_eval.errors import UserError

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.7, -0.3, 3.0, 0.0, 1.0, -2.5, 0.9, 2.6, -9.0])
RECORDED = [
    1224995441,
    773149,
    102593402,
]  # of seed 5, step 7, tokens 0, 997, 1994: a change of these changes every reply
SETTINGS = [(1.0, 1.0, 0), (0.7, 1.0, 0), (2.0, 0.8, 0), (1.0, 0.5, 0), (1.5, 1.0, 4), (1.3, 0.85, 6), (1.0, 0.01, 0)]


def asking(temperature: float, top_p: float = 1.0, top_k: int = 0) -> GenerateRequest:
    return GenerateRequest(np.zeros(1, np.int32), 1, temperature=temperature, top_p=top_p, top_k=top_k)


def drawn(logits: torch.Tensor, request: GenerateRequest, seeds: Sequence[int], steps: Sequence[int]) -> list[int]:
    """A token for each seed and step, all from the same logits [V] or each from its own [B, V]."""
    requests = [request._replace(seed=seed) for seed in seeds]
    return pick(logits.expand(len(requests), -1).clone(), requests, steps)


def warped(temperature: float, top_p: float, top_k: int) -> np.ndarray:
    """Probabilities as transformers' sampling has them."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        steps.append(TopPLogitsWarper(top_p))
    scores = steps(torch.zeros(1, 1, dtype=torch.long), LOGITS[None].clone())  # type: ignore[arg-type]
    return torch.softmax(scores[0].double(), dim=-1).numpy()


def assert_distributed(tokens: list[int], wanted: np.ndarray) -> None:
    counts = np.bincount(tokens, minlength=len(wanted))
    assert not counts[wanted == 0].any(), "nothing from outside of the cut"
    kept = wanted > 0
    if kept.sum() == 1:
        return
    often = kept & (wanted * len(tokens) >= 5)  # the chi-square approximation wants 5 expected a cell
    seen = np.append(counts[often], counts[kept & ~often].sum())
    expected = np.append(wanted[often], wanted[kept & ~often].sum()) * len(tokens)
    if expected[-1] < 1e-9:
        seen, expected = seen[:-1], expected[:-1]
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), SETTINGS)
def test_the_distribution_is_that_of_transformers(temperature: float, top_p: float, top_k: int) -> None:
    request, wanted, count = asking(temperature, top_p, top_k), warped(temperature, top_p, top_k), 2000
    assert_distributed(drawn(LOGITS, request, [7] * count, range(count)), wanted)
    assert_distributed(drawn(LOGITS, request, range(count), [0] * count), wanted)


def test_the_distribution_over_a_large_vocabulary() -> None:
    """50 thousand unlikely tokens have together the half of the mass that is theirs, and each its even part of it."""
    logits = torch.zeros(50_001)
    logits[17] = float(np.log(50_000))
    tokens = np.array(drawn(logits, asking(1.0), [5] * 1500, range(1500)))
    rare = tokens[tokens != 17]
    assert stats.binomtest(len(rare), 1500, 0.5).pvalue > 1e-3
    assert stats.kstest(rare / 50_001, "uniform").pvalue > 1e-3
    assert len(set(rare)) > 0.97 * len(rare)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    """Just below and above the mass of the first two tokens, as transformers decides it."""
    mass = np.sort(warped(1.0, 1.0, 0))[::-1].cumsum()
    for top_p, kept in ((mass[1] - 1e-4, 2), (mass[1] + 1e-4, 3)):
        tokens = drawn(LOGITS, asking(1.0, top_p), range(600), [0] * 600)
        assert len(set(tokens)) == kept == (warped(1.0, top_p, 0) > 0).sum()


def test_rows_with_other_settings_side_by_side() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(len(SETTINGS) + 1, 500)) * 3, dtype=torch.float32)
    requests = [asking(0.0), *(asking(*setting) for setting in SETTINGS)]
    requests = [request._replace(seed=row) for row, request in enumerate(requests)]
    steps = list(range(len(requests)))
    together = pick(logits, requests, steps)
    alone = [pick(logits[[row]], [requests[row]], [row])[0] for row in steps]
    assert together == alone
    assert together[0] == int(logits[0].argmax())
    assert together[-1] == int(logits[-1].argmax()), "a top_p near 0 is greedy"


def test_the_last_bits_of_a_logit_do_not_change_the_draw() -> None:
    """Batches of another size round otherwise; two tokens of almost the same likelihood must not change places."""
    rng = np.random.default_rng(1)
    varied = torch.tensor(rng.normal(size=(200, 300)), dtype=torch.float32)
    noise = torch.tensor(rng.normal(size=(200, 300)) * 1e-6, dtype=torch.float32)
    tied = varied.round(decimals=1)
    for logits, setting in ((tied, (1.0, 1.0, 0)), (varied, (0.9, 0.95, 0)), (varied, (0.9, 1.0, 50))):
        draws = [drawn(each, asking(*setting), range(200), [3] * 200) for each in (logits, logits + noise)]
        assert draws[0] == draws[1]


@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 1e6])
def test_extreme_temperatures(temperature: float) -> None:
    tokens = drawn(LOGITS, asking(temperature, 0.999), range(300), [0] * 300)
    assert set(tokens) == {5} if temperature < 1 else len(set(tokens)) == 12


def test_rounding_of_a_batch_hardly_ever_changes_a_token_of_a_large_vocabulary() -> None:
    """Logits of 152 K tokens, off by what another batch size does to them. Drawn by the inverse of the cumulative
    distribution about one of these 256 tokens changes, by noise of their own one in a hundred thousand."""
    rng = np.random.default_rng(4)
    requests = [asking(1.0)._replace(seed=seed) for seed in range(8)]
    for step in range(32):
        logits = torch.tensor(rng.normal(size=(8, 151_936)) * 2, dtype=torch.float32)
        off = logits + torch.tensor(rng.normal(size=(8, 151_936)) * 3e-6, dtype=torch.float32)
        assert pick(logits, requests, [step] * 8) == pick(off, requests, [step] * 8)


# -- the noise -------------------------------------------------------------------------------------


def test_the_noise_is_a_function_of_seed_step_and_token() -> None:
    """The same whatever stands beside it: rows, tokens behind, how many are made at a time."""
    keys = step_keys([3, 3, 2**64 - 1, 10**18], [0, 1, 0, 77])
    many = add_gumbel(torch.zeros(4, 200_000), keys)
    for row in range(4):
        for width in (1, 9, 1000, 40_001):
            assert torch.equal(add_gumbel(torch.zeros(1, width), keys[[row]])[0], many[row, :width])
    assert len({tuple(key) for key in step_keys([*range(100)] * 100, np.repeat(range(100), 100)).tolist()}) == 10_000


def test_the_hash_in_32_bit_arithmetic() -> None:
    """Against the same formula in Python's whole numbers: machines must agree on every bit."""
    keys, tokens = step_keys([5, 6], [7, 8]), torch.arange(0, 151_936, 997, dtype=torch.int32)
    found = hashed(keys, tokens).numpy().view(np.uint32)

    def mixed(token: int, first: int, second: int) -> int:
        word = (token * 0x9E3779B1 + first) % 2**32
        word = ((word ^ word >> 16) * 0x7FEB352D + second) % 2**32
        word = (word ^ word >> 15) * 0x846CA68B % 2**32
        return word ^ word >> 16

    for row, (first, second) in enumerate(keys.numpy().view(np.uint32).tolist()):
        assert found[row].tolist() == [mixed(token, first, second) for token in tokens.tolist()]
    assert found[0, :3].tolist() == RECORDED


def test_the_noise_is_gumbel_and_neighbours_are_independent() -> None:
    """Over the tokens of a step, over the steps of a token and over the seeds; no correlation between them."""
    by_step = add_gumbel(torch.zeros(200, 4000), step_keys([11] * 200, range(200))).double().numpy()
    by_seed = add_gumbel(torch.zeros(200, 4000), step_keys(range(200), [0] * 200)).double().numpy()
    for noise in (by_step, by_seed):
        assert stats.kstest(noise.ravel(), "gumbel_r").pvalue > 1e-3
        assert stats.kstest(noise[:, 0], "gumbel_r").pvalue > 1e-3
        for first, second in ((noise[:, :-1], noise[:, 1:]), (noise[:-1], noise[1:])):
            assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / noise.size**0.5


def test_the_noise_is_finite_at_both_ends() -> None:
    ends = gumbel(torch.tensor([0, 2**31 - 1, -1, -(2**31)], dtype=torch.int32))
    assert ends.isfinite().all()
    assert ends[0] > 20, "tokens of very small probability have their chance"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(bad: float) -> None:
    logits = torch.stack([LOGITS, LOGITS])
    logits[1, 3] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(UserError, match="not finite"):
            pick(logits, [asking(temperature)] * 2, [0, 0])


def test_the_penalty_is_that_of_transformers() -> None:
    rng = np.random.default_rng(2)
    logits = torch.tensor(rng.normal(size=(6, 50)) * 4, dtype=torch.float32)
    logits[0, :5] = 0.0
    ids = torch.tensor(rng.integers(0, 50, (6, 30)))
    seen = torch.zeros(6, 50, dtype=torch.bool).scatter_(1, ids, True)
    penalties = torch.tensor([1.1, 1.0, 1.3, 0.8, 2.0, 1.05])
    got = penalise(logits, seen, penalties)
    for row in range(6):
        process = RepetitionPenaltyLogitsProcessor(float(penalties[row]))
        wanted = process(ids[[row]], logits[[row]].clone())  # type: ignore[arg-type]
        torch.testing.assert_close(got[[row]], wanted, atol=1e-6, rtol=0)
    assert torch.equal(got[1], logits[1]), "1.0 changes nothing"

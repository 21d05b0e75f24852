"""The next token: the same distribution, cut and penalty as transformers' own processors; draws that reproduce."""

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

from harness.engine import GenerateRequest
from harness.engine.sampling import penalise, pick, stream
from harness.errors import UserError

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.7, -0.3, 3.0, 0.0, 1.0, -2.5, 0.9, 2.6, -9.0])
SETTINGS = [(1.0, 1.0, 0), (0.7, 1.0, 0), (2.0, 0.8, 0), (1.0, 0.5, 0), (1.5, 1.0, 4), (1.3, 0.85, 6), (1.0, 0.01, 0)]


def asking(temperature: float, top_p: float = 1.0, top_k: int = 0) -> GenerateRequest:
    return GenerateRequest(np.zeros(1, np.int32), 1, temperature=temperature, top_p=top_p, top_k=top_k)


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
    one = stream(7)
    along_a_stream = pick(LOGITS.expand(count, -1), [request] * count, [one] * count)
    assert_distributed(along_a_stream, wanted)
    first_draws = pick(LOGITS.expand(count, -1), [request] * count, [stream(seed) for seed in range(count)])
    assert_distributed(first_draws, wanted)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    """Just below and above the mass of the first two tokens, as transformers decides it."""
    mass = np.sort(warped(1.0, 1.0, 0))[::-1].cumsum()
    for top_p, kept in ((mass[1] - 1e-4, 2), (mass[1] + 1e-4, 3)):
        tokens = pick(LOGITS.expand(600, -1), [asking(1.0, top_p)] * 600, [stream(seed) for seed in range(600)])
        assert len(set(tokens)) == kept == (warped(1.0, top_p, 0) > 0).sum()


def test_rows_with_other_settings_side_by_side() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(len(SETTINGS) + 1, 500)) * 3, dtype=torch.float32)
    requests = [asking(0.0), *(asking(*setting) for setting in SETTINGS)]
    together = pick(logits, requests, [stream(seed) for seed in range(len(requests))])
    alone = [pick(logits[[i]], [requests[i]], [stream(i)])[0] for i in range(len(requests))]
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
        draws = [
            pick(each, [asking(*setting)] * 200, [stream(seed) for seed in range(200)])
            for each in (logits, logits + noise)
        ]
        assert sum(a != b for a, b in zip(*draws, strict=True)) <= 2


@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 1e6])
def test_extreme_temperatures(temperature: float) -> None:
    tokens = pick(LOGITS.expand(300, -1), [asking(temperature, 0.999)] * 300, [stream(seed) for seed in range(300)])
    assert set(tokens) == {5} if temperature < 1 else len(set(tokens)) == 12


def test_streams_are_their_seeds_own() -> None:
    assert stream(3).random() == stream(3).random()
    assert len({stream(seed).random() for seed in range(1000)}) == 1000
    assert stream(2**64 - 1).random() != stream(0).random(), "64-bit seeds"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(bad: float) -> None:
    logits = torch.stack([LOGITS, LOGITS])
    logits[1, 3] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(UserError, match="not finite"):
            pick(logits, [asking(temperature)] * 2, [stream(0), stream(1)])


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

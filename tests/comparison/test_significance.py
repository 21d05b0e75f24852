"""A false "worse" has at most the probability that was promised, clusters or not; a true loss is found."""

from qwen_eval.comparison.power import Assumptions, chance_to_find, items_needed, smallest_loss
from qwen_eval.comparison.significance import (
    bootstrap,
    exchange_clusters,
    exchange_values,
    holm,
    marks_interval,
    mcnemar,
)
from qwen_eval.stats import paired

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

ALPHA = 0.05


def three_errors(rate: float, trials: int) -> float:
    """Three standard errors of a simulated rate."""
    return float(3 * np.sqrt(rate * (1 - rate) / trials))


def loss_rate(gained: np.ndarray, lost: np.ndarray) -> float:
    """How often McNemar's test calls such counts a loss."""
    counts, times = np.unique(np.stack([gained, lost], axis=1), axis=0, return_counts=True)
    found = np.array([mcnemar(int(up), int(down)).loss <= ALPHA for up, down in counts])
    return float((found * times).sum() / len(gained))


def mean(sums):
    return sums[..., 0] / sums[..., 1]


# -- against statsmodels -----------------------------------------------------------------------------------------------


def test_mcnemar_is_that_of_statsmodels_on_random_tables():
    rng = np.random.default_rng(0)
    for _ in range(200):
        table = rng.integers(0, rng.choice([3, 20, 200]), (2, 2))
        gained, lost = int(table[0, 1]), int(table[1, 0])
        expected = float(their_mcnemar(table, exact=True).pvalue)
        assert mcnemar(gained, lost).two_sided == pytest.approx(min(1.0, expected), abs=1e-12)
        before = {n: n < lost for n in range(gained + lost)}
        assert paired(before, {n: not right for n, right in before.items()}).p_value == mcnemar(gained, lost).two_sided


def test_holm_is_that_of_statsmodels_on_random_p_values():
    rng = np.random.default_rng(1)
    for _ in range(8):  # each collects all garbage of this process
        given = np.round(rng.random(rng.integers(1, 30)) ** 3, 3)
        assert holm(given.tolist()) == pytest.approx(multipletests(given, method="holm")[1].tolist(), abs=1e-12)


# -- the same test in three forms --------------------------------------------------------------------------------------


def test_clusters_of_one_item_are_mcnemars_test():
    rng = np.random.default_rng(2)
    for _ in range(100):
        gained, lost, same = (int(n) for n in rng.integers(0, 40, 3))
        found = exchange_clusters([1] * gained + [-1] * lost + [0] * same)
        assert found == pytest.approx(mcnemar(gained, lost), abs=1e-12)


def test_clusters_are_counted_as_every_exchange_counts_them():
    rng = np.random.default_rng(3)
    for _ in range(50):
        differences = rng.integers(-6, 7, 10)
        a = np.stack([np.zeros(10), np.full(10, 10.0)], axis=1)
        b = a + np.stack([differences, np.zeros(10)], axis=1)
        assert exchange_clusters(differences) == pytest.approx(exchange_values(a, b, mean), abs=1e-12)


def test_five_clusters_that_all_lose_are_significant_and_four_are_not():
    assert exchange_clusters([-3, -8, -1, -2, -9]).loss == pytest.approx(1 / 32)
    assert exchange_clusters([-3, -8, -1, -2]).loss == pytest.approx(1 / 16)


def test_nothing_that_differs_is_no_loss_and_no_gain():
    assert mcnemar(0, 0) == exchange_clusters([0, 0]) == (1.0, 1.0, 1.0)
    same = np.ones((30, 2))
    assert exchange_values(same, same, mean) == (1.0, 1.0, 1.0)


# -- false alarms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "disagreement"), [(100, 0.05), (500, 0.05), (500, 0.3), (1319, 0.1)])
def test_single_items_raise_a_false_alarm_in_5_percent_of_cases_at_most(n: int, disagreement: float):
    rng = np.random.default_rng(n)
    trials = 20_000
    half = disagreement / 2
    counts = rng.multinomial(n, [half, half, 1 - disagreement], trials)
    assert loss_rate(counts[:, 0], counts[:, 1]) <= ALPHA + three_errors(ALPHA, trials)


def clustered_marks(rng: np.random.Generator, trials: int, clusters: int, size: int) -> np.ndarray:
    """Marks of B less those of A, two equally good runs, shape (trials, clusters, size). Each run has a mood for each
    cluster that all of its items share: they are right or wrong nearly together."""
    hardness = rng.normal(size=(trials, clusters, 1))

    def run() -> np.ndarray:
        mood = rng.normal(scale=1.5, size=(trials, clusters, 1))
        return hardness + mood + rng.normal(scale=0.5, size=(trials, clusters, size)) > 0

    return run().astype(int) - run().astype(int)


@pytest.mark.parametrize("clusters", [5, 12, 50])
def test_clusters_of_10_that_go_wrong_together_raise_a_false_alarm_in_5_percent_at_most(clusters: int):
    trials = 2_000
    marks = clustered_marks(np.random.default_rng(clusters), trials, clusters, 10)
    alarms = np.mean([exchange_clusters(differences).loss <= ALPHA for differences in marks.sum(axis=2)])
    assert alarms <= ALPHA + three_errors(ALPHA, trials)
    if clusters == 50:  # why McNemar's test is not for clusters
        assert loss_rate((marks > 0).sum(axis=(1, 2)), (marks < 0).sum(axis=(1, 2))) > 4 * ALPHA


@pytest.mark.parametrize(("items", "trials"), [(8, 1000), (26, 200)])
def test_figures_that_are_no_marks_raise_a_false_alarm_in_5_percent_at_most(items: int, trials: int):
    rng = np.random.default_rng(items)
    alarms = 0
    for _ in range(trials):
        hardness = rng.normal(size=items)
        a, b = (np.stack([hardness + rng.standard_t(3, size=items), np.ones(items)], axis=1) for _ in "ab")
        alarms += exchange_values(a, b, mean).loss <= ALPHA
    assert alarms / trials <= ALPHA + three_errors(ALPHA, trials)


@pytest.mark.heavy
@pytest.mark.parametrize("spread", [1, 3, 12])
def test_clusters_of_unequal_size_raise_a_false_alarm_in_5_percent_at_most(spread: int):
    rng = np.random.default_rng(spread)
    trials = 20_000
    sizes = rng.integers(1, 10 * spread, 27)  # as many as BBH has tasks
    effects = rng.normal(scale=0.3, size=(trials, 27)) * sizes
    alarms = np.mean([exchange_clusters(np.rint(one).astype(int)).loss <= ALPHA for one in effects])
    assert alarms <= ALPHA + three_errors(ALPHA, trials)


# -- true losses -------------------------------------------------------------------------------------------------------


def test_a_loss_of_3_points_on_500_items_with_5_percent_disagreement_is_found_in_90_percent():
    trials = 50_000
    counts = np.random.default_rng(5).multinomial(500, [0.01, 0.04, 0.95], trials)
    found = loss_rate(counts[:, 0], counts[:, 1])
    assert found >= 0.9
    assert found == pytest.approx(chance_to_find(500, 0.03, 0.05, ALPHA), abs=three_errors(0.9, trials))


def test_the_plan_is_right_about_what_it_promises():
    given, trials = Assumptions(), 20_000
    for n in (60, 158, 1120):
        loss = smallest_loss(n, given)
        assert loss is not None
        flipped = max(loss, given.disagreement)
        counts = np.random.default_rng(n).multinomial(
            n, [(flipped - loss) / 2, (flipped + loss) / 2, 1 - flipped], trials
        )
        assert loss_rate(counts[:, 0], counts[:, 1]) == pytest.approx(0.9, abs=three_errors(0.9, trials) + 0.002)


def test_the_items_that_a_loss_needs_are_the_fewest():
    given = Assumptions()
    for loss in (0.01, 0.03, 0.2):
        n = items_needed(loss, given)
        assert chance_to_find(n, loss, 0.05, 0.05) >= 0.9 > chance_to_find(n - 1, loss, 0.05, 0.05)
    assert items_needed(0.03, given) <= 500


def test_four_items_can_show_no_loss_at_all():
    assert smallest_loss(4, Assumptions()) is None  # all four lost: p = 1/16
    assert smallest_loss(5, Assumptions()) == pytest.approx(0.9 ** (1 / 5), abs=1e-4)  # all five must be lost


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_holds_the_true_one_in_95_percent_of_cases():
    rng, trials = np.random.default_rng(6), 20_000
    counts = rng.multinomial(200, [0.02, 0.06, 0.92], trials)
    held = np.mean([low <= -4 <= high for low, high in (marks_interval(int(u), int(d), 200) for u, d, _ in counts)])
    assert held == pytest.approx(0.95, abs=0.015)


def test_no_flipped_item_leaves_an_interval_with_a_width():
    low, high = marks_interval(0, 0, 500)
    assert low == -high and 0.3 < high < 1


def test_the_bootstrap_draws_whole_clusters():
    rng = np.random.default_rng(7)
    b = np.repeat(rng.choice([-1.0, 1.0], 40), 10)
    single = np.stack([b, np.ones(400)], axis=1)
    whole = single.reshape(40, 10, 2).sum(axis=1)
    alone = bootstrap(single * [0, 1], single, mean)[1]
    together = bootstrap(whole * [0, 1], whole, mean)[1]
    assert together == pytest.approx(alone * np.sqrt(10), rel=0.15)

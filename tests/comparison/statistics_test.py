"""Every figure of the statistics' reference that an implementation can meet, and known limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from initjax.comparison import decisions, statistics
from initjax.comparison.results import BETTER, BETTER_WITHIN, CANNOT_TELL, EQUIVALENT, WORSE

# The worked example.
D = np.array([0.4, 0.1, 0.5, 0.3, -0.1, 0.6, 0.2, 0.4, 0.3, 0.3])


def _normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_t_interval_and_p_of_the_worked_example():
    mean, low, high = statistics.t_interval(D)
    assert (mean, low, high) == pytest.approx((0.3, 0.156929, 0.443071), abs=1e-6)
    assert D.std(ddof=1) == pytest.approx(0.2)
    assert statistics.t_p_value(D) == pytest.approx(0.00105387, abs=1e-8)
    assert statistics.t_p_value(D) == pytest.approx(stats.ttest_1samp(D, 0).pvalue, rel=1e-9)


def test_sign_flip_wilcoxon_and_sign_test_of_the_worked_example():
    assert statistics.sign_flip_p(D) == 0.005859375
    # Wilcoxon's test is the sign-flip test of signed ranks, the sign test a binomial one.
    assert statistics.sign_flip_p(np.sign(D) * stats.rankdata(abs(D))) == 0.005859375
    assert statistics.mcnemar_p(9, 1) == 0.021484375


def test_effect_size_of_the_worked_example():
    assert statistics.effect_size(D) == pytest.approx((1.5, 1.370812), abs=1e-6)


def test_equivalence_of_the_worked_example():
    low, high, p = statistics.equivalence(D, 0.5)
    assert (low, high) == pytest.approx((0.184064, 0.415936), abs=1e-6)
    assert p == pytest.approx(0.00575399, abs=1e-8)


def test_evidence_of_the_worked_example():
    assert statistics.t_e_value(D) == pytest.approx(56.877, abs=5e-4)
    radius = 0.2 * statistics.sequence_radius(10)
    assert (0.3 - radius, 0.3 + radius) == pytest.approx((0.055253, 0.544747), abs=1e-6)
    assert statistics.symmetric_e_value(D, 10 / 3) == pytest.approx(7.2377, abs=5e-5)


@pytest.mark.parametrize("n, j", [(5, 0.7979), (10, 0.9139), (20, 0.9599)])
def test_hedges_correction(n, j):
    assert statistics.hedges_correction(n) == pytest.approx(j, abs=5e-5)


@pytest.mark.parametrize("n, p", [(5, 0.0625), (6, 0.03125), (7, 0.015625), (10, 0.001953125)])
def test_smallest_p_is_reached_and_no_smaller(n, p):
    assert statistics.smallest_p(n) == p
    assert statistics.sign_flip_p(np.arange(1.0, n + 1)) == p


def test_seeds_that_holm_needs():
    assert statistics.least_seeds(0.05) == 6
    assert statistics.least_seeds(0.05 / 3) == 7
    assert statistics.least_seeds(0.05 / 10) == 9
    for n in range(2, 17):
        assert statistics.least_seeds(2 / 2**n) == n


def test_holm_oracle():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]).shape == (0,)


@pytest.mark.parametrize(
    "alpha, seeds",
    [
        (0.05, (90, 34, 15, 10, 6, 5, 4)),
        (0.05 / 3, (120, 45, 20, 14, 8, 6, 5)),
        (0.05 / 10, (152, 58, 25, 18, 10, 8, 6)),
    ],
)
def test_seeds_for_a_difference(alpha, seeds):
    found = [statistics.seeds_for_difference(d, alpha) for d in (0.3, 0.5, 0.8, 1, 1.5, 2, 3)]
    assert tuple(found) == seeds


def test_seeds_for_equivalence():
    found = [statistics.seeds_for_equivalence(ratio) for ratio in (0.25, 0.5, 0.75, 1, 1.5, 2)]
    assert found == [139, 36, 17, 11, 6, 4]
    unpaired = 0.2 * math.sqrt(2)
    found = [statistics.seeds_for_equivalence(m / unpaired) for m in (0.1, 0.2, 0.3)]
    assert found == [70, 19, 10]


def test_too_many_seeds_are_not_counted():
    assert statistics.seeds_for_difference(1e-3) is None
    assert statistics.seeds_for_equivalence(1e-3) is None


def test_power_and_visible_effect_agree():
    dz = statistics.visible_effect(10, 0.05)
    assert statistics.power(10, dz) == pytest.approx(0.8, abs=1e-9)
    shares = statistics.t_p_value(dz + _normal(1, 20_000, 10)) < 0.05
    assert shares.mean() == pytest.approx(0.8, abs=0.012)


def test_equivalence_power_is_the_share_of_simulations():
    d = _normal(2, 20_000, 11)
    _, low, high = statistics.t_interval(d, 0.9)
    share = np.mean((low > -1) & (high < 1))
    assert statistics.equivalence_power(11, 1.0) == pytest.approx(share, abs=0.012)


def test_sd_upper_limit_holds_80_percent():
    sd = _normal(3, 20_000, 5).std(-1, ddof=1)
    assert np.mean(sd * statistics.sd_upper_limit(1.0, 5) > 1) == pytest.approx(0.8, abs=0.012)


def test_seeds_for_improvement():
    assert statistics.seeds_for_improvement(0.75) == 29


@pytest.mark.parametrize(
    "k, n, low, high",
    [
        (0, 5, 0, 0.522),
        (0, 10, 0, 0.308),
        (1, 10, 0.0025, 0.445),
        (2, 10, 0.025, 0.556),
        (0, 20, 0, 0.168),
    ],
)
def test_clopper_pearson(k, n, low, high):
    found = statistics.clopper_pearson(k, n)
    assert found == pytest.approx((low, high), abs=5e-4)
    exact = stats.binomtest(k, n).proportion_ci()
    assert found == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert statistics.clopper_pearson(n - k, n) == pytest.approx((1 - found[1], 1 - found[0]))


@pytest.mark.parametrize("b, c", [(0, 0), (1, 0), (3, 3), (0, 6), (7, 2)])
def test_mcnemar_is_a_binomial_test(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1
    assert statistics.mcnemar_p(b, c) == pytest.approx(expected)


def test_anytime_p_is_of_the_largest_evidence_on_the_way():
    assert statistics.anytime_p(D) == pytest.approx(1 / 56.877, rel=1e-4)
    assert statistics.anytime_p([*D, -2.0]) == statistics.anytime_p(D)  # what was seen stays seen
    assert statistics.anytime_p(D[:1]) == 1 and statistics.anytime_p(np.zeros(9)) == 1


def test_failure_evidence():
    """Of 2^n outcomes of n fair coins the evidence means 1, and it grows with one-sidedness."""
    for n in (1, 5, 12):
        mean = (
            sum(math.comb(n, k) * statistics.failure_e_value(k, n - k) for k in range(n + 1)) / 2**n
        )
        assert mean == pytest.approx(1)
    assert statistics.failure_e_value(0, 8) == pytest.approx(2**8 / 9)
    assert statistics.failure_e_value(0, 0) == 1


def test_sequence_radius():
    found = [statistics.sequence_radius(n) for n in (5, 8, 10, 20, 50, 100)]
    assert found == pytest.approx([3.780, 1.503, 1.224, 0.766, 0.470, 0.335], abs=6e-4)
    assert statistics.sequence_radius(4) == math.inf
    fixed = [statistics.t_quantile(0.975, n - 1) / math.sqrt(n) for n in (5, 8, 10, 20, 50, 100)]
    assert fixed == pytest.approx([1.242, 0.836, 0.715, 0.468, 0.284, 0.198], abs=6e-4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=6, max_size=30).filter(lambda d: np.std(d) > 1e-3),
    st.sampled_from([0.05, 0.01]),
)
def test_sequence_excludes_zero_just_where_the_evidence_says(d, alpha):
    radius = statistics.sequence_radius(len(d), alpha) * np.std(d, ddof=1)
    evidence = float(statistics.t_e_value(d))
    if abs(evidence * alpha - 1) > 1e-6:
        assert (abs(np.mean(d)) > radius) == (evidence >= 1 / alpha)


def _prefixes(d):
    """E after each number of seeds, shape (replications, seeds)."""
    return np.stack([statistics.t_e_value(d[:, :n]) for n in range(3, d.shape[1] + 1)], 1)


def test_evidence_looked_at_after_every_seed_errs_rarely():
    assert np.mean(_prefixes(_normal(4, 4000, 50)).max(1) >= 20) == pytest.approx(0.025, abs=0.008)


@pytest.mark.parametrize("dz, seeds", [(0.5, 35), (0.8, 17), (1, 12), (1.5, 8), (2, 7), (3, 6)])
def test_median_seeds_to_stop(dz, seeds):
    reached = _prefixes(dz + _normal(5, 2000, 60)) >= 20
    first = np.where(reached.any(1), 3 + reached.argmax(1), np.inf)
    assert abs(np.median(first) - seeds) <= (2 if dz == 0.5 else 1)


def test_symmetric_evidence_errs_rarely_for_heavy_tails():
    d = np.random.default_rng(6).standard_cauchy((300, 40))
    wrong = [max(statistics.symmetric_e_value(r[:n], 0.5) for n in range(3, 41)) >= 20 for r in d]
    assert np.mean(wrong) <= 0.02


@pytest.mark.slow
def test_planned_looks():
    d = _normal(7, 4000, 50)
    share = np.mean([statistics.first_look(row) is not None for row in d])
    assert share == pytest.approx(0.042, abs=0.01)
    assert statistics.first_look(D) == 10
    assert statistics.first_look(D + 10) == 5


def test_expected_best():
    values = [0.4, 0.1, 0.8, 0.2]
    found = [statistics.expected_best(values, b) for b in (1, 2, 3, 4)]
    assert found == pytest.approx([0.375, 0.51875, 0.6046875, 0.660546875], abs=1e-12)


def test_interquartile_mean():
    assert statistics.interquartile_mean(range(1, 9)) == 4.5
    assert statistics.interquartile_mean([100, 3, 1, 2, 4]) == 3


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_t_intervals_cover_at_their_level(n):
    _, low, high = statistics.t_interval(_normal(100 + n, 2000, n))
    assert 0.9405 <= np.mean((low <= 0) & (high >= 0)) <= 0.9595


def test_percentile_bootstrap_would_not_cover():
    rng = np.random.default_rng(8)
    means = _normal(9, 2000, 5)[:, rng.integers(5, size=(500, 5))].mean(-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.85, abs=0.03)


def test_bootstrap_t_covers():
    rows = _normal(10, 400, 20)
    limits = [statistics.bootstrap_t_interval(row, resamples=500) for row in rows]
    assert np.mean([low <= 0 <= high for low, high in limits]) == pytest.approx(0.95, abs=0.03)
    assert statistics.bootstrap_t_interval(np.ones(20)) is None


@pytest.mark.parametrize("law", ["normal", "exponential", "failing"])
def test_sign_flip_errs_at_its_level(law):
    rng = np.random.default_rng(11)
    draw = rng.exponential if law == "exponential" else rng.normal
    a, b = draw(size=(2, 10_000, 10))
    if law == "failing":
        a, b = (x - 20 * (rng.random(x.shape) < 0.1) for x in (a, b))
    assert np.mean(statistics.sign_flip_p(a - b) < 0.05) == pytest.approx(0.047, abs=0.008)


def test_random_flips_agree_with_all():
    d = _normal(12, 16) + 0.4
    exact = statistics.sign_flip_p(d)
    longer = np.append(d, 0.0)  # a difference of 0 changes no sum
    assert statistics.sign_flip_p(longer) == pytest.approx(exact, abs=0.01)
    assert statistics.sign_flip_p(np.arange(1.0, 31)) == statistics.smallest_p(30) == 1 / 10_001


@pytest.mark.parametrize("starts, unadjusted, level", [(3, 0.138, 0.051), (5, 0.331, 0.047)])
def test_holm_keeps_the_level_over_all_pairs(starts, unadjusted, level):
    values = _normal(13, 3000, starts, 5)
    pairs = [(i, j) for i in range(starts) for j in range(i)]
    p = np.stack([statistics.t_p_value(values[:, i] - values[:, j]) for i, j in pairs], 1)
    assert np.mean((p < 0.05).any(1)) == pytest.approx(unadjusted, abs=0.03)
    adjusted = np.array([statistics.holm(row) for row in p])
    assert np.mean((adjusted < 0.05).any(1)) == pytest.approx(level, abs=0.013)


@pytest.mark.parametrize("n, ratio, share", [(5, 1, 0.048), (10, 1, 0.050), (20, 0.5, 0.045)])
def test_false_equivalence_at_the_margin(n, ratio, share):
    _, low, high = statistics.t_interval(ratio + _normal(14, 10_000, n), 0.9)
    assert np.mean((low > -ratio) & (high < ratio)) == pytest.approx(share, abs=0.008)


@pytest.mark.parametrize(
    "n, true, shares",
    [
        (10, 0, (0.031, 0.777, 0.019, 0.173)),
        (10, 1, (0.795, 0.035, 0.013, 0.158)),
        (5, 0, (0.038, 0.283, 0.011, 0.669)),
    ],
)
def test_shares_of_the_verdicts_with_a_margin_of_one_sd(n, true, shares):
    d = true + _normal(15, 6000, n)
    mean, low, high = statistics.t_interval(d, 0.9)
    found = [
        decisions.classify(*row, 1.0)
        for row in zip(mean, statistics.t_p_value(d), low, high, strict=True)
    ]
    groups = ({BETTER, WORSE}, {EQUIVALENT}, {CANNOT_TELL})
    for group, share in zip(groups, (shares[0], shares[1], shares[3]), strict=True):
        assert np.mean([v in group for v in found]) == pytest.approx(share, abs=0.02)
    within = np.mean([v == BETTER_WITHIN or v.startswith("worse but") for v in found])
    assert within == pytest.approx(shares[2], abs=0.01)


def test_ranks_put_failures_last_and_ties_in_the_middle():
    d = statistics.rank_differences([3, -np.inf, 5], [3, -np.inf, 1])
    assert d.tolist() == [0, 0, 3]
    a, b = [0.9, 0.8, -np.inf], [0.7, 0.8, 0.1]
    assert statistics.improvement(a, b) == 0.5
    ranks = stats.rankdata([*a, *b])
    assert statistics.rank_differences(a, b) == pytest.approx(ranks[:3] - ranks[3:])


def test_steps_are_censored_not_dropped():
    assert statistics.first_step([10, 20, 30], [0.1, 0.6, 0.5], 0.55) == 20
    assert statistics.first_step([10, 20], [0.1, math.nan], 0.5) == math.inf
    reached = [True, True, False, False, False]
    assert statistics.kaplan_meier_median([10, 20, 50, 50, 50], reached) == math.inf
    assert statistics.kaplan_meier_median([10, 20, 30, 50], [True, True, True, False]) == 20
    # One was watched for 15 steps only: of 4 at risk at 20, half of what was left remain by 30.
    assert statistics.kaplan_meier_median([10, 15, 20, 30, 50], [1, 0, 1, 1, 0]) == 30


def test_mean_log_loss():
    assert statistics.mean_log_loss([0, 10, 20], [1, 1, 1]) == 0
    assert statistics.mean_log_loss([0, 10], [1, math.e]) == pytest.approx(0.5)
    assert statistics.mean_log_loss([5], [math.e]) == 1
    assert math.isfinite(statistics.mean_log_loss([0, 1], [1, 0]))


def test_profile_area():
    times = [[10, 10], [20, 40], [math.inf, 25]]
    assert statistics.profile_area(times) == pytest.approx([1, 1 / 3, 0.25])
    assert statistics.profile_area([[math.inf], [math.inf]]) == pytest.approx([0, 0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.randoms())
def test_order_and_sign_of_differences_change_no_p(d, random):
    shuffled = random.sample(d, len(d))
    p = statistics.sign_flip_p(d)
    assert statistics.sign_flip_p(shuffled) == p == statistics.sign_flip_p(-np.array(d))
    assert statistics.smallest_p(len(d)) <= p <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_one_more_p_lowers_none_that_is_adjusted(p, another):
    assert (statistics.holm([*p, another])[:-1] >= statistics.holm(p)).all()


def test_equal_differences():
    assert statistics.t_p_value(np.zeros(5)) == 1
    assert statistics.sign_flip_p(np.zeros(5)) == 1
    assert statistics.effect_size(np.zeros(5)) == (0, 0)
    assert statistics.effect_size(np.ones(5)) == (math.inf, math.inf)
    assert statistics.equivalence(np.ones(5), 0.5)[2] == 1
    assert statistics.equivalence(np.zeros(5), 0.5)[2] == 0
    assert statistics.t_e_value(np.ones(3)) == pytest.approx(4.0)
    assert statistics.t_e_value(np.zeros(3)) == pytest.approx(0.5)
    assert statistics.t_e_value([1.0]) == 1

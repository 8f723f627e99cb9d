import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.class_weight import compute_sample_weight

from birdemb.classify.reweighting import EFFECTIVE_BETA, RULES, check_class_weight, reweight
from birdemb.errors import InputError

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 4))


@st.composite
def entries(draw):
    shape = draw(SHAPES)
    weight = st.one_of(st.just(0.0), st.floats(0.01, 100))
    return draw(arrays(np.bool_, shape)), draw(arrays(np.float64, shape, elements=weight))


@given(entries())
def test_positives_and_negatives_weigh_the_same(given_entries):
    targets, weights = given_entries
    balanced = reweight(targets, weights, "balanced")
    for target, before, after in zip(targets.T, weights.T, balanced.T, strict=True):
        assert after.sum() == pytest.approx(before.sum())
        if before[target].any() and before[~target].any():
            assert after[target].sum() == pytest.approx(after[~target].sum())
        else:
            assert np.array_equal(after, before)


@pytest.mark.parametrize("rule", RULES)
@given(entries())
def test_every_rule_keeps_the_total_and_lifts_the_rarer_side(rule, given_entries):
    targets, weights = given_entries
    reweighted = reweight(targets, weights, rule)
    for target, before, after in zip(targets.T, weights.T, reweighted.T, strict=True):
        assert after.sum() == pytest.approx(before.sum())
        positives, negatives = before[target].sum(), before[~target].sum()
        if positives and negatives:
            share_before, share_after = positives / before.sum(), after[target].sum() / after.sum()
            assert min(share_before, 0.5) - 1e-9 <= share_after <= max(share_before, 0.5) + 1e-9


def test_sqrt_is_half_of_the_way():
    targets = np.arange(100)[:, np.newaxis] < 4
    reweighted = reweight(targets, np.ones((100, 1)), "sqrt").ravel()
    assert reweighted[:4].sum() / reweighted[4:].sum() == pytest.approx(np.sqrt(4 / 96))


def test_effective_is_the_formula_of_cui_and_others():
    targets = np.arange(3000)[:, np.newaxis] < 500
    reweighted = reweight(targets, np.ones((3000, 1)), "effective").ravel()
    number = [(1 - EFFECTIVE_BETA**n) / (1 - EFFECTIVE_BETA) for n in (500, 2500)]
    assert reweighted[0] / reweighted[-1] == pytest.approx(number[1] / number[0])


@given(entries())
def test_masked_entries_keep_their_zero_and_do_not_count(given_entries):
    targets, weights = given_entries
    balanced = reweight(targets, weights, "balanced")
    assert np.array_equal(balanced == 0, weights == 0)
    assert np.array_equal(reweight(np.where(weights == 0, ~targets, targets), weights, "balanced"), balanced)


@given(entries())
def test_none_changes_nothing(given_entries):
    targets, weights = given_entries
    assert np.array_equal(reweight(targets, weights, None), weights)


@given(arrays(np.bool_, st.integers(2, 40)))
def test_the_formula_is_that_of_scikit_learn(target):
    balanced = reweight(target[:, None], np.ones((len(target), 1)), "balanced")[:, 0]
    if target.any() and not target.all():
        np.testing.assert_allclose(balanced, compute_sample_weight("balanced", target))


@given(entries(), st.integers(0, 11))
def test_a_weight_of_two_is_the_entry_twice(given_entries, row):
    targets, weights = given_entries
    row %= len(targets)
    doubled = weights.copy()
    doubled[row] *= 2
    twice = reweight(np.vstack([targets, targets[row]]), np.vstack([weights, weights[row]]), "balanced")
    once = reweight(targets, doubled, "balanced")
    np.testing.assert_allclose(once[row], twice[row] + twice[-1])
    others = np.arange(len(targets)) != row
    np.testing.assert_allclose(once[others], twice[:-1][others])


def test_the_arguments_are_not_changed():
    targets, weights = np.array([[True], [False], [False]]), np.ones((3, 1))
    reweight(targets, weights, "balanced")
    assert np.array_equal(weights, np.ones((3, 1)))


@pytest.mark.parametrize("wrong", ["Balanced", 1, [1, 2]])
def test_unknown_class_weight(wrong):
    with pytest.raises(InputError, match="Use 'balanced', 'sqrt', 'effective' or None"):
        check_class_weight(wrong)

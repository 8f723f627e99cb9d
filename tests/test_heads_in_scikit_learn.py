"""The heads keep scikit-learn's own contract for classifiers."""

import pytest
from head_data import needs_torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from birdemb.classify.heads import make_head

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_torch_thread")]

# Dropout is drawn for each row, so that a row repeated is never quite the row weighted: off for the checks.
SMALL_MLP = make_head("mlp", hidden=(16,), dropout=0.0, epochs=60, learning_rate=0.01, n_jobs=1)


def expected_failures(_):
    return {
        "check_sample_weight_equivalence_on_dense_data": "15 rows of 30 features give splits of equal gain, among "
        "which LightGBM's float32 gradients choose by their last digit; "
        "see test_lgbm_weight_is_repetition_where_no_gains_are_equal"
    }


@parametrize_with_checks([make_head("lr")])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@parametrize_with_checks([make_head("lgbm", n_estimators=50)], expected_failed_checks=expected_failures)
def test_scikit_learn_contract_of_lgbm(estimator, check):
    check(estimator)


@needs_torch
@parametrize_with_checks([SMALL_MLP])
def test_scikit_learn_contract_of_mlp(estimator, check):
    check(estimator)

"""Heads and windows for the tests of heads."""

import numpy as np
import pytest

from birdemb.classify.heads import make_head

try:
    import torch
except ImportError:
    torch = None

NAMES = ["lr", "lgbm"] if torch is None else ["lr", "lgbm", "mlp"]
needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

# Small heads: the contract does not depend on their size. In one thread: several wait for each other in so small ones.
FAST = {
    "lr": {},
    "lgbm": {"n_estimators": 20, "feature_fraction": 0.5},
    "mlp": {"hidden": (16,), "epochs": 40, "batch_size": 32, "learning_rate": 0.01, "n_jobs": 1},
}


def make(name, **params):
    return make_head(name, **{"random_state": 0, **FAST[name], **params})


def make_data(seed, n=80, dim=12, classes=4):
    """Skewed, non-negative embeddings; each class raises two features of its own."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, classes)) < 0.3).astype(int)
    y[0], y[1] = 1, 0
    X = rng.exponential(size=(n, dim))
    X[:, : 2 * classes] += 3 * np.repeat(y, 2, axis=1)
    return X.astype(np.float32), y

"""From embeddings to probabilities: the heads, how they are trained, and the bundle that keeps them."""

import os

# PyTorch, LightGBM and scikit-learn read it when they are loaded. Threads of OpenMP that wait for each other keep their
# cores busy otherwise, and where anything else runs beside them, a fit takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

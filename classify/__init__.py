"""From embeddings to probabilities: the heads, how they are trained, and the bundle that keeps them."""

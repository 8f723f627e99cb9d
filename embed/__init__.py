"""Audio to embeddings: decoding, windows, encoders, and the run over a folder."""

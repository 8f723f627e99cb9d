"""Audio to embeddings: decoding, windows, encoders, and the run over a folder."""

import sys

# `import openvino` would report to Google Analytics that it was imported, from a process that it forks for that: users
# were not asked, and offline means offline. Without this package OpenVINO reports nothing, and misses nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

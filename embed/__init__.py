"""Audio to embeddings: decoding, windows, encoders, and the run over a folder."""

import sys

# Each import of OpenVINO sends a message to Google Analytics, unless this package of its makers cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

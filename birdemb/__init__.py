"""Recognise birds, frogs, insects and mammals in sound: frozen encoders, light heads.

birdemb.embed_recordings("data/")
birdemb.fit("lgbm")
birdemb.predict_folder("soundscapes/", output="submission.csv")
birdemb.evaluate("submission.csv", "truth.csv")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birdemb.cache.view import open_cache
    from birdemb.demo import run_demo
    from birdemb.embedding import embed_recordings
    from birdemb.errors import BirdembError
    from birdemb.evaluating import evaluate
    from birdemb.fitting import fit
    from birdemb.label_checking import check_labels
    from birdemb.listening import Listener, listen
    from birdemb.notebooks import predict
    from birdemb.predicting import predict_folder
    from birdemb.tuning import tune

__all__ = [
    "BirdembError",
    "Listener",
    "check_labels",
    "embed_recordings",
    "evaluate",
    "fit",
    "listen",
    "open_cache",
    "predict",
    "predict_folder",
    "run_demo",
    "tune",
]

_HOMES = {
    "BirdembError": "birdemb.errors",
    "check_labels": "birdemb.label_checking",
    "embed_recordings": "birdemb.embedding",
    "evaluate": "birdemb.evaluating",
    "fit": "birdemb.fitting",
    "open_cache": "birdemb.cache.view",
    "Listener": "birdemb.listening",
    "listen": "birdemb.listening",
    "predict": "birdemb.notebooks",
    "predict_folder": "birdemb.predicting",
    "run_demo": "birdemb.demo",
    "tune": "birdemb.tuning",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is asked for
    # Loaded when asked for: `import birdemb` and `birdemb --help` must not wait for pandas and OpenVINO.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'birdemb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

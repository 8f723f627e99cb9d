"""How fast PANNs' networks are in torch and in OpenVINO, and how far apart what they give.

    python tests/benchmarks/panns.py [--networks panns-cnn14 panns-mobilenetv1 panns-mobilenetv2] [--rounds 10]

One thread, windows of 5 s, four at a time; true architectures with random numbers, which are as fast as the real ones.
torch and OpenVINO take turns, so that whatever else the machine does is as bad for either; the best round counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))

from card_files import write_card
from panns_checkpoints import NETWORKS, make_tensors, write_checkpoint

from birdemb.embed.encoder import load_encoder
from birdemb.embed.panns_front_end import make_log_mels
from birdemb.embed.panns_networks import make_network

AT_ONCE, SAMPLES = 4, 160_000


def time_in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Give milliseconds a window of each step."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], 1000 * (time.perf_counter() - started) / AT_ONCE)
    return best


def measure(card: str, rounds: int) -> None:
    network = make_network(NETWORKS[card])
    tensors = {name: torch.from_numpy(np.asarray(tensor)) for name, tensor in make_tensors(NETWORKS[card]).items()}
    network.load_state_dict(tensors)
    windows = np.random.default_rng(0).normal(0, 0.05, (AT_ONCE, SAMPLES)).astype(np.float32)
    samples = torch.from_numpy(windows)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        write_checkpoint(Path(folder) / "weights.pth", NETWORKS[card])
        encoder = load_encoder(str(write_card(Path(folder), card, "weights.pth")))
        wanted, got = network(samples)["embedding"].numpy(), encoder.encode(windows)
        best = time_in_turns(
            {
                "torch": lambda: network(samples),
                "OpenVINO": lambda: encoder.encode(windows),
                "front end": lambda: make_log_mels(windows, encoder.filters),
            },
            rounds,
        )
    print(
        f"{card:18} torch {best['torch']:7.1f} ms  OpenVINO {best['OpenVINO']:7.1f} ms, of which front end "
        f"{best['front end']:5.1f} ms  ratio {best['torch'] / best['OpenVINO']:4.2f}  "
        f"largest difference {np.abs(got - wanted).max():.1e} of {np.abs(wanted).max():.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for card in given.networks:
            measure(card, given.rounds)


if __name__ == "__main__":
    main()

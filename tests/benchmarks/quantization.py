"""BirdNET's trunk in fewer bits: size, speed and nearness to float32 of every way to do it, and on every processor.

    python tests/benchmarks/quantization.py --data FOLDER [--windows 200] [--measured 40] [--work FOLDER]
        [--ways f32,f16,int8,plain,ort] [--rounds 30]

FOLDER holds `birds14/` to calibrate with (no window of it is measured on), and `soundscapes/` and `background/`, whose
windows are measured on. Sizes are those of the files; milliseconds those of one window of 5 s, four at once in one
thread, the best of many rounds in turn. The ways:

    f32     OpenVINO, as it is
    bf16    the same, computed in bfloat16, where the processor has it
    f16     weights stored in half precision, computed in float32
    int8    `birdemb quantize`, without its search: all convolutions that mix channels but the first
    plain   NNCF as it comes
    biased  as int8, with NNCF's correction of biases by running the network
    ort     ONNX Runtime's static quantization (QDQ), of what goes into the same convolutions as int8
    ort-all ONNX Runtime's static quantization as it comes

The second table times the networks of OpenVINO with `ONEDNN_MAX_CPU_ISA` set to what older processors have: each in a
process of its own, and only what this processor has.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from birdemb.embed.calibration import choose_windows
from birdemb.embed.encoder import load_encoder
from birdemb.embed.fast_trunks import make_fast_trunk
from birdemb.embed.openvino_models import compile_model
from birdemb.embed.openvino_onnx import translate_model
from birdemb.embed.precision import has_bf16
from birdemb.embed.quantizer import Quantizer, cosines_of, import_nncf
from birdemb.embed.recordings import find_recordings
from birdemb.embed.windows import WindowGrid, stream_windows
from birdemb.onnx_building import GraphBuilder

NAME = "birdnet-2.4"
WAYS = ("f32", "bf16", "f16", "int8", "plain", "biased", "ort", "ort-all")
ISAS = {
    "AVX2": {"avx2"},
    "AVX512_CORE": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "AVX512_CORE_VNNI": {"avx512_vnni"},
    "AVX512_CORE_BF16": {"avx512_bf16"},
    "AVX512_CORE_AMX": {"amx_int8", "amx_bf16"},
}
Rows = NDArray[np.float32]
Run = Callable[[Rows], Rows]


class Ways:
    """Makes the networks, each in a file, and runs them."""

    def __init__(self, quantizer: Quantizer, inputs: Rows, work: Path) -> None:
        self.quantizer, self.inputs, self.work = quantizer, inputs, work

    def make(self, way: str) -> tuple[Run, int]:
        """Give what runs a network, and the bytes of its files."""
        if way.startswith("ort"):
            return self._make_onnx(way)
        model, path = self._model(way), self.work / f"{way}.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        request = read(path, way, (4, *self.inputs.shape[1:]))
        size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
        return lambda rows: run_openvino(request, rows), size

    def _model(self, way: str) -> ov.Model:
        quantizer = self.quantizer
        if way == "f16":
            return quantizer.halve()
        if way in ("f32", "bf16"):
            return quantizer.model
        if way == "int8":
            return quantizer.quantize(quantizer.quantizable, self.inputs)
        nncf = import_nncf()
        ignored = quantizer.ignored(quantizer.quantizable) if way == "biased" else []
        with contextlib.redirect_stdout(io.StringIO()):
            return nncf.quantize(
                quantizer.model.clone(),
                nncf.Dataset([each[None] for each in self.inputs]),
                subset_size=len(self.inputs),
                preset=nncf.QuantizationPreset.MIXED,
                fast_bias_correction=way != "biased",
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )

    def _make_onnx(self, way: str) -> tuple[Run, int]:
        import onnxruntime
        from onnxruntime import quantization

        exact, path = self.work / "f32.onnx", self.work / f"{way}.onnx"
        chosen = self._export(exact)
        given = iter([{"spectrograms": each[None]} for each in self.inputs])

        class Reader(quantization.CalibrationDataReader):
            def get_next(self) -> dict[str, Rows] | None:
                return next(given, None)

        quantization.quantize_static(
            exact,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Else two products of 8 bits would not fit into the 16 that processors without VNNI add them in.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=chosen if way == "ort" else None,
            # As NNCF does it: what comes out of a convolution goes into its activation in float32.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]} if way == "ort" else None,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda rows: session.run(None, {"spectrograms": rows})[0], path.stat().st_size

    def _export(self, path: Path) -> list[str]:
        """Write the trunk as ONNX, and name the convolutions that `int8` quantizes."""
        model = self.quantizer.model
        parameter = model.inputs[0].get_node()
        graph = GraphBuilder("trunk")
        shape = ["windows", *list(self.inputs.shape[1:])]
        known = {parameter.get_name(): graph.add_input("spectrograms", shape)}
        graph.add_output("embeddings", *translate_model(model, graph, known), ("windows", 1024))
        proto = graph.build({})
        convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
        for number, node in enumerate(convolutions):
            node.name = f"convolution_{number}"
        path.write_bytes(proto.SerializeToString())
        # Depthwise ones are convolutions in ONNX too.
        groups = [next((a.i for a in node.attribute if a.name == "group"), 1) for node in convolutions]
        mixing = [node.name for node, group in zip(convolutions, groups, strict=True) if group == 1]
        return [mixing[number] for number in self.quantizer.quantizable]


def read(path: Path, way: str, shape: Sequence[int]) -> ov.InferRequest:
    """Read a trunk as a real run does, for inputs of one shape."""
    precision = "bf16" if way == "bf16" else "f32"
    model = make_fast_trunk(path.read_bytes(), path.with_suffix(".bin").read_bytes(), shape, precision)
    return compile_model(model, precision).create_infer_request()


def run_openvino(request: ov.InferRequest, rows: Rows) -> Rows:
    request.infer([rows])
    embeddings: Rows = request.get_output_tensor(0).data.copy()
    return embeddings


def in_fours(run: Run, inputs: Rows) -> Rows:
    whole = np.resize(inputs, (-(-len(inputs) // 4) * 4, *inputs.shape[1:]))
    return np.concatenate([run(whole[start : start + 4]) for start in range(0, len(whole), 4)])[: len(inputs)]


def time_in_turn(runs: dict[str, Run], batch: Rows, rounds: int) -> dict[str, float]:
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for way, run in runs.items():
            started = time.perf_counter()
            run(batch)
            best[way] = min(best[way], 1000 * (time.perf_counter() - started) / len(batch))
    return best


def windows_of(folder: Path, count: int) -> Iterator[Rows]:
    """Give windows from all over the recordings of a folder."""
    found = find_recordings(folder).recordings
    each = -(-count // len(found))
    for recording in found:
        windows = np.concatenate([part for part, _ in stream_windows(recording, 48_000, WindowGrid())])
        yield windows[:: max(1, len(windows) // each)][:each]


def flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def time_isas(ways: list[str], work: Path, rounds: int) -> None:
    print(f"\n{'ms a window, by instructions':<30}" + "".join(f"{way:>9}" for way in ways))
    for isa, needed in ISAS.items():
        if not needed <= flags():
            print(f"{isa:<30}  not here: this processor has no {', '.join(sorted(needed - flags()))}")
            continue
        chosen = [way for way in ways if way != "bf16" or isa in ("AVX512_CORE_BF16", "AVX512_CORE_AMX")]
        command = [sys.executable, __file__, "--time", ",".join(chosen), "--work", str(work), "--rounds", str(rounds)]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        times: dict[str, float] = json.loads(said)
        print(f"{isa:<30}" + "".join(f"{times[way]:>9.1f}" if way in times else f"{'-':>9}" for way in ways))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--measured", type=int, default=40, help="windows of each folder to measure on")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.time:
        batch = np.load(given.work / "batch.npy")
        requests = {way: read(given.work / f"{way}.xml", way, batch.shape) for way in given.time.split(",")}
        runs: dict[str, Run] = {
            way: lambda rows, request=request: run_openvino(request, rows)  # type: ignore[misc]
            for way, request in requests.items()
        }
        print(json.dumps(time_in_turn(runs, batch, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(given, given.work or Path(temporary))


def compare(given: Any, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(NAME)
    quantizer = Quantizer(encoder.read_trunk(), NAME)
    chosen = choose_windows(
        given.data / "birds14",
        windows=given.windows,
        sample_rate=48_000,
        grid=WindowGrid(),
        look=quantizer.look,
        embed=lambda inputs: quantizer.run(quantizer.exact, inputs),
    )
    sets = {"birds14": chosen.held_out[: given.measured]} | {
        name: quantizer.look(np.concatenate([*windows_of(given.data / name, given.measured)]))
        for name in ("soundscapes", "background")
    }
    exact = {name: quantizer.run(quantizer.exact, inputs) for name, inputs in sets.items()}
    four = np.resize(sets["soundscapes"], (4, *sets["soundscapes"].shape[1:]))
    np.save(work / "batch.npy", four)
    print(f"calibrated with {len(chosen.inputs)} windows of {chosen.recordings} recordings of birds14")
    print(f"{'':<8}{'MB':>7}" + "".join(f"{name + ' mean':>17}{'worst':>8}" for name in sets))
    ways = Ways(quantizer, chosen.inputs, work)
    runs: dict[str, Run] = {}
    for way in given.ways.split(","):
        if way == "bf16" and not has_bf16():
            print(f"{way:<8}  not here: this processor has no bfloat16 instructions, and it is never emulated")
            continue
        runs[way], size = ways.make(way)
        cosines = [cosines_of(in_fours(runs[way], inputs), exact[name]) for name, inputs in sets.items()]
        found = "".join(f"{own.mean():>17.4f}{own.min():>8.4f}" for own in cosines)
        print(f"{way:<8}{size / 1e6:>7.2f}{found}", flush=True)
    times = time_in_turn(runs, four, given.rounds)
    print("\nms a window: " + ", ".join(f"{way} {value:.1f}" for way, value in times.items()))
    time_isas([way for way in runs if not way.startswith("ort")], work, given.rounds)


if __name__ == "__main__":
    main()

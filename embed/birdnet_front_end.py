"""BirdNET's front end: two spectrograms of a frame, each a matrix product and a power.

The TFLite graph casts the complex result of its short-time Fourier transforms to float, which keeps the real part
alone, so that framing, window, transform and mel matrix are one linear map (`MelBranch.weights`, which
`birdemb.embed.birdnet_graph` reads):

    frame -> mel @ real(rfft(hann * frame)) = (mel @ cos(2 pi k n / N) * hann) @ frame = kernel @ frame

Each row of the kernel is symmetric, ``kernel[n] = kernel[N - n]``, since the cosines and the window are, and
``kernel[0]`` is 0. Adding the second half of a frame, turned round, to its first therefore halves the matrix
product and changes nothing:

    kernel @ frame = sum over n = 1 ... N/2 of kernel[n] (frame[n] + frame[N - n])    (half of kernel[N/2])

The lower of the two spectrograms ends at 3 kHz, so that its kernel is as good as known from every second of its
values: it is heard at half the rate, behind a low pass, by a kernel that is fitted to the first (`halve_rate`). That
halves its matrix product once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdemb.embed.openvino_models import compile_model

__all__ = ["FrontEnd", "MelBranch", "Spectrograms", "halve_rate"]

_ZEROS = 8  # of the low pass, so that it has one tap more
_STOPPED = 3200.0 / 48_000  # of the rate: so wide a band below half of it is stopped, that of the bands and a little
_LARGEST_RESIDUAL = 1e-6  # of a row's norm: the rounding errors of float32 in such a sum are as large


@dataclass(frozen=True)
class MelBranch:
    """One of the two spectrograms, as a linear map of folded frames.

    Parameters
    ----------
    hop : int
        Samples between the short frames of its Fourier transform.
    weights : ndarray of shape (half a short frame, mel bands), float32
        Of the folded samples 1 ... N/2.
    of_a_constant : ndarray of shape (mel bands,), float32
        What a frame of ones gives.
    exponent : float
        To which the magnitude is raised.
    low_pass : ndarray of shape (taps,), float32
        Through which every second sample is heard; empty where all are.
    halved : ndarray of shape (a quarter of a short frame, mel bands), float32
        The weights for those; empty where there are none.
    """

    hop: int
    weights: NDArray[np.float32]
    of_a_constant: NDArray[np.float32]
    exponent: float
    low_pass: NDArray[np.float32]
    halved: NDArray[np.float32]

    @property
    def short_frame(self) -> int:
        """Samples that one Fourier transform sees."""
        return 2 * len(self.weights)

    def count(self, samples: int) -> int:
        """Count the time steps of a frame of so many samples."""
        return 1 + (samples - self.short_frame) // self.hop

    @property
    def kernel(self) -> NDArray[np.float32]:
        """The weights of the samples 0 ... N of a short frame that is not folded, shape (N + 1, mel bands)."""
        half = len(self.weights)
        kernel = np.zeros((2 * half + 1, self.weights.shape[1]), np.float32)
        kernel[1:half] = self.weights[:-1]
        kernel[half] = 2 * self.weights[-1]
        kernel[half + 1 : -1] = self.weights[-2::-1]
        return kernel

    @property
    def heard_weights(self) -> NDArray[np.float32]:
        """The weights for what is heard: every second sample, or all of them."""
        return self.halved if len(self.low_pass) else self.weights


@dataclass(frozen=True)
class FrontEnd:
    """The two spectrograms. Nothing of it depends on how much is to be heard in one pass.

    Parameters
    ----------
    branches : sequence of MelBranch
    factors, summands : ndarray of shape (branches,), float32
        What each spectrogram is multiplied by, and what is then added.
    """

    branches: Sequence[MelBranch]
    factors: NDArray[np.float32]
    summands: NDArray[np.float32]

    def count_steps(self, samples: int) -> int:
        """Count the time steps of the spectrograms of so many samples."""
        return min(branch.count(samples) for branch in self.branches)


class Spectrograms:
    """The front end for one length of frame, with the memory that it works in.

    Parameters
    ----------
    front_end : FrontEnd
    samples : int
        Length at 48 kHz of a frame, 3 s or more.

    Attributes
    ----------
    shape : tuple of int
        Of the spectrograms of one frame: 2, mel bands, steps.
    """

    def __init__(self, front_end: FrontEnd, samples: int) -> None:
        self._front_end = front_end
        steps, bands = front_end.count_steps(samples), front_end.branches[0].weights.shape[1]
        self.shape = (len(front_end.branches), bands, steps)
        self._folded = [np.empty((steps, len(branch.heard_weights)), np.float32) for branch in front_end.branches]
        self._offset = np.empty((1, 1), np.float32)
        self._powers = np.empty((steps, bands), np.float32)
        # By OpenVINO, as NumPy's products would use all cores, and come out otherwise on another number of them.
        self._products = compile_model(_make_products(front_end, steps), "f32").create_infer_request()
        for index, array in enumerate([*self._folded, self._offset]):
            self._products.set_input_tensor(index, ov.Tensor(array, shared_memory=True))

    def compute(self, frame: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Compute the spectrograms of one frame of shape (samples,), into an array of shape (2, mel bands, steps)."""
        scaled, self._offset[:] = _scale(frame)
        for branch, folded in zip(self._front_end.branches, self._folded, strict=True):
            if len(branch.low_pass):
                _fold(_take_every_second(scaled, branch.low_pass), branch.hop // 2, folded)
            else:
                _fold(scaled, branch.hop, folded)
        self._products.infer()
        powers = self._powers
        for number, branch in enumerate(self._front_end.branches):
            # A power through the logarithm, as NumPy computes both of these in vectors and a power one by one; 0
            # stays 0 by way of minus infinity.
            with np.errstate(divide="ignore"):
                np.log(self._products.get_output_tensor(number).data, out=powers)
            powers *= branch.exponent
            np.exp(powers, out=powers)
            powers *= self._front_end.factors[number]
            np.add(powers.T, self._front_end.summands[number], out=out[number])


def _make_products(front_end: FrontEnd, steps: int) -> ov.Model:
    """Make the matrix products: of the folded samples of each branch, and the constant offset; gives magnitudes."""
    offset = ops.parameter([1, 1], np.float32, "offset")
    folded = [ops.parameter([steps, len(branch.heard_weights)], np.float32) for branch in front_end.branches]
    magnitudes = []
    for given, branch in zip(folded, front_end.branches, strict=True):
        product = ops.matmul(given, ops.constant(branch.heard_weights), False, False)
        constant = ops.multiply(offset, ops.constant(branch.of_a_constant[None]))
        magnitudes.append(ops.result(ops.absolute(ops.add(product, constant)).output(0)))
    return ov.Model(magnitudes, [*folded, offset], "birdnet-2.4-front-end")


def halve_rate(branch: MelBranch) -> MelBranch:
    """Let a branch hear every second sample, where that changes no more than rounding does.

    The short frame's kernel is written as a sum of low passes, one about each second sample, by least squares. The low
    pass has all its zeros where sound would be mirrored from into the bands, below half the rate, spread there as
    those of a Chebyshev polynomial; what else it does to the bands, the fitted kernel undoes.

    Parameters
    ----------
    branch : MelBranch
        That hears all samples.

    Returns
    -------
    MelBranch
        The one that was given, where its bands reach too high for that, or its hop or half its short frame is odd.
    """
    half = len(branch.weights)
    if half % 2 or branch.hop % 2:
        return branch
    low_pass = _design_low_pass()
    reach = len(low_pass) // 2
    # One column for each second sample, but for the first, of which the kernel has nothing.
    columns = np.zeros((2 * half + 1 + 2 * reach, half - 1))
    for column in range(half - 1):
        columns[2 * column + 2 : 2 * column + 3 + 2 * reach, column] = low_pass
    padded = np.pad(branch.kernel.astype(np.float64), ((reach, reach), (0, 0)))
    fitted = np.linalg.solve(columns.T @ columns, columns.T @ padded)
    residual = np.linalg.norm(padded - columns @ fitted, axis=0) / np.linalg.norm(padded, axis=0)
    if residual.max() > _LARGEST_RESIDUAL:
        return branch
    halved = fitted[: half // 2]
    halved[-1] /= 2
    return replace(branch, low_pass=low_pass.astype(np.float32), halved=np.ascontiguousarray(halved, np.float32))


def _design_low_pass() -> NDArray[np.float64]:
    """Design a symmetric filter with zeros from ``0.5 - _STOPPED`` to 0.5 of the rate, and 1 at rate 0."""
    lowest, highest = -1.0, np.cos(2 * np.pi * (0.5 - _STOPPED))
    places = np.cos((2 * np.arange(_ZEROS // 2) + 1) * np.pi / _ZEROS)
    taps = np.ones(1)
    for place in (lowest + highest) / 2 + (highest - lowest) / 2 * places:
        taps = np.convolve(taps, [1, -2 * place, 1])
    low_pass: NDArray[np.float64] = taps / taps.sum()
    return low_pass


def _scale(frame: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """Bring a frame to -1..1 by its own smallest and largest sample, as the graph does, but as a sum of two parts.

    The graph computes ``2 (x - min) / (max - min + 1e-6) - 1``. In a frame that is partly silent, as a padded one,
    this is a constant far from 0, and the rounding errors of its spectrum, raised to a small power, are large
    enough to be seen in the embedding. Here the part that varies is 0 where the recording is, and the constant goes
    its own way, exactly.

    Returns
    -------
    scaled : ndarray of shape (samples,), float32
        ``2 (x - c) / (max - min + 1e-6)``, c being the value nearest to 0 between min and max.
    offset : float32
        What has to be added to it.
    """
    lowest, highest = frame.min(), frame.max()
    centre = min(max(lowest, np.float32(0)), highest)
    gain = np.float32(2) / (highest - lowest + np.float32(1e-6))
    return (frame - centre) * gain, (centre - lowest) * gain - np.float32(1)


def _take_every_second(samples: NDArray[np.float32], low_pass: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give samples 0, 2, 4 ... behind a symmetric low pass; around them is silence."""
    count, reach = len(samples) // 2, len(low_pass) // 2
    even, odd = (np.zeros(count + 2 * reach, np.float32) for _ in range(2))
    even[reach : reach + count], odd[reach : reach + count] = samples[: 2 * count : 2], samples[1 : 2 * count : 2]
    taken: NDArray[np.float32] = low_pass[reach] * even[reach : reach + count]
    pair = np.empty_like(taken)
    for distance in range(1, reach + 1):
        side = odd if distance % 2 else even
        before, behind = reach - (distance + 1) // 2, reach + distance // 2
        np.add(side[before : before + count], side[behind : behind + count], out=pair)
        pair *= low_pass[reach + distance]
        taken += pair
    return taken


def _fold(samples: NDArray[np.float32], hop: int, folded: NDArray[np.float32]) -> None:
    """Add the second half of each short frame, turned round, to its first: ``x[n] + x[N - n]`` for n = 1 ... N/2.

    The samples are turned round once, so that both summands lie in memory in the order in which they are added.
    """
    half, steps = folded.shape[1], folded.shape[0]
    backwards = np.ascontiguousarray(samples[::-1])
    first = sliding_window_view(samples[1:], half)[::hop][:steps]
    second = sliding_window_view(backwards, half)[len(samples) - 2 * half :: -hop][:steps]
    np.add(first, second, out=folded)

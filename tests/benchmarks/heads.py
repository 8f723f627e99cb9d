"""How long the heads take to be fitted and asked, against one classifier after the other, and in how much memory.

    python tests/benchmarks/heads.py [--windows N ...] [--classes 206] [--head NAME ...] [--against NAME ...]

The embeddings are synthetic and look like real ones: never negative, skewed, correlated through few factors, alike
within a recording; a few classes have most of the recordings (Zipf's law). Each measurement has a process of its own.
Memory is the largest resident, and before it what was resident when the fit began, the embeddings included.

Beside them, in the same run, by joblib's threads, on the same matrix, weights and cores, as many as `--jobs`, one class
after the other: scikit-learn's `LogisticRegression` ("lr one by one"), LightGBM as it is, with as many trees of the
same size ("lgbm one by one"), and LightGBM with all parameters of the head and a data set for each class, which gives
the very trees of the head ("lgbm from scratch"). Only `--sample` classes, spread over all frequencies, are fitted and
asked so, and the times are multiplied up. The tables after the first say how many times faster each head is than these.
"CPU" is the time of all threads together, which says more than "fit" where others want the cores too.
"lr path" fits 8 penalties over three decades (no data are divided) and, for comparison, the weakest of them by itself,
which takes most iterations; "lr cv" chooses a penalty for each class by 5 folds. A pass is an iteration of all classes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import psutil
from joblib import Parallel, delayed, effective_n_jobs
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from birdemb.classify.heads import HEADS, make_head
from birdemb.classify.logistic_solver import SharedMatrix
from birdemb.classify.logistic_task import Task
from birdemb.classify.reweighting import reweight
from birdemb.classify.transform import InputTransform
from birdemb.classify.tree_growing import find_intercept

DIM, FACTORS, WINDOWS_OF_A_RECORDING = 1024, 96, 12
PREDICTED = 8_400  # windows of 700 soundscapes of a minute
C = 1e-3
RULE = "balanced"  # that of reweighting which scikit-learn and LightGBM have, too
ALTERNATIVES = ("lr one by one", "lgbm one by one", "lgbm from scratch")
EXTRAS = {"lr": ["lr path", "lr cv"]}


def synthesise(windows: int, classes: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.int64]]:
    """Give embeddings, targets and recordings."""
    rng = np.random.default_rng(seed)
    count = -(-windows // WINDOWS_OF_A_RECORDING)
    recording = np.repeat(np.arange(count), WINDOWS_OF_A_RECORDING)[:windows]
    share = 1 / np.arange(1, classes + 1) ** 1.1
    main = rng.choice(classes, count, p=share / share.sum())
    main[: 2 * classes] = np.repeat(np.arange(classes), 2)[:count]  # no class is without two recordings
    rng.shuffle(main)
    targets = np.zeros((windows, classes), np.bool_)
    targets[np.arange(windows), main[recording]] = True
    other = rng.choice(classes, count, p=share / share.sum())
    joined = np.flatnonzero((rng.random(count) < 0.15)[recording] & (rng.random(windows) < 0.5))
    targets[joined, other[recording[joined]]] = True

    voices = rng.standard_normal((classes, FACTORS), np.float32)
    sites = rng.standard_normal((count, FACTORS), np.float32)
    mixed = (
        rng.standard_normal((FACTORS, DIM), np.float32) / np.sqrt(np.arange(1, FACTORS + 1, dtype=np.float32))[:, None]
    )
    X = np.empty((windows, DIM), np.float32)
    for start in range(0, windows, 4096):
        rows = slice(start, min(start + 4096, windows))
        size = rows.stop - rows.start
        loud = rng.gamma(2.0, 0.35, (size, 1)) * (rng.random((size, 1)) > 0.2)  # a fifth of the windows is silent
        factors = targets[rows] @ voices * loud.astype(np.float32) + sites[recording[rows]]
        factors += 0.7 * rng.standard_normal((size, FACTORS), np.float32)
        raw = factors @ mixed + rng.standard_normal((size, DIM), np.float32) - 1
        X[rows] = 0.1 * np.square(np.maximum(raw, 0))
    return X, targets, recording


def resident(peak: bool) -> float:
    """Give the memory of this process in GB."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return psutil.Process().memory_info().rss / 1024**3


class FromScratch:
    """The trees of the head for one class, from a data set of its own."""

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any]) -> FromScratch:
        head = make_head("lgbm", random_state=0)
        params = {**head._make_params(), "num_threads": 1}
        start = find_intercept(y, sample_weight, np.zeros(len(y)))
        data = lgb.Dataset(X, label=y, weight=sample_weight, init_score=np.full(len(y), start), params=params)
        self.booster = lgb.train(params, data, head.n_estimators)
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        return self.booster.predict(X, num_threads=1)


def fit_one_by_one(
    make: Callable[[], Any], X: NDArray[Any], targets: NDArray[np.bool_], sample: int, jobs: int
) -> dict[str, float]:
    """Fit and ask some classes, the times for all of them multiplied up."""
    standardised = InputTransform.learn(X, np.ones(len(X)), "sqrt").apply(X)
    by_frequency = np.argsort(-targets.sum(axis=0), kind="stable")
    some = by_frequency[np.linspace(0, len(by_frequency) - 1, min(sample, len(by_frequency))).astype(int)]
    weights = reweight(targets[:, some], np.ones((len(X), len(some))), RULE)
    before, clock = resident(peak=False), Clock()
    parallel, times = Parallel(n_jobs=jobs, prefer="threads"), targets.shape[1] / len(some)
    with threadpool_limits(1, user_api="blas"):
        models = parallel(
            delayed(make().fit)(standardised, targets[:, column], weights[:, place])
            for place, column in enumerate(some)
        )
        took, peak = clock.read(times), resident(peak=True)
        unseen, clock = np.resize(standardised, (PREDICTED, DIM)), Clock()
        parallel(delayed(model.predict_proba)(unseen) for model in models)
    return took | {"before (GB)": before, "peak (GB)": peak, "predict (s)": clock.read(times)["fit (s)"]}


class Clock:
    """The time since it was made, on the wall and of all threads of this process."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, times: float = 1.0) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"fit (s)": wall * times, "CPU (s)": cpu * times}


def measure(name: str, windows: int, classes: int, sample: int, jobs: int) -> dict[str, float]:
    X, targets, recording = synthesise(windows, classes)
    if name == "lr one by one":
        return fit_one_by_one(lambda: LogisticRegression(C=C, max_iter=200), X, targets, sample, jobs)
    if name == "lgbm from scratch":
        return fit_one_by_one(FromScratch, X, targets, sample, jobs)
    if name == "lgbm one by one":
        params = make_head("lgbm").get_params()
        shared = {key: params[key] for key in ("n_estimators", "learning_rate", "num_leaves") if key in params}
        return fit_one_by_one(
            lambda: LGBMClassifier(**shared, n_jobs=1, verbose=-1, random_state=0), X, targets, sample, jobs
        )
    if name == "lr path":
        standardised = InputTransform.learn(X, np.ones(windows), "sqrt").apply(X)
        weights = reweight(targets, np.ones(targets.shape), RULE)
        path = np.repeat(C * 10 ** np.linspace(-2, 1, 8)[:, np.newaxis], classes, axis=1)
        task, before, clock = Task(targets, weights), resident(peak=False), Clock()
        matrix = SharedMatrix(standardised, np.ones(windows), jobs)
        made = clock.read()
        found = matrix.fit(task, path, 200)
        took, peak, clock = clock.read(), resident(peak=True), Clock()
        alone = matrix.fit(task, path[-1:], 200)
        one = {f"{key} of one": seconds + made[key] for key, seconds in clock.read().items()}
        return took | one | {"before (GB)": before, "peak (GB)": peak,
                             "passes": float(found.n_iter.mean(axis=1).sum()),
                             "passes of one": float(alone.n_iter.mean())}  # fmt: skip
    own = {"lr": {"C": C}, "lr cv": {"C": "cv"}}.get(name, {})
    head = make_head(name.split()[0], class_weight=RULE, random_state=0, n_jobs=jobs, **own)
    before, clock = resident(peak=False), Clock()
    head.fit(X, targets, groups=recording)
    took, peak = clock.read(), resident(peak=True)
    unseen, clock = np.resize(X, (PREDICTED, DIM)), Clock()
    head.predict_proba(unseen)
    result = took | {"before (GB)": before, "peak (GB)": peak, "predict (s)": clock.read()["fit (s)"]}
    return result | ({"passes": float(head.n_iter_.mean())} if hasattr(head, "n_iter_") else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, action="append", help="default: 20000 and 100000")
    parser.add_argument("--classes", type=int, default=206)
    parser.add_argument("--head", action="append", choices=HEADS, help="default: all")
    parser.add_argument("--against", action="append", choices=ALTERNATIVES, help="default: all")
    parser.add_argument("--sample", type=int, default=12, help="classes that are fitted one by one")
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        found = measure(args.measure, args.windows[0], args.classes, args.sample, effective_n_jobs(args.jobs))
        print(json.dumps(found))
        return

    rows = []
    for windows in args.windows or [20_000, 100_000]:
        heads = [name for head in args.head or HEADS for name in (head, *EXTRAS.get(head, []))]
        for name in [*heads, *(args.against or ALTERNATIVES)]:
            command = [sys.executable, __file__, "--measure", name, "--windows", windows, "--classes", args.classes,
                       "--sample", args.sample, "--jobs", args.jobs]  # fmt: skip
            done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout)
            print(f"{windows:,} windows, {name}: {found['fit (s)']:.1f} s", file=sys.stderr)
            if "passes of one" in found:
                wall, cpu, passes = (found.pop(f"{key} of one") for key in ("fit (s)", "CPU (s)", "passes"))
                print(f"{windows:,} windows: path of 8: {found['fit (s)'] / wall:.2f} times the price of one, "
                      f"{found['CPU (s)'] / cpu:.2f} in CPU time "
                      f"({found['passes']:.1f} passes against {passes:.1f})")  # fmt: skip
            rows.append({"windows": windows, "what": name, **found})
    print(f"{args.classes} classes of {DIM} features on {effective_n_jobs(args.jobs)} cores; {PREDICTED:,} predicted; "
          f"one by one: {min(args.sample, args.classes)} classes fitted, multiplied up to {args.classes}")  # fmt: skip
    table = pd.DataFrame(rows)
    show(table)
    for column in ("fit (s)", "CPU (s)", "predict (s)"):
        print(f"times as fast as, by {column}:")
        show(compare(table, column))


def compare(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Give how many times faster each head is than each alternative."""
    rows = []
    for windows, of_windows in table.groupby("windows"):
        seconds = of_windows.set_index("what")[column].dropna()
        others = [name for name in ALTERNATIVES if name in seconds]
        rows += [
            {"windows": windows, "what": name, **(seconds[others] / own)} for name, own in seconds.drop(others).items()
        ]
    return pd.DataFrame(rows)


def show(table: pd.DataFrame) -> None:
    print(table.to_string(index=False, na_rep="", float_format="{:.2f}".format))


if __name__ == "__main__":
    main()

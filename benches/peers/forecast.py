"""Our forecasts beside refits by statsforecast and Prophet: the same series, the same origins, one run.

    python3 -m venv target/peers && target/peers/bin/pip install -r benches/peers/requirements.txt
    cargo build --release -p tidewatch-benches --bin quality
    target/peers/bin/python benches/peers/forecast.py --data Hourly-train.csv --series 2/40

Series are rows of a CSV file, a name and values an hour apart. Each method is fitted anew at every origin, on all that came before; ours is
updated hour by hour, and what it costs is told of an update. MASE is scaled by the mean absolute difference from the value a day before, over what is not held out.
"""

import argparse
import csv
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from prophet import Prophet
from statsforecast import StatsForecast
from statsforecast.models import MSTL, AutoARIMA, AutoETS, AutoTheta, SeasonalNaive

DAY, WEEK = 24, 168
LEVEL = 95
START = pd.Timestamp("2026-01-05")

MODELS = {
    "seasonal naive": lambda: SeasonalNaive(season_length=DAY),
    "AutoETS": lambda: AutoETS(season_length=DAY),
    "AutoTheta": lambda: AutoTheta(season_length=DAY),
    "MSTL + AutoETS": lambda: MSTL(season_length=[DAY, WEEK], trend_forecaster=AutoETS(model="ZZN")),
    "AutoARIMA": lambda: AutoARIMA(season_length=DAY),
}


def read(path, series):
    """The series that are asked for, those of the K-th of every N rows."""
    first, every = (int(number) for number in series.split("/"))
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    chosen = rows[first - 1 :: every]
    return [(row[0], np.array([float(cell) for cell in row[1:] if cell.strip()])) for row in chosen]


def by_statsforecast(model, known, horizon):
    frame = pd.DataFrame({"unique_id": 0, "ds": np.arange(len(known)), "y": known})
    found = StatsForecast(models=[model()], freq=1).forecast(df=frame, h=horizon, level=[LEVEL])
    name = next(column for column in found.columns if column not in ("unique_id", "ds") and "-" not in column)
    return found[name].to_numpy(), found[f"{name}-lo-{LEVEL}"].to_numpy(), found[f"{name}-hi-{LEVEL}"].to_numpy()


def by_prophet(known, horizon):
    frame = pd.DataFrame({"ds": START + pd.to_timedelta(np.arange(len(known)), unit="h"), "y": known})
    model = Prophet(interval_width=LEVEL / 100).fit(frame)
    found = model.predict(model.make_future_dataframe(periods=horizon, freq="h", include_history=False))
    return found["yhat"].to_numpy(), found["yhat_lower"].to_numpy(), found["yhat_upper"].to_numpy()


def judge(method, series, args):
    """MASE, sMAPE, share in the band and seconds a forecast, each the mean over series."""
    figures, seconds, forecasts = [], 0.0, 0
    for name, values in series:
        end = len(values) - args.holdout
        scale = np.abs(values[DAY:end] - values[: end - DAY]).mean()
        of_series = []
        for origin in range(end, len(values) - args.horizon + 1, args.every):
            began = time.perf_counter()
            expected, lower, upper = method(values[:origin], args.horizon)
            seconds += time.perf_counter() - began
            forecasts += 1
            came = values[origin : origin + args.horizon]
            error = np.abs(came - expected)
            size = np.abs(came) + np.abs(expected)
            smape = 200 * np.divide(error, size, out=np.zeros_like(error), where=size > 0)
            inside = (lower <= came) & (came <= upper)
            of_series.append((error.mean() / scale, smape.mean(), inside.mean()))
        figures.append(np.mean(of_series, axis=0))
        print(f"\r{len(figures)} of {len(series)} series", end="", file=sys.stderr)
    print("\r", end="", file=sys.stderr)
    return (*np.mean(figures, axis=0), seconds / forecasts)


def ours(args, tier):
    """The same by the product."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [args.quality, "forecast", "--data", args.data, "--series", args.series, "--holdout", args.holdout]
        command += ["--horizon", args.horizon, "--every", args.every, "--tier", tier, "--json", file.name]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(Path(file.name).read_text())["figures"][0]
    path = found["horizons"][-1]
    return path["mase"], path["smape"], path["coverage_95"], found["us_an_update"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a CSV file: a name and values an hour apart in each row")
    parser.add_argument("--series", default="1/20", help="K/N: the K-th of every N rows")
    parser.add_argument("--holdout", type=int, default=48)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--every", type=int, default=24, help="hours from origin to origin")
    parser.add_argument("--quality", default="target/release/quality")
    parser.add_argument("--json", help="write the figures to this file, too")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    for noisy in ("cmdstanpy", "prophet"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    series = read(args.data, args.series)
    methods = {name: (lambda known, horizon, model=model: by_statsforecast(model, known, horizon)) for name, model in MODELS.items()}
    methods["Prophet"] = by_prophet
    print(f"{len(series)} series, {args.horizon} hours ahead, an origin each {args.every} hours of the last {args.holdout}")
    print(f"{'':24}{'MASE':>8}{'sMAPE':>8}{'in 95 %':>9}{'a forecast':>14}")
    found = {}
    for tier in ("full", "light"):
        found[f"Tidewatch, {tier}"] = ours(args, tier)
    for name, method in methods.items():
        found[name] = judge(method, series, args)
    for name, (mase, smape, inside, seconds) in found.items():
        cost = f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.0f} ms"
        print(f"{name:24}{mase:8.3f}{smape:8.2f}{inside:9.3f}{cost:>14}")
    if args.json:
        keys = ("mase", "smape", "coverage_95", "seconds_a_forecast")
        Path(args.json).write_text(json.dumps({name: dict(zip(keys, map(float, is_))) for name, is_ in found.items()}, indent=2))


if __name__ == "__main__":
    main()

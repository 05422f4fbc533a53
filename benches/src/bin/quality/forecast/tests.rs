use std::collections::BTreeMap;

use clap::Parser as _;

use super::judge::{naive2, smape};
use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    let line = ["quality"].iter().chain(line);
    Line::try_parse_from(line).map(|line| line.args).unwrap_or_else(|error| panic!("{error}"))
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} {b}");
}

/// A file of these lines.
fn file(lines: impl Iterator<Item = String>) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    std::fs::write(file.path(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    file
}

#[test]
fn what_is_asked_is_read_or_told_to_be_wrong() {
    let chosen: Chosen = "2/3".parse().unwrap();
    assert_eq!((0..7).filter(|&at| chosen.has(at)).collect::<Vec<_>>(), [1, 4]);
    for wrong in ["0/2", "3/2", "1", "a/b", "1/0"] {
        assert!(wrong.parse::<Chosen>().is_err(), "{wrong}");
    }
    let steps = |text: &str| text.parse::<Length>().map(|length| length.steps(300_000));
    assert_eq!([steps("24"), steps("24h"), steps("1m")], [Ok(24), Ok(288), Ok(1)], "of a span at least one");
    for wrong in ["0", "0s", "-1", "soon", ""] {
        assert!(steps(wrong).unwrap_err().contains("neither a number of steps"), "{wrong}");
    }
    let asked =
        |line: &[&str]| Asked::new(&args(&[&["--data", "x"], line].concat()), HOUR_MS).map(|asked| asked.horizons);
    assert_eq!(asked(&["--horizon", "3"]).unwrap(), [1, 2, 3], "one is a path");
    assert_eq!(asked(&["--horizon", "1", "--horizon", "1d"]).unwrap(), [1, 24]);
    for (line, part) in [
        (&["--horizon", "49"][..], "up to 48 steps"),
        (&["--horizon", "6", "--horizon", "3"], "ascending"),
        (&["--horizon", "24", "--holdout", "12"], "beyond --holdout"),
        (&["--season", "1"], "shorter than two steps"),
        (&["--season", "168", "--season", "24"], "the shorter one first"),
        (&["--season", "2", "--season", "3", "--season", "4"], "one or two"),
    ] {
        let error = asked(line).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_factors_of_naive2_are_those_of_the_season() {
    let wave = [0.5, 1.0, 1.5, 1.0];
    let values: Vec<f64> = (0..24).map(|at| 10.0 * wave[at % 4]).collect();
    let factors = naive2(&values, 4).unwrap();
    factors.iter().zip(wave).for_each(|(factor, wave)| close(*factor, wave));
    assert_eq!(naive2(&values[..11], 4), None, "fewer than three seasons");
    assert_eq!(naive2(&values, 5), None, "no season of five");
    let with_zero: Vec<f64> = values.iter().map(|value| value - 5.0).collect();
    assert_eq!(naive2(&with_zero, 4), None, "not above 0");
}

#[test]
fn errors_are_those_of_their_definitions() {
    // Twice 1 from the value two before, and once 4: a scale of 2.
    let values = [1.0, 2.0, 2.0, 3.0, 6.0, 5.0, 8.0];
    let scale = season_error(&values[..5], 2).unwrap();
    close(scale, 2.0);
    assert_eq!(season_error(&values[..2], 2), None);
    close(smape(3.0, 1.0), 100.0);
    close(smape(0.0, 0.0), 0.0);

    let asked = Asked { seasons: vec![2], horizons: vec![1, 2], holdout: 2, every: 1 };
    let mut judge = Judge::new(&values, &asked, scale);
    let point = |steps, mean| PathPoint {
        steps,
        mean,
        bands: vec![(0.8, mean - 1.0, mean + 1.0), (0.95, mean - 2.0, mean + 2.0)],
        accuracy: None,
    };
    judge.origin(5, &[point(1, 4.0), point(2, 5.0)]);
    // Only the first of these comes: it counts at its horizon, and for no path.
    judge.origin(6, &[point(1, 9.0), point(2, 9.0)]);
    let found = judge.found().unwrap();
    let [one, two, path] = &found[..] else { panic!("{}", found.len()) };
    // |5 - 4| and |8 - 9|, |8 - 5|; the path is of the first origin.
    close(one.mase, 0.5 * (0.5 + 0.5));
    close(two.mase, 1.5);
    close(path.mase, 0.5 * (0.5 + 1.5));
    // 8 is one above the upper end of the 95 % band of two ahead, and outside of both.
    assert_eq!([one.inside, two.inside], [[1.0, 1.0], [0.0, 0.0]]);
    close(two.width[1], 2.0);
    close(two.msis, 2.0 + 2.0 / 0.05 * 1.0 / 2.0);
    // Naive: 6 for 5 and 8, then 5 for 8; a season before: 3 for 5, 6 for 8, then 6 for 8.
    close(one.simple[0], 0.5 * (0.5 + 1.5));
    close(two.simple[1], 1.0);
    let twice = Sums { series: 1.0, mase: 1.0, smape: 10.0, naive2: [2.0, 40.0], ..Sums::default() };
    close(twice.owa().unwrap(), 0.5 * (0.5 + 0.25));
    assert!(Sums::default().owa().is_none());
}

#[test]
fn files_of_one_series_or_several_are_read_by_their_columns() {
    let line =
        |series: &str, at: usize| format!("{series},2026-01-{:02} {:02}:00:00,{},x", 5 + at / 24, at % 24, at % 7);
    let rows = (0..96).flat_map(|at| [line("a", at), line("b", at)]);
    let long = file(std::iter::once("host,ds,load,note".to_owned()).chain(rows));
    let path = long.path().to_str().unwrap();
    let line = ["--data", path, "--value", "load", "--by", "host", "--horizon", "3", "--holdout", "24"];
    let group = Group::measure(long.path(), &args(&line)).unwrap();
    assert_eq!((group.sums[0].series, group.updates), (2.0, 192));
    assert_eq!(group.horizons, ["1", "2", "3", "path"]);
    assert_eq!(group.by_naive[0].iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let error = |line: &[&str]| Group::measure(long.path(), &args(line)).map(|_| ()).unwrap_err();
    let told = format!("{:#}", error(&["--data", path, "--value", "cpu"]));
    assert!(told.contains("no column `cpu`, but host, ds, load, note"), "{told}");
    let told = format!("{:#}", error(&["--data", path, "--value", "note"]));
    assert!(told.contains(":2, column `note`: `x` is no number"), "{told}");
    let empty = file(std::iter::empty());
    let told = Group::measure(empty.path(), &args(&["--data", "x", "--value", "load"])).map(|_| ()).unwrap_err();
    assert!(format!("{told:#}").contains("no header"), "{told:#}");
    let told = error(&["--data", path]).to_string();
    assert!(told.contains("by --value"), "{told}");
}

#[test]
fn a_series_as_a_row_is_forecast_hour_by_hour() {
    let values: Vec<String> = (0..240).map(|at| (100 + 10 * (at % 24)).to_string()).collect();
    let rows = file(["name,v1".to_owned(), format!("h1,{},,", values.join(",")), "short,1,2,3".to_owned()].into_iter());
    let line = ["--data", rows.path().to_str().unwrap(), "--horizon", "6", "--holdout", "24", "--every", "6"];
    let error = Group::measure(rows.path(), &args(&line)).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("varies there"),
        "the seasonal error of a pure season is 0, so nothing is scaled by it: {error}"
    );
    let noisy: Vec<String> = (0..240).map(|at| (100 + 10 * (at % 24) + at * 7 % 5).to_string()).collect();
    let rows = file(["name,v1".to_owned(), format!("h1,{}", noisy.join(","))].into_iter());
    let group = Group::measure(rows.path(), &args(&line)).unwrap();
    assert_eq!((group.sums[0].series, group.updates), (1.0, 240));
    let (by_naive, worst) = group.by_naive(5);
    close(by_naive, worst);
    assert!(worst < 0.2, "a daily wave, which the last value knows nothing of: {worst}");
    assert_eq!(group.figures()["horizons"].as_array().unwrap().len(), 7);
    assert!(group.table(&args(&line)).contains("path above 1.1 by naive: 0 "));
}

#[test]
fn another_future_changes_no_forecast_from_before_it() {
    let known = |at: usize| 100.0 + (at * 7_919 % 101) as f64 + 40.0 * (at as f64 / 24.0 * std::f64::consts::TAU).sin();
    let (holdout, changed) = (72, 400);
    let series = |beyond: f64| Recorded {
        name: String::new(),
        start_ms: START_MS,
        step_ms: HOUR_MS,
        values: (0..432).map(|at| if at < changed { known(at) } else { beyond }).collect(),
    };
    for tier in ["full", "light"] {
        let args = args(&["--data", "x", "--holdout", "72", "--tier", tier]);
        let asked = Asked::new(&args, HOUR_MS).unwrap();
        let params = params(&args, &asked, HOUR_MS).unwrap();
        let paths = |beyond: f64| {
            let mut all = BTreeMap::new();
            pass(&series(beyond), &asked, &params, |at, path| {
                let bits = path.iter().flat_map(|point| {
                    let bands = point.bands.iter().flat_map(|&(level, lower, upper)| [level, lower, upper]);
                    bands.chain([point.mean]).map(f64::to_bits)
                });
                all.insert(at, bits.collect::<Vec<_>>());
            });
            all
        };
        let (one, mut other) = (paths(1_000.0), paths(0.5));
        assert_eq!(one.len(), holdout);
        for (at, path) in one {
            let is_same = other.remove(&at).unwrap() == path;
            assert_eq!(is_same, at <= changed, "{tier}: the path from {at} on");
        }
    }
}

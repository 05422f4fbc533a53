//! How well the shipped defaults detect and forecast: `cargo run --release -p tidewatch-benches --bin quality -- …`.
//!
//! Every instrument hands rows as events to the product's own engine and reads what it says of each window. There is no other algorithm
//! here, no setting for a data set, and nothing that looks ahead.

mod calibration;
mod cost;
mod feed;
mod forecast;
mod forest;
mod measures;
mod multivariate;
mod nab;
mod rows;
mod scored;
mod series;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidewatch_benches::report;

const EXAMPLES: &str = "\
Examples:
  quality nab --data NAB --results results --json nab.json
  quality series --input my-series --output scored     every CSV file of a folder: timestamp,value[,label]
  quality multivariate --input machine.csv             one CSV file of several columns: timestamp,cpu,memory,…[,label]
  quality calibration --check                          asked against measured rates of false alarms
  quality forest --data sets                           NAME.csv.gz, the last column the label
  quality forecast --data Hourly-train.csv             accuracy of forecasts and of their bands, series as rows
  quality cost                                         time of a window and bytes of an entity, default detectors
  quality truth --seeds 20                             recall and precision on the demo's faults, by kind";

/// Measures how well the shipped defaults detect and forecast
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    instrument: Instrument,
    /// Write the figures to this file as JSON, too
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Fail if a goal is missed
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum Instrument {
    /// The Numenta Anomaly Benchmark: 58 series, three profiles, halves with a frozen threshold
    Nab(nab::Args),
    /// Any folder of CSV files: scores of each row, and how good they are where rows are labelled
    Series(series::Args),
    /// A CSV file of several columns that are judged together: scores of each row, and how good they are where rows are labelled
    Multivariate(multivariate::Args),
    /// Asked against measured rates of false alarms, on series in which nothing is wrong
    Calibration(calibration::Args),
    /// The forest by itself: how well it ranks the rows of labelled sets, and what a row costs
    Forest(forest::Args),
    /// How good forecasts are, and how often values fall into their bands
    Forecast(forecast::Args),
    /// The whole chain: what a closed window costs, and how many bytes an entity takes
    Cost(cost::Args),
    /// The shipped scenarios through decoder and engine: what of the injected faults is found
    Truth(truth::Args),
}

fn main() -> ExitCode {
    tidewatch_benches::exit_code(measure(&Args::parse()))
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let load = report::load();
    let (what, report) = match &args.instrument {
        Instrument::Nab(more) => ("NAB", nab::run(more)?),
        Instrument::Series(more) => ("series", series::run(more)?),
        Instrument::Multivariate(more) => ("multivariate", multivariate::run(more)?),
        Instrument::Calibration(more) => ("calibration", calibration::run(more)?),
        Instrument::Forest(more) => ("forest", forest::run(more)?),
        Instrument::Forecast(more) => ("forecast", forecast::run(more)?),
        Instrument::Cost(more) => ("cost", cost::run(more)?),
        Instrument::Truth(more) => ("truth", truth::run(more)?),
    };
    let about = report::about(&format!("{what}, shipped defaults"), &load);
    report::publish(&report, &about, args.json.as_deref(), args.check)
}

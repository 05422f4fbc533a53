//! Any folder of recorded series: what is said of each row, and how good that is where rows are labelled.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tidewatch_benches::report::Report;
use tidewatch_schemas::record::AlertKind;

use crate::rows::Values;
use crate::scored::{self, Scored};

/// The options of `quality series`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of CSV files, each with `timestamp,value` and maybe `label`; subfolders are looked into
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Write `timestamp,value,score,kind` of each row to a file of the same name in this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Feeds every file, and scores what is said of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let write = |scored: &Scored| args.output.as_ref().map_or(Ok(()), |folder| write(folder, scored));
    let (table, figures) = scored::table(&scored::score(&args.input, Values::One, write)?);
    Ok(Report::new(table, figures))
}

fn write(folder: &Path, scored: &Scored) -> anyhow::Result<()> {
    let Scored { name, series, verdicts, .. } = scored;
    let mut text = String::from("timestamp,value,score,kind\n");
    for (at, (row, said)) in series.rows.iter().zip(&verdicts.rows).enumerate() {
        let time = jiff::Timestamp::from_millisecond(row.time_ms)?;
        let (value, kind) = (series.values(at)[0], said.opens.map_or("", AlertKind::as_str));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{time},{value},{},{kind}", said.score);
    }
    scored::write(&folder.join(name), text.as_bytes())
}

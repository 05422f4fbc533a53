//! The wall clock of a process, off: by a library that the process preloads, built from `clock.c` by the C compiler that the workspace
//! needs anyway.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How far off it is.
pub(crate) const SECONDS: i64 = 3_600;
const SOURCE: &str = include_str!("clock.c");

/// The library, in a folder of its own for as long as this lives.
pub(crate) struct Clock(tempfile::TempDir);

impl Clock {
    /// Builds it; nothing where that does not work, or where it does not do what it is for.
    pub(crate) fn build() -> Option<Self> {
        let clock = Self(tempfile::tempdir().ok()?);
        let source = clock.0.path().join("clock.c");
        std::fs::write(&source, SOURCE).ok()?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut build = Command::new(compiler);
        build.args(["-shared", "-fPIC", "-O2", "-o"]).arg(clock.library()).arg(&source).arg("-ldl");
        let is_built = build.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        (is_built && clock.is_off()).then_some(clock)
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("clock.so")
    }

    /// What a process is to have in its environment for a clock that is off by so many seconds.
    pub(crate) fn environment(&self, seconds: i64) -> Vec<(String, String)> {
        let of = |name: &str, value: String| (name.to_owned(), value);
        vec![of("LD_PRELOAD", shown(&self.library())), of("FAULTS_CLOCK_OFF_S", seconds.to_string())]
    }

    /// Whether a program that is told so sees another time.
    fn is_off(&self) -> bool {
        let now = |environment: Vec<(String, String)>| {
            let output = Command::new("date").arg("+%s").envs(environment).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse::<i64>().ok()
        };
        let (right, wrong) = (now(Vec::new()), now(self.environment(SECONDS)));
        right.zip(wrong).is_some_and(|(right, wrong)| (wrong - right - SECONDS).abs() < 60)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

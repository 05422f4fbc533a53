//! Kafka's jars: found, or fetched once by Maven from the list in `pom.xml`.
//!
//! Invariant: a folder with the marker `complete` holds every jar of the list; any number of processes may ask at once,
//! one fetches under a file lock and the others wait for it.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{StartError, file};

const POM: &str = include_str!("../pom.xml");
const COMPLETE: &str = "complete";

/// The version of Apache Kafka that is fetched: the first dependency's in `pom.xml`.
pub fn version() -> &'static str {
    let artifact = POM.split("<artifactId>kafka_2.13</artifactId>").nth(1);
    artifact
        .and_then(|rest| rest.split("<version>").nth(1))
        .and_then(|rest| rest.split("</version>").next())
        .expect("pom.xml names kafka_2.13 with a version")
}

/// The folder of the jars, fetched first if it is not complete. `announce` prints one line before a fetch.
pub(crate) fn ensure(announce: bool) -> Result<PathBuf, StartError> {
    if let Some(own) = env::var_os("TIDEWATCH_KAFKA_DIR") {
        let own = PathBuf::from(own);
        if !own.join(COMPLETE).exists() && holds_jars(&own) {
            return Ok(own); // a folder of the user's: Kafka's own `libs`, for example
        }
        return fetch_once(&own, announce);
    }
    fetch_once(&cache_dir().join("kafka").join(version()), announce)
}

/// A folder of jars as a class path.
pub(crate) fn class_path(jars: &Path) -> String {
    format!("{}/*", jars.display())
}

fn holds_jars(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("kafka_2.13-"))
}

/// The build's target folder if this runs from one, else the user's cache folder.
fn cache_dir() -> PathBuf {
    let from_exe = env::current_exe().ok().and_then(|exe| {
        // Cargo marks its target folder, wherever it is configured to be.
        exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).map(Path::to_path_buf)
    });
    let from_env = || env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let workspace = || {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        target.join("CACHEDIR.TAG").exists().then_some(target)
    };
    let user = || {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        cache.or_else(home).unwrap_or_else(env::temp_dir).join("tidewatch")
    };
    from_exe.or_else(from_env).or_else(workspace).unwrap_or_else(user)
}

fn fetch_once(dir: &Path, announce: bool) -> Result<PathBuf, StartError> {
    let marker = dir.join(COMPLETE);
    if marker.exists() {
        return Ok(dir.to_path_buf());
    }
    fs::create_dir_all(dir).map_err(file("create the folder", dir))?;
    let lock_path = dir.join("lock");
    let lock = File::create(&lock_path).map_err(file("open the lock", &lock_path))?;
    lock.lock().map_err(file("take the lock", &lock_path))?; // let go when the file is closed, also by a crash
    if !marker.exists() {
        if announce {
            eprintln!("fetching Apache Kafka {} from Maven Central into {} (54 MB, once)", version(), dir.display());
        }
        run_maven(dir)?;
        File::create(&marker).map_err(file("write", &marker))?;
    }
    Ok(dir.to_path_buf())
}

fn run_maven(dir: &Path) -> Result<(), StartError> {
    let version = version().to_owned();
    let pom = dir.join("pom.xml");
    fs::write(&pom, POM).map_err(file("write", &pom))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StartError::Maven { version });
        }
        Err(source) => {
            return Err(StartError::System { action: "run mvn", source });
        }
    };
    if output.status.success() && holds_jars(dir) {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let error_line = printed.lines().find_map(|line| line.split_once("ERROR").map(|(_, rest)| rest));
    let reason = error_line.unwrap_or("it printed no error").trim_matches(|c: char| !c.is_alphanumeric());
    Err(StartError::Fetch { version, reason: reason.to_owned() })
}

/// The `java` to run: JAVA_HOME's, else the path's, and only if it is new enough.
pub(crate) fn java() -> Result<PathBuf, StartError> {
    let program = match env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home).join("bin/java"),
        _ => PathBuf::from("java"),
    };
    let found = match Command::new(&program).arg("-version").stdin(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("").to_owned(),
        Err(error) => {
            return Err(StartError::Java { found: format!("none ({}: {error})", program.display()) });
        }
    };
    match major_version(&found) {
        Some(major) if major >= 17 => Ok(program),
        _ => Err(StartError::Java { found }),
    }
}

/// The major version in the first line of `java -version`: `openjdk version "17.0.15" 2025-04-15`, `java version "1.8.0_401"`.
fn major_version(line: &str) -> Option<u32> {
    let quoted = line.split('"').nth(1)?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().ok());
    match numbers.next()?? {
        1 => numbers.next()?,
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read_in_all_their_spellings() {
        for (line, major) in [
            ("openjdk version \"17.0.15\" 2025-04-15", Some(17)),
            ("openjdk version \"25\" 2025-09-16", Some(25)),
            ("openjdk version \"24-ea\" 2025-03-18", Some(24)),
            ("java version \"1.8.0_401\"", Some(8)),
            ("Error: could not find libjava.so", None),
            ("", None),
        ] {
            assert_eq!(major_version(line), major, "{line}");
        }
    }

    #[test]
    fn the_version_is_the_poms() {
        assert!(version().starts_with("4."), "{}", version());
        assert_eq!(POM.matches(&format!("<version>{}</version>", version())).count(), 2, "kafka and its tools agree");
    }
}

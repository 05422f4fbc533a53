//! Why a broker does not start. Each message names the file, folder or address and what to do.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another broker holds the folder's lock.
    #[error("{folder} is in use by another broker{}; stop it, or choose another data folder", place(address.as_deref()))]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// What the other broker's clients connect to, if it has said so.
        address: Option<String>,
    },
    /// The folder was written by a newer version.
    #[error(
        "{file} has format {found}, this broker knows up to {known}; start it with a newer version, or choose another data folder"
    )]
    NewerFormat {
        /// The format file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// A log or a journal is damaged where no torn write can explain it.
    #[error(
        "{file} is corrupt at byte {position} ({problem}); restore it, or start with --repair to cut {cut_bytes} bytes from there on{lost}"
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// The first bad byte.
        position: u64,
        /// What is wrong there.
        problem: String,
        /// What `--repair` would cut, over this file and those after it.
        cut_bytes: u64,
        /// What that loses, as far as it can be read: ", which loses offsets 1,200 to 3,400 of topic-0".
        lost: String,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting is not one, or not possible.
    #[error("a default setting of topics cannot be used: {problem}")]
    Setting {
        /// What is wrong, with its name and value.
        problem: String,
    },
    /// The system refuses a thread or a runtime.
    #[error("cannot start the broker's thread")]
    Thread(#[source] std::io::Error),
}

fn place(address: Option<&str>) -> String {
    address.map_or_else(String::new, |address| format!(" at {address}"))
}

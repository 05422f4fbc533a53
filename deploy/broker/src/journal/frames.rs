//! The bytes of a journal: what is written, and what is made of any bytes that are read. Pure.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Bytes of the file's header.
pub(super) const HEADER_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"TWJOURNL";
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 12;

/// What the bytes of a journal hold.
#[derive(Debug)]
pub(super) struct Contents<R> {
    /// The records before `end`.
    pub(super) records: Vec<R>,
    /// The end of the last frame before any damage; 0 if the file's header is damaged.
    pub(super) end: usize,
    pub(super) damage: Option<Damage>,
}

/// What is wrong behind the last good frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) problem: String,
    /// A write that was cut off explains it.
    pub(super) is_torn: bool,
}

/// The header of a file.
pub(crate) fn header() -> Vec<u8> {
    header_of(VERSION)
}

fn header_of(version: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(version.to_le_bytes());
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    header
}

/// Whether a file was only just made: nothing of the header is there, or a part.
pub(super) fn is_unfinished_header(bytes: &[u8]) -> bool {
    bytes.len() < HEADER_BYTES && header().starts_with(bytes)
}

/// The frame of one append at a position of the file.
///
/// # Errors
/// `Other` where a record cannot be written as postcard, `FileTooLarge` past 4 GiB.
pub(super) fn encode<R: Serialize>(position: u64, records: &[R]) -> io::Result<Vec<u8>> {
    let frame = postcard::to_extend(records, vec![0; FRAME_HEADER_BYTES]).map_err(io::Error::other)?;
    seal(frame, position)
}

/// Collects records for one frame, where their number is not known before.
#[derive(Debug, Default)]
pub(super) struct Builder {
    records: Vec<u8>,
    count: u64,
}

impl Builder {
    pub(super) fn push<R: Serialize>(&mut self, record: &R) -> io::Result<()> {
        self.records = postcard::to_extend(record, std::mem::take(&mut self.records)).map_err(io::Error::other)?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.records.len()
    }

    pub(super) fn finish(self, position: u64) -> io::Result<Vec<u8>> {
        // Postcard writes a sequence as its length and its elements.
        let mut frame = postcard::to_extend(&self.count, vec![0; FRAME_HEADER_BYTES]).map_err(io::Error::other)?;
        frame.extend_from_slice(&self.records);
        seal(frame, position)
    }
}

/// Fills in the header that `frame` has room for.
pub(crate) fn seal(mut frame: Vec<u8>, position: u64) -> io::Result<Vec<u8>> {
    let payload = &frame[FRAME_HEADER_BYTES..];
    let length = u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let payload_crc = crc32c::crc32c(payload);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&payload_crc.to_le_bytes());
    frame[8..12].copy_from_slice(&header_crc(position, length, payload_crc).to_le_bytes());
    Ok(frame)
}

fn header_crc(position: u64, length: u32, payload_crc: u32) -> u32 {
    let crc = crc32c::crc32c(&position.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, &payload_crc.to_le_bytes())
}

/// Reads a whole file, up to the first damage.
///
/// # Errors
/// The file's version, where it is newer than [`VERSION`].
pub(super) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<Contents<R>, u32> {
    let mut contents = Contents { records: Vec::new(), end: 0, damage: None };
    match version(bytes) {
        Some(VERSION) => contents.end = HEADER_BYTES,
        Some(newer) if newer > VERSION => return Err(newer),
        _ => {
            contents.damage = Some(Damage { problem: "not the header of a journal".to_owned(), is_torn: false });
            return Ok(contents);
        }
    }
    while contents.end < bytes.len() {
        match frame_at(bytes, contents.end) {
            Ok(payload) => match postcard::take_from_bytes::<Vec<R>>(payload) {
                Ok((records, [])) => {
                    contents.records.extend(records);
                    contents.end += FRAME_HEADER_BYTES + payload.len();
                }
                // The checksums hold, so no write was torn here.
                Ok((_, rest)) => {
                    let problem = format!("{} bytes after the records of an append", rest.len());
                    contents.damage = Some(Damage { problem, is_torn: false });
                    break;
                }
                Err(error) => {
                    let problem = format!("records that cannot be read: {error}");
                    contents.damage = Some(Damage { problem, is_torn: false });
                    break;
                }
            },
            Err(problem) => {
                let is_torn = !(contents.end + 1..bytes.len()).any(|position| frame_header(bytes, position).is_some());
                contents.damage = Some(Damage { problem: problem.to_owned(), is_torn });
                break;
            }
        }
    }
    Ok(contents)
}

/// What can be read of the records after the damage at `end`.
pub(super) fn after_damage<R: DeserializeOwned>(bytes: &[u8], end: usize) -> Vec<R> {
    let (mut records, mut position) = (Vec::new(), end + 1);
    while position < bytes.len() {
        let payload = frame_at(bytes, position).unwrap_or_default();
        match postcard::from_bytes::<Vec<R>>(payload) {
            Ok(found) => {
                records.extend(found);
                position += FRAME_HEADER_BYTES + payload.len();
            }
            Err(_) => position += 1,
        }
    }
    records
}

fn version(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..HEADER_BYTES)?;
    let version = u32_at(header, 8)?;
    (header == header_of(version)).then_some(version)
}

/// The payload of the frame at a position, or what is wrong with it.
fn frame_at(bytes: &[u8], position: usize) -> Result<&[u8], &'static str> {
    if bytes.len() - position < FRAME_HEADER_BYTES {
        return Err("an append without its whole header");
    }
    let (length, payload_crc) = frame_header(bytes, position).ok_or("the header of an append has a wrong checksum")?;
    let start = position + FRAME_HEADER_BYTES;
    let payload = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or("an append without its end")?;
    if crc32c::crc32c(payload) != payload_crc {
        return Err("an append has a wrong checksum");
    }
    Ok(payload)
}

/// Length and checksum of the payload, if a frame's header is there.
fn frame_header(bytes: &[u8], position: usize) -> Option<(usize, u32)> {
    let (length, payload_crc) = (u32_at(bytes, position)?, u32_at(bytes, position + 4)?);
    (u32_at(bytes, position + 8)? == header_crc(position as u64, length, payload_crc))
        .then_some((length as usize, payload_crc))
}

fn u32_at(bytes: &[u8], position: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(position..position + 4)?.try_into().ok()?))
}

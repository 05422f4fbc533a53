//! One frame: bounded reading, and a check of every count in it before anything is allocated.
//!
//! Invariant: what a connection costs is a small multiple of the bytes that it has sent, not of what they claim. A frame's
//! memory grows as its bytes come ([`FrameReader`]), and a request is walked by its [shape](shapes) before it is decoded
//! ([`check`]), because the decoder reserves room for as many elements as an array says it has.

mod check;
mod shapes;

use std::io;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::Request;

pub(crate) use check::check;

/// Why a connection's bytes are no request. It is closed, as Kafka closes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// A negative length, or one over the bound.
    #[error("a frame of {length} bytes; socket.request.max.bytes is {bytes_max}")]
    Length { length: i32, bytes_max: usize },
    /// The connection ended inside of a frame.
    #[error("the connection ended inside of a frame, after {read} of {length} bytes")]
    Cut { read: usize, length: usize },
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The header of a request is not one.
    #[error("a request whose header {problem}")]
    Header { problem: &'static str },
    /// No API has this number.
    #[error("a request of the unknown API {key}, version {version}")]
    UnknownApi { key: i16, version: i16 },
}

/// Reads frames: each a length of four bytes and so many bytes. Worth wrapping in a `BufReader`, it makes two reads a frame.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    reader: R,
    bytes_max: usize,
    /// The length's bytes, then how many of them are there.
    length: ([u8; 4], usize),
    /// What has come of the frame whose length is there.
    frame: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Room for a frame before any of it has come; it grows twofold as it fills.
    const FIRST_BYTES: usize = 64 << 10;

    /// Frames of at most `bytes_max` bytes, `socket.request.max.bytes`.
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader, bytes_max, length: ([0; 4], 0), frame: Vec::new() }
    }

    /// What frames are read from, for who no longer wants frames.
    pub(crate) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The next frame, in memory of its own; `None` when the connection ends between two. Nothing is lost if the future is
    /// dropped: the next call goes on.
    ///
    /// # Errors
    /// [`FrameError::Length`], [`FrameError::Cut`], [`FrameError::Io`]; the connection is of no more use then.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        while self.length.1 < 4 {
            let read = self.reader.read(&mut self.length.0[self.length.1..]).await?;
            if read == 0 && self.length.1 == 0 {
                return Ok(None);
            }
            if read == 0 {
                return Err(FrameError::Cut { read: self.length.1, length: 4 });
            }
            self.length.1 += read;
        }
        let length = i32::from_be_bytes(self.length.0);
        let bytes_max = self.bytes_max;
        let bytes = usize::try_from(length).ok().filter(|&bytes| bytes <= bytes_max);
        let bytes = bytes.ok_or(FrameError::Length { length, bytes_max })?;
        while self.frame.len() < bytes {
            let (read, missing) = (self.frame.len(), bytes - self.frame.len());
            if read == self.frame.capacity() {
                self.frame.reserve_exact(missing.min(read.max(Self::FIRST_BYTES)));
            }
            // Not a byte of the next frame: it may need another size of memory.
            if (&mut self.reader).take(missing as u64).read_buf(&mut self.frame).await? == 0 {
                return Err(FrameError::Cut { read, length: bytes });
            }
        }
        self.length.1 = 0;
        Ok(Some(std::mem::take(&mut self.frame).into()))
    }
}

/// Reads a frame's header; its body stays as it is, to be [checked](check) before it is decoded.
///
/// # Errors
/// [`FrameError::Header`], [`FrameError::UnknownApi`].
pub(crate) fn parse(mut frame: Bytes) -> Result<Request, FrameError> {
    let cut = |_| FrameError::Header { problem: "is cut" };
    let key = frame.try_get_i16().map_err(cut)?;
    let version = frame.try_get_i16().map_err(cut)?;
    let correlation_id = frame.try_get_i32().map_err(cut)?;
    let key = ApiKey::try_from(key).map_err(|()| FrameError::UnknownApi { key, version })?;
    // The client's id is no compact string even in version 2, so that a header can be read whatever the API's version.
    let client_id = match frame.try_get_i16().map_err(cut)? {
        -1 => StrBytes::default(),
        length => {
            let length = usize::try_from(length).ok().filter(|&length| length <= frame.len());
            let length = length.ok_or(FrameError::Header { problem: "has a client id of a wrong length" })?;
            StrBytes::from_utf8(frame.split_to(length))
                .map_err(|_| FrameError::Header { problem: "has a client id that is not UTF-8" })?
        }
    };
    if key.request_header_version(version) >= 2 {
        let tagged = check::tagged_fields_bytes(&frame);
        frame.advance(tagged.ok_or(FrameError::Header { problem: "has tagged fields that are cut or out of order" })?);
    }
    Ok(Request { key, version, correlation_id, client_id, body: frame })
}

#[cfg(test)]
pub(crate) mod tests;

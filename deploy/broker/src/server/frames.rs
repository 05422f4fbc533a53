//! Frames off a connection: a length and so many bytes. Room is made as bytes come, not because a length says so.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room for one read, at least.
const READ_BYTES_MIN: usize = 16 << 10;
/// So much is made room for at once if a length says so; beyond that as much again as has come.
const TRUSTED_BYTES_MAX: usize = 1 << 20;

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// A length that no frame may have.
    #[error("a frame of {length} bytes, where 0 to {bytes_max} are taken (request_bytes_max)")]
    Length { length: i32, bytes_max: usize },
    /// The client has closed the connection in the middle.
    #[error("the connection was closed after {bytes} bytes of a frame")]
    Torn { bytes: usize },
    /// The system's word.
    #[error("{0}")]
    Transport(#[from] std::io::Error),
}

/// Reads frames of at most so many bytes.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Frames {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// The next frame without its length; `None` when the client has closed the connection between two. Whoever drops the
    /// future loses nothing.
    pub(super) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, FrameError> {
        loop {
            let missing = match self.length()? {
                None => 4 - self.buffer.len(),
                Some(length) if 4 + length <= self.buffer.len() => return Ok(Some(self.take(length))),
                Some(length) => 4 + length - self.buffer.len(),
            };
            let room_max = self.buffer.len().max(TRUSTED_BYTES_MAX);
            self.buffer.reserve(missing.clamp(READ_BYTES_MIN, room_max));
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.len() {
                    0 => Ok(None),
                    bytes => Err(FrameError::Torn { bytes }),
                };
            }
        }
    }

    /// The length of the frame at the front, once it is there.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(length) = self.buffer.first_chunk().copied().map(i32::from_be_bytes) else {
            return Ok(None);
        };
        let bytes_max = self.bytes_max;
        let checked = usize::try_from(length).ok().filter(|bytes| *bytes <= bytes_max);
        checked.map(Some).ok_or(FrameError::Length { length, bytes_max })
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.buffer.advance(4);
        let frame = self.buffer.split_to(length).freeze();
        if length > TRUSTED_BYTES_MAX {
            // Else the connection would keep the room of its largest frame for good.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all frames of a stream that comes in pieces of so many bytes, and how it ends.
    fn read(bytes: &[u8], piece: usize) -> (Vec<Bytes>, Result<(), String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut stream, mut client) = tokio::io::duplex(piece);
            let send = async move {
                // Who refuses a frame does not read to the end.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client, bytes).await;
            };
            let receive = async move {
                let (mut frames, mut read) = (Frames::new(100), Vec::new());
                loop {
                    match frames.next(&mut stream).await {
                        Ok(Some(frame)) => read.push(frame),
                        Ok(None) => break (read, Ok(())),
                        Err(error) => break (read, Err(error.to_string())),
                    }
                }
            };
            tokio::join!(send, receive).1
        })
    }

    fn check(bytes: &[u8], expected: &[&[u8]], end: Result<(), &str>) {
        for piece in [1, 3, 1_000] {
            let (frames, ended) = read(bytes, piece);
            assert_eq!(frames, expected, "{bytes:?} by {piece}");
            assert_eq!(ended, end.map_err(str::to_owned), "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn frames_come_in_any_pieces() {
        check(b"", &[], Ok(()));
        check(b"\0\0\0\x02ab", &[b"ab"], Ok(()));
        check(b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c", &[b"ab", b"", b"c"], Ok(()));
    }

    #[test]
    fn a_bad_frame_ends_the_stream_after_the_good_ones() {
        check(b"\0\0\0\x02ab\0\0", &[b"ab"], Err("the connection was closed after 2 bytes of a frame"));
        check(b"\0\0\0\x02a", &[], Err("the connection was closed after 5 bytes of a frame"));
        let expected = "a frame of 101 bytes, where 0 to 100 are taken (request_bytes_max)";
        check(b"\0\0\0\x01a\0\0\0\x65", &[b"a"], Err(expected));
        check(b"\xff\xff\xff\xff", &[], Err("a frame of -1 bytes, where 0 to 100 are taken (request_bytes_max)"));
    }
}

//! The compression of record batches: none, gzip, snappy, lz4 and zstd, as Kafka's clients write and read them.
//!
//! Invariant: decompressing never keeps more than `bytes_max`, whatever the bytes claim, and grows only as output comes. On
//! top of it comes a decoder's own window: 32 KiB for gzip, nothing for snappy, at most 8.1 MiB for lz4, and for zstd at
//! most 128 MiB of address space, of which only what the output has filled is ever touched.
//! Sources: Kafka's message format (attributes, bits 0 to 2), xerial's snappy-java for its framing, the LZ4 frame format.

use std::io::{self, Read, Write};

use bytes::Bytes;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why records cannot be decompressed or compressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// Attributes name no codec that there is.
    #[error("unknown compression codec {0}")]
    Unknown(i16),
    /// There would be more output than is allowed.
    #[error("more than {bytes_max} bytes after decompression")]
    TooLarge { bytes_max: usize },
    /// It is not what the codec writes.
    #[error("corrupt {codec:?} data: {problem}")]
    Corrupt { codec: Codec, problem: String },
}

impl Codec {
    /// The bits of a batch's attributes that name its codec.
    pub(crate) const ATTRIBUTES_MASK: i16 = 0b111;

    /// The codec that a batch's attributes name.
    pub(crate) fn of_attributes(attributes: i16) -> Result<Self, CodecError> {
        match attributes & Self::ATTRIBUTES_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            unknown => Err(CodecError::Unknown(unknown)),
        }
    }

    fn corrupt(self, problem: impl ToString) -> CodecError {
        CodecError::Corrupt { codec: self, problem: problem.to_string() }
    }
}

/// The output of `input`, at most `bytes_max` of it. Without compression this copies.
///
/// # Errors
/// [`CodecError::TooLarge`] beyond `bytes_max`, [`CodecError::Corrupt`] for anything that the codec does not write, a cut end
/// too.
pub(crate) fn decompress(codec: Codec, input: &[u8], bytes_max: usize) -> Result<Bytes, CodecError> {
    let output = match codec {
        Codec::None if input.len() > bytes_max => return Err(CodecError::TooLarge { bytes_max }),
        Codec::None => input.to_vec(),
        Codec::Gzip => read_all(codec, flate2::bufread::MultiGzDecoder::new(input), input.len(), bytes_max)?,
        Codec::Snappy => snappy::decompress(input, bytes_max)?,
        Codec::Lz4 => decompress_lz4(input, bytes_max)?,
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(|error| codec.corrupt(error))?;
            read_all(codec, decoder, input.len(), bytes_max)?
        }
    };
    Ok(output.into())
}

/// The records of a batch, compressed as Kafka's clients read them.
///
/// # Errors
/// [`CodecError::Corrupt`] where the codec fails, which it does not for any input known.
pub(crate) fn compress(codec: Codec, input: &[u8]) -> Result<Bytes, CodecError> {
    let output = match codec {
        Codec::None => Ok(input.to_vec()),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(input).and_then(|()| encoder.finish())
        }
        Codec::Snappy => Ok(snappy::compress(input)?),
        Codec::Lz4 => {
            // The Java client reads no blocks that depend on each other.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(input).and_then(|()| Ok(encoder.finish()?))
        }
        Codec::Zstd => zstd::bulk::compress(input, zstd::DEFAULT_COMPRESSION_LEVEL),
    };
    output.map(Bytes::from).map_err(|error| codec.corrupt(error))
}

fn decompress_lz4(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
    if !input.starts_with(&MAGIC) {
        return Err(Codec::Lz4.corrupt("not an lz4 frame"));
    }
    // The decoder takes the end of its input for the end of the frame; only the end mark is.
    let mut decoder = lz4_flex::frame::FrameDecoder::new(Input { bytes: input, is_exceeded: false });
    let output = read_all(Codec::Lz4, &mut decoder, input.len(), bytes_max)?;
    if decoder.get_ref().is_exceeded {
        return Err(Codec::Lz4.corrupt("the frame is cut"));
    }
    Ok(output)
}

/// Bytes that remember whether more was asked for than there was.
struct Input<'a> {
    bytes: &'a [u8],
    is_exceeded: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_exceeded |= buffer.len() > self.bytes.len();
        self.bytes.read(buffer)
    }
}

/// Reads to the end, growing with what comes.
fn read_all(codec: Codec, mut input: impl Read, input_bytes: usize, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    const FIRST_BYTES_MIN: usize = 4 << 10;
    let mut output = vec![0; input_bytes.saturating_mul(4).max(FIRST_BYTES_MIN).min(bytes_max)];
    let mut end = 0;
    loop {
        if end == output.len() {
            if end == bytes_max {
                break;
            }
            output.resize(output.len().saturating_mul(2).min(bytes_max), 0);
        }
        match input.read(&mut output[end..]) {
            Ok(0) => {
                output.truncate(end);
                return Ok(output);
            }
            Ok(read) => end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(codec.corrupt(error)),
        }
    }
    match input.read(&mut [0]) {
        Ok(0) => Ok(output),
        Ok(_) => Err(CodecError::TooLarge { bytes_max }),
        Err(error) => Err(codec.corrupt(error)),
    }
}

/// Snappy has no framing of its own. The Java client writes xerial's: a header, then blocks with their length; librdkafka and
/// others write one block as it is. Both are read, xerial's is written.
mod snappy {
    use super::{Codec, CodecError};

    const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
    /// The magic, a version and the oldest version that can read it, both 1.
    const HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    const BLOCK_BYTES: usize = 32 << 10;
    /// No element gives more than 64 bytes for 3, so a longer claim is refused before anything is allocated for it.
    const RATIO_MAX: usize = 22;

    pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut encoder = snap::raw::Encoder::new();
        let mut output = HEADER.to_vec();
        for block in input.chunks(BLOCK_BYTES) {
            let block = encoder.compress_vec(block).map_err(|error| Codec::Snappy.corrupt(error))?;
            let length = u32::try_from(block.len()).map_err(|error| Codec::Snappy.corrupt(error))?;
            output.extend(length.to_be_bytes());
            output.extend(block);
        }
        Ok(output)
    }

    pub(super) fn decompress(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodecError> {
        let mut output = Vec::new();
        if !input.starts_with(MAGIC) {
            push_block(input, &mut output, bytes_max)?;
            return Ok(output);
        }
        let mut rest = input.get(HEADER.len()..).ok_or_else(|| Codec::Snappy.corrupt("the header is cut"))?;
        while !rest.is_empty() {
            let (length, blocks) =
                rest.split_first_chunk().ok_or_else(|| Codec::Snappy.corrupt("the length of a block is cut"))?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > blocks.len() {
                let problem = format!("a block of {length} bytes, of which {} are there", blocks.len());
                return Err(Codec::Snappy.corrupt(problem));
            }
            let (block, after) = blocks.split_at(length);
            push_block(block, &mut output, bytes_max)?;
            rest = after;
        }
        Ok(output)
    }

    fn push_block(block: &[u8], output: &mut Vec<u8>, bytes_max: usize) -> Result<(), CodecError> {
        let length = snap::raw::decompress_len(block).map_err(|error| Codec::Snappy.corrupt(error))?;
        if length > block.len().saturating_mul(RATIO_MAX) {
            let problem = format!("a block of {} bytes that claims to hold {length}", block.len());
            return Err(Codec::Snappy.corrupt(problem));
        }
        let start = output.len();
        if length > bytes_max - start {
            return Err(CodecError::TooLarge { bytes_max });
        }
        output.resize(start + length, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut output[start..])
            .map_err(|error| Codec::Snappy.corrupt(error))?;
        output.truncate(start + written);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

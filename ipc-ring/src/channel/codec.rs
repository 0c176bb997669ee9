//! How values become bytes: bincode 2, behind a trait that another encoding can take the place of.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is wrong with a value or a record.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// An encoding of values of type `M`.
pub trait Codec<M> {
    /// Gives the bytes of a value, piece by piece, to `sink`. The same value gives the same bytes each time.
    ///
    /// # Errors
    ///
    /// If the value cannot be encoded, as the codec says.
    fn encode(value: &M, sink: impl FnMut(&[u8])) -> Result<(), CodecError>;

    /// The value that these bytes, all of them, are. The bytes may be anything: neither a panic nor an allocation out
    /// of proportion must come of them.
    ///
    /// # Errors
    ///
    /// If the bytes are no such value: a peer may have written anything there.
    fn decode(bytes: &[u8]) -> Result<M, CodecError>;
}

/// The standard encoding of bincode 2: little-endian, integers in as few bytes as they need. A value takes up to `LIMIT`
/// bytes, 16 MiB if not set; lengths that a record claims are held to it before anything is allocated.
#[derive(Clone, Copy, Debug)]
pub struct Bincode<const LIMIT: usize = { 16 << 20 }>;

impl<M: Serialize + DeserializeOwned, const LIMIT: usize> Codec<M> for Bincode<LIMIT> {
    #[inline]
    fn encode(value: &M, sink: impl FnMut(&[u8])) -> Result<(), CodecError> {
        let sink = Sink { sink, left: LIMIT };
        match bincode::serde::encode_into_writer(value, sink, config::<LIMIT>()) {
            Ok(()) => Ok(()),
            // Bincode words this one as its own source code.
            Err(EncodeError::Other(why)) => Err(why.into()),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<M, CodecError> {
        let (value, len) = bincode::serde::decode_from_slice(bytes, config::<LIMIT>())?;
        if len < bytes.len() {
            return Err(format!("it ends {} bytes before the record", bytes.len() - len).into());
        }
        Ok(value)
    }
}

fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

struct Sink<F> {
    sink: F,
    left: usize,
}

impl<F: FnMut(&[u8])> Writer for Sink<F> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // Bincode holds only decoding to its limit; nobody could decode what is longer.
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Err(EncodeError::Other(
                "it is longer than the limit of its codec",
            ));
        };
        self.left = left;
        (self.sink)(bytes);
        Ok(())
    }
}

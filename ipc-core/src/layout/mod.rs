//! What a type looks like in shared memory: its schema, a text that says so, and a fingerprint of that text.
//!
//! A segment stores the schema text of each object that it holds. Whoever opens the segment compares it with the schema of
//! the type in the program, so that a mismatch is answered with the fields that differ, and `ipc inspect` and programs in
//! other languages can read the fields without the program that wrote them.
//!
//! [`Layout`] gives a type its schema and is derived. [`Message`] is plain data that may be copied through a ring.
//! [`Shared`] is what may be used by reference while other processes write to it: atomics and shared cells.
//!
//! ```
//! use ipc_core::Layout;
//!
//! #[derive(Layout)]
//! #[repr(C)]
//! #[layout(name = "feed.Tick")]
//! struct Tick {
//!     seq: u64,
//!     bids: [Level; 2],
//!     symbol: [u8; 8],
//! }
//!
//! #[derive(Layout)]
//! #[repr(C)]
//! #[layout(name = "feed.Level")]
//! struct Level {
//!     price: f64,
//!     qty: u32,
//!     _pad: [u8; 4],
//! }
//!
//! assert_eq!(
//!     Tick::schema().text(),
//!     "struct feed.Tick size 48 align 8\n\
//!      \x20 seq: u64 at 0 size 8 align 8\n\
//!      \x20 bids: [struct feed.Level; 2] at 8 size 32 align 8\n\
//!      \x20   price: f64 at 0 size 8 align 8\n\
//!      \x20   qty: u32 at 8 size 4 align 4\n\
//!      \x20   _pad: [u8; 4] at 12 size 4 align 1\n\
//!      \x20 symbol: [u8; 8] at 40 size 8 align 1\n"
//! );
//! ```
//!
//! # The text
//!
//! ASCII, one line per field, each line ended by a newline, the fields of a nested struct below it and indented by two more
//! spaces. There is one text for a schema: what [`Schema::parse`] accepts, [`Schema::text`] gives back byte by byte.
//!
//! ```text
//! schema    = type shape NL *field             the fields are those of the type's struct, if it has one
//! field     = indent name ": " type " at " number shape NL *field
//! indent    = two spaces for each struct that encloses the field
//! shape     = " size " number " align " number
//! type      = primitive
//!           | "atomic<" integer ">"            the integer, read and written by atomic operations
//!           | "cell<" type ">"                 the type, copied in and out; a copy may be torn
//!           | "[" type "; " number "]"         that many of the type, one after the other
//!           | "struct " name
//! primitive = integer | "f32" | "f64"
//! integer   = "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64"
//! name      = 1 to 64 of A-Z a-z 0-9 _ . -     (in a field: of A-Z a-z 0-9 _)
//! number    = decimal, without leading zeros, below 2^63
//! ```
//!
//! - Values are in the byte order of the machine, integers in two's complement, floats in IEEE 754.
//! - `at` counts bytes from the start of the enclosing struct. `size` and `align` are those of the whole type on the line.
//! - There is no padding: the first field is at 0, each other one where the field before it ends, and the last ends where its
//!   struct does. A struct has at least one field, an array at least one element. Field names differ within a struct.
//! - A `cell<T>` has the size and alignment of `T`, an array the alignment of its elements.
//! - At most 64 KiB of text, 16 structs within each other, and 8 of `[`, `cell<` and `atomic<` around each other in a type.
//!
//! The fingerprint is BLAKE2b with a digest of 8 bytes over the text, read as a little-endian number. In Python:
//! `int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")`.

mod differences;
mod leaves;
mod parse;
mod schema;
mod shared;
mod types;

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};

pub use leaves::Leaf;
pub use parse::{MAX_TEXT, SchemaError};
pub use schema::{Field, Primitive, Schema};
pub use shared::Shared;

/// A `#[repr(C)]` type whose fields, types, offsets and sizes are known and can be told to another process.
///
/// Implemented for the integers and floats of fixed width, for arrays and for the integer atomics; derived for structs of these
/// by `#[derive(Layout)]`, which refuses padding. Not implemented for `bool`, `char` and enums (not every bit pattern is one
/// of their values), for `usize` and `isize` (their width depends on the program), for anything with an address in it, and for
/// `u128` and `i128` (their alignment has changed between compilers).
///
/// The name in the schema is the bare identifier of the struct, or what `#[layout(name = "feed.Tick")]` says; the path of
/// its module has no part in it, so moving a type does not change its layout.
///
/// The trait is safe to implement. A schema says what bytes mean, and in shared memory it comes from a peer who may lie: no
/// memory safety may rest on two schemas being equal. It rests on `size_of`, on bytemuck's traits and on [`Shared`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no layout that can be shared between processes",
    label = "not a type for shared memory",
    note = "use integers and floats of fixed width, arrays, atomics, and `#[repr(C)]` structs of these with `#[derive(Layout)]`",
    note = "in place of `bool` or an enum use `u8`, of `usize` use `u64`, of a pointer an offset, of a string `[u8; N]`"
)]
pub trait Layout: Sized + 'static {
    /// The schema of this type. It is built at each call: keep it if it is needed often.
    fn schema() -> Schema;
}

/// Plain data that may be copied through shared memory: no padding, every bit pattern a value, and a known layout.
///
/// There is nothing to implement: derive `Layout` and, from [`bytemuck`], `Pod` and `Zeroable`. (Bytemuck's narrower
/// `NoUninit` and `AnyBitPattern` do as well, but an array of structs has them only if the struct is `Pod`.)
///
/// ```
/// use ipc_core::{Layout, bytemuck};
///
/// #[derive(Clone, Copy, Layout, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Tick {
///     seq: u64,
///     price: f64,
/// }
///
/// fn is_message<M: ipc_core::Message>() {}
/// is_message::<Tick>();
/// ```
pub trait Message: bytemuck::NoUninit + bytemuck::AnyBitPattern + Layout {}

impl<T: bytemuck::NoUninit + bytemuck::AnyBitPattern + Layout> Message for T {}

/// The fingerprint of a schema text: BLAKE2b with a digest of eight bytes, as a little-endian number.
pub(crate) fn fingerprint(text: &str) -> u64 {
    u64::from_le_bytes(Blake2b::<U8>::digest(text).into())
}

/// The differences between two schema texts, line by line; says so where one cannot be read.
pub(crate) fn differences(expected: &str, found: &str) -> Vec<String> {
    match (Schema::parse(expected), Schema::parse(found)) {
        (Ok(expected), Ok(found)) => expected.differences(&found),
        (_, Err(error)) => vec![format!("its layout cannot be read: {error}")],
        (Err(error), _) => vec![format!("the expected layout cannot be read: {error}")],
    }
}

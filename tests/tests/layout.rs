//! The derive of `Layout` and `Shared`, and the text of a schema in the hands of others.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use ipc_core::bytemuck::{Pod, Zeroable};
use ipc_core::layout::Schema;
use ipc_core::{Layout, Message, Shared};

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
#[layout(name = "feed.Book")]
struct Book {
    header: Header,
    symbol: [u8; 8],
    bids: [Level; 2],
    depth: [[u16; 2]; 2],
    r#type: OrderType,
    ratio: f32,
}

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
#[layout(name = "feed.Header")]
struct Header {
    seq: u64,
    time: i64,
}

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
#[layout(name = "feed.Level")]
struct Level {
    price: f64,
    qty: u32,
    _pad: [u8; 4],
}

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(transparent)]
struct OrderType(u32);

#[derive(Layout, Shared)]
#[repr(C, align(64))]
struct Counters {
    sent: AtomicU64,
    flags: [AtomicU32; 2],
    _pad: [AtomicU8; 48],
}

const BOOK: &str = "\
struct feed.Book size 72 align 8
  header: struct feed.Header at 0 size 16 align 8
    seq: u64 at 0 size 8 align 8
    time: i64 at 8 size 8 align 8
  symbol: [u8; 8] at 16 size 8 align 1
  bids: [struct feed.Level; 2] at 24 size 32 align 8
    price: f64 at 0 size 8 align 8
    qty: u32 at 8 size 4 align 4
    _pad: [u8; 4] at 12 size 4 align 1
  depth: [[u16; 2]; 2] at 56 size 8 align 2
  type: struct OrderType at 64 size 4 align 4
    0: u32 at 0 size 4 align 4
  ratio: f32 at 68 size 4 align 4
";

const COUNTERS: &str = "\
struct Counters size 64 align 64
  sent: atomic<u64> at 0 size 8 align 8
  flags: [atomic<u32>; 2] at 8 size 8 align 4
  _pad: [atomic<u8>; 48] at 16 size 48 align 1
";

#[test]
fn the_text_of_a_derived_schema_is_fixed() {
    // Catches any change of the text: segments that exist would no longer open.
    assert_eq!(Book::schema().text(), BOOK);
    assert_eq!(Counters::schema().text(), COUNTERS);
    assert_eq!(<[u64; 4]>::schema().text(), "[u64; 4] size 32 align 8\n");
}

#[test]
fn what_is_parsed_is_what_was_written() {
    // Catches a parser that loses or invents something.
    for schema in [
        Book::schema(),
        Counters::schema(),
        <[[i8; 3]; 5]>::schema(),
        Schema::cell::<Level>(),
    ] {
        assert_eq!(Schema::parse(&schema.text()).unwrap(), schema);
    }
}

#[test]
fn the_derived_traits_hold() {
    // Catches a derive or a blanket impl that went missing; a message and a shared type are used as such.
    fn send(message: impl Message) -> Vec<u8> {
        ipc_core::bytemuck::bytes_of(&message).to_vec()
    }
    fn read<T: Shared>(shared: &T, of: fn(&T) -> &AtomicU64) -> u64 {
        of(shared).load(Ordering::Relaxed)
    }
    assert_eq!(send(Header { seq: 1, time: 2 }).len(), 16);
    let counters = Counters {
        sent: AtomicU64::new(7),
        flags: Default::default(),
        _pad: [const { AtomicU8::new(0) }; 48],
    };
    assert_eq!(read(&counters, |counters| &counters.sent), 7);
    assert_eq!((counters.flags.len(), counters._pad.len()), (2, 48));
}

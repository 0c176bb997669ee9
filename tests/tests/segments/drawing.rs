//! The drawing in `docs/layout.md` against the bytes of a segment.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use ipc_core::segment::{Entry, HEADER_PAGE, Header, Segment};
use nix::fcntl::{FcntlArg, fcntl};

use crate::support::{scratch, small};

pub const LAYOUT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/layout.md"));

/// The rows of the table under a heading: field, offset, size.
pub fn table(heading: &str) -> Vec<(String, usize, usize)> {
    let (_, section) = LAYOUT
        .split_once(&format!("\n## {heading}\n"))
        .expect(heading);
    let rows = section
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with('|'));
    // Without the heading and the line below it.
    rows.skip(2)
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let mut number = || cells.next().unwrap().parse().unwrap();
            let (offset, size) = (number(), number());
            (cells.next().unwrap().to_owned(), offset, size)
        })
        .collect()
}

/// Holds every field of the table against `bytes`: those in `expected`, and zeros where the drawing says zero.
fn compare(heading: &str, bytes: &[u8], mut expected: BTreeMap<&str, Vec<u8>>) {
    let mut end = 0;
    for (field, offset, size) in table(heading) {
        assert_eq!(
            offset, end,
            "{heading}: {field} does not begin where the one before it ends"
        );
        end = offset + size;
        let zeros = vec![0; size];
        let expected = if field == "zero" {
            zeros
        } else {
            expected.remove(field.as_str()).expect(&field)
        };
        assert_eq!(bytes[offset..end], expected, "{heading}: {field}");
    }
    assert_eq!(end, bytes.len(), "{heading}: the size of the whole");
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        [&""; 0],
        "{heading}: not drawn"
    );
}

fn header_fields(header: &Header, bytes: &[u8]) -> BTreeMap<&'static str, Vec<u8>> {
    let mut immutable = bytes[..256].to_vec();
    immutable[16..20].fill(0);
    let contents = &bytes[4096..(header.schema_offset + u64::from(header.schema_len)) as usize];
    let four = |value: u32| value.to_ne_bytes().to_vec();
    let eight = |value: u64| value.to_ne_bytes().to_vec();
    BTreeMap::from([
        (
            "magic",
            u64::from_le_bytes(*b"ipc-seg\x01").to_ne_bytes().to_vec(),
        ),
        ("format version", 1_u16.to_ne_bytes().to_vec()),
        ("minor version", header.minor.to_ne_bytes().to_vec()),
        ("header length", four(256)),
        ("header checksum", four(crc32(&immutable))),
        ("contents checksum", four(crc32(contents))),
        ("page size", four(rustix::param::page_size() as u32)),
        ("pointer width", four(usize::BITS)),
        ("compatible features", eight(header.compatible)),
        (
            "read-only compatible features",
            eight(header.read_only_compatible),
        ),
        ("incompatible features", eight(header.incompatible)),
        ("length", eight(bytes.len() as u64)),
        ("uuid", header.uuid.to_vec()),
        ("inode", eight(header.origin.inode)),
        ("birth", eight(header.origin.birth)),
        ("file system uuid", header.origin.file_system.to_vec()),
        ("creator pid", four(std::process::id())),
        ("adoptions", four(0)),
        ("creator start", eight(header.creator.start)),
        ("creator pid namespace", eight(header.creator.pid_namespace)),
        (
            "creator time namespace",
            eight(header.creator.time_namespace),
        ),
        ("creator boot", eight(header.creator.boot)),
        ("directory offset", eight(4096)),
        ("schema offset", eight(4096 + 128)),
        ("participants offset", eight(header.participants_offset)),
        ("objects", four(1)),
        ("schema length", four(header.schema_len)),
        ("participants", four(4)),
        ("state", four(0)),
        ("arrivals", four(1)),
    ])
}

fn entry_fields(entry: &Entry) -> BTreeMap<&'static str, Vec<u8>> {
    let eight = |value: u64| value.to_ne_bytes().to_vec();
    let mut name = entry.name.clone().into_bytes();
    name.resize(64, 0);
    BTreeMap::from([
        ("name", name),
        ("kind", b"region\0\0".to_vec()),
        ("version", 1_u32.to_ne_bytes().to_vec()),
        ("offset", eight(entry.offset)),
        ("length", eight(8)),
        ("fingerprint", eight(entry.fingerprint)),
        ("schema offset", vec![0; 4]),
        (
            "schema length",
            (entry.schema.len() as u32).to_ne_bytes().to_vec(),
        ),
        ("parameter 0", eight(0)),
        ("parameter 1", eight(0)),
    ])
}

#[test]
fn every_byte_is_as_it_is_drawn() {
    // Catches a field that moves, grows or goes without its drawing, and a drawing that is not true.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = small().create(path.as_path()).unwrap();
    let id = segment.participant().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let header = segment.header();
    assert_eq!(HEADER_PAGE, 4096);
    compare(
        "The header page",
        &bytes[..4096],
        header_fields(header, &bytes),
    );
    compare(
        "A directory entry",
        &bytes[4096..4096 + 128],
        entry_fields(&segment.entries()[0]),
    );
    let schema = &bytes[header.schema_offset as usize..][..header.schema_len as usize];
    assert_eq!(schema, segment.entries()[0].schema.as_bytes());

    let me = &header.creator;
    let row = header.participants_offset as usize + 128 * usize::from(id.get() - 1);
    let eight = |value: u64| value.to_ne_bytes().to_vec();
    let fields = BTreeMap::from([
        ("state", eight(3)),
        ("pid", eight(me.pid.into())),
        ("start", eight(me.start)),
        ("pid namespace", eight(me.pid_namespace)),
        ("time namespace", eight(me.time_namespace)),
        ("boot", eight(me.boot)),
    ]);
    compare(
        "A row of the participant table",
        &bytes[row..row + 128],
        fields,
    );
    assert_eq!(header.participants_offset % 128, 0);
    assert_eq!(
        segment.entries()[0].offset,
        header.participants_offset + 4 * 128
    );
}

#[test]
fn the_life_byte_is_locked_where_it_is_drawn() {
    // Catches lock bytes that move: programs of two versions would each take the other for dead.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = small().create(path.as_path()).unwrap();
    let id = u64::from(segment.participant().unwrap().get());
    assert!(LAYOUT.contains("| 2^40 + 2n | the life byte"));
    let file = File::open(&path).unwrap();
    let locked = |byte: u64| {
        let mut request = nix::libc::flock {
            l_type: nix::libc::F_RDLCK as i16,
            l_whence: 0,
            l_start: byte as i64,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut request)).unwrap();
        request.l_type == nix::libc::F_WRLCK as i16
    };
    let base = 1 << 40;
    assert!(locked(base + 2 * id));
    assert!(!locked(base) && !locked(base + 2 * id + 1) && !locked(base + 2 * id + 2));
    drop(segment);
    assert!(!locked(base + 2 * id));
}

#[test]
fn the_schema_in_the_drawing_is_one() {
    // Catches an example that the grammar would refuse.
    let text = LAYOUT
        .split("```text\n")
        .find(|text| text.starts_with("struct "))
        .unwrap();
    let text = text.split("```").next().unwrap();
    assert_eq!(ipc_core::layout::Schema::parse(text).unwrap().text(), text);
}

#[test]
fn f34_nothing_of_the_creators_memory_is_in_the_file() {
    // Catches a header or padding that is written from memory that was used for something else.
    let place = scratch();
    let path = place.path().join("segment");
    let canary = [0xA5_u8; 4096];
    let waste: Vec<_> = (0..64).map(|_| Box::new(canary)).collect();
    drop(waste);
    let segment = small().create(path.as_path()).unwrap();
    let file = File::open(&path).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().size() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let object = segment.entries()[0].offset as usize;
    // Behind the schema text all is zero: nobody has joined, and nothing is stored yet.
    let header = segment.header();
    let end = (header.schema_offset + u64::from(header.schema_len)) as usize;
    assert!(
        bytes[end..].iter().all(|byte| *byte == 0),
        "object at {object}"
    );
    assert!(!bytes.windows(8).any(|window| window == [0xA5; 8]));
    drop(Segment::open(path.as_path()).unwrap());
}

/// CRC-32 as zlib has it, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

//! Damage to the header page, bit by bit, and versions that differ.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ipc_core::segment::{Segment, SegmentError, parse};

use crate::drawing::{crc32, table};
use crate::support::{scratch, small};

/// What opening a segment comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Opens,
    NoSegment,
    OtherVersion,
    UnknownFeatures,
    ReadOnlyFeatures,
    HeaderLength,
    HeaderChecksum,
    ContentsChecksum,
    OtherMachine,
    WrongSize,
    Damaged,
    Copied,
    Replaced,
    SyncFailed,
}

fn outcome(result: Result<(), SegmentError>) -> Outcome {
    use Outcome::*;
    match result {
        Ok(()) => Opens,
        Err(SegmentError::NoSegment { .. }) => NoSegment,
        Err(SegmentError::OtherVersion { .. }) => OtherVersion,
        Err(SegmentError::UnknownFeatures { .. }) => UnknownFeatures,
        Err(SegmentError::ReadOnlyFeatures { .. }) => ReadOnlyFeatures,
        Err(SegmentError::HeaderLength { .. }) => HeaderLength,
        Err(SegmentError::Checksum { what: "header", .. }) => HeaderChecksum,
        Err(SegmentError::Checksum {
            what: "directory", ..
        }) => ContentsChecksum,
        Err(SegmentError::OtherMachine { .. }) => OtherMachine,
        Err(SegmentError::WrongSize { .. }) => WrongSize,
        Err(SegmentError::Damaged(_)) => Damaged,
        Err(SegmentError::Copied { .. }) => Copied,
        Err(SegmentError::Replaced) => Replaced,
        Err(SegmentError::SyncFailed { .. }) => SyncFailed,
        Err(error) => panic!("{error:?}"),
    }
}

/// The outcome of a flip in the field, with the checksum as it was and with a corrected one, for a reader and writer.
fn expected(field: &str, bit: usize) -> (Outcome, Outcome) {
    use Outcome::*;
    match field {
        "magic" => (NoSegment, NoSegment),
        "format version" => (OtherVersion, OtherVersion),
        "incompatible features" => (UnknownFeatures, UnknownFeatures),
        "read-only compatible features" => (ReadOnlyFeatures, ReadOnlyFeatures),
        "header length" => (HeaderLength, HeaderLength),
        // The corrected checksum undoes the flip.
        "header checksum" => (HeaderChecksum, Opens),
        "contents checksum" => (HeaderChecksum, ContentsChecksum),
        "page size" | "pointer width" => (HeaderChecksum, OtherMachine),
        "length" => (HeaderChecksum, WrongSize),
        "inode" | "birth" | "file system uuid" => (HeaderChecksum, Copied),
        "directory offset"
        | "schema offset"
        | "participants offset"
        | "objects"
        | "schema length"
        | "participants" => (HeaderChecksum, Damaged),
        // For people, or for later versions: believed as it stands, and used for nothing.
        "minor version" | "compatible features" | "uuid" | "adoptions" => (HeaderChecksum, Opens),
        _ if field.starts_with("creator ") => (HeaderChecksum, Opens),
        "zero" if bit < 8 * 256 => (HeaderChecksum, Opens),
        // A count that waiters sleep on: any will do.
        "arrivals" | "zero" => (Opens, Opens),
        "state" => match bit - 8 * 256 {
            0 => (Replaced, Replaced),
            1 => (SyncFailed, SyncFailed),
            _ => (Opens, Opens),
        },
        _ => panic!("{field} has no expectation"),
    }
}

/// The flipped bit of a field of four bytes, as a number.
fn flipped(bit: usize, offset: usize) -> u32 {
    let mut word = [0; 4];
    word[bit / 8 - offset] = 1 << (bit % 8);
    u32::from_ne_bytes(word)
}

/// Where the participant table begins behind one directory entry and so many bytes of text.
fn table_behind(text: u32) -> u64 {
    (4096 + 128 + u64::from(text)).next_multiple_of(128)
}

fn correct(page: &mut [u8]) {
    page[16..20].fill(0);
    let crc = crc32(&page[..256]);
    page[16..20].copy_from_slice(&crc.to_ne_bytes());
}

fn open(path: &Path) -> Outcome {
    outcome(Segment::open(path).and_then(|segment| segment.check()))
}

#[test]
fn f25_every_flipped_bit_has_the_error_that_the_order_calls_for() {
    // Catches a check that is missing, comes too late, or says the wrong thing; and a bit that nobody has thought of.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = small().create(path.as_path()).unwrap();
    let origin = segment.header().origin;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let mut flips = 0;
    for (field, offset, size) in table("The header page") {
        // Where the machine does not know it, nothing can be compared.
        let unknown = match field.as_str() {
            "inode" => origin.inode == 0,
            "birth" => origin.birth == 0,
            "file system uuid" => origin.file_system == [0; 16],
            _ => false,
        };
        for bit in 8 * offset..8 * (offset + size) {
            let (mut plain, mut corrected) = expected(&field, bit);
            let text = segment.header().schema_len;
            if field == "schema length"
                && table_behind(text ^ flipped(bit, offset)) == table_behind(text)
            {
                // The table is where it should be, and the text has another length.
                corrected = Outcome::ContentsChecksum;
            }
            if unknown {
                corrected = Outcome::Opens;
            }
            let mut page = bytes[..4096].to_vec();
            page[bit / 8] ^= 1 << (bit % 8);
            // Most of the page is ignored: for that it is enough to look at the bytes, without a file.
            if bit < 8 * 288 {
                file.write_all_at(&page[..320], 0).unwrap();
                assert_eq!(open(&path), plain, "bit {bit}, in {field:?}");
                correct(&mut page);
                file.write_all_at(&page[..320], 0).unwrap();
                assert_eq!(
                    open(&path),
                    corrected,
                    "bit {bit}, in {field:?}, checksum corrected"
                );
                correct(&mut page);
            }
            // A reader: no file that could be a copy, and leave to read what it may not write.
            let as_reader = |outcome, otherwise| match outcome {
                Outcome::ReadOnlyFeatures => otherwise,
                Outcome::Copied | Outcome::Replaced | Outcome::SyncFailed => Outcome::Opens,
                outcome => outcome,
            };
            plain = as_reader(plain, Outcome::HeaderChecksum);
            corrected = as_reader(corrected, Outcome::Opens);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                outcome(parse(&bytes).map(drop)),
                plain,
                "bit {bit}, in {field:?}, read only"
            );
            let kept: [u8; 4] = bytes[16..20].try_into().unwrap();
            correct(&mut bytes);
            assert_eq!(
                outcome(parse(&bytes).map(drop)),
                corrected,
                "bit {bit}, in {field:?}, read only, corrected"
            );
            bytes[16..20].copy_from_slice(&kept);
            bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    assert_eq!(flips, 8 * 4096);
}

#[test]
fn f30_every_flipped_bit_of_the_directory_is_noticed() {
    // Catches a byte of directory or schema text that the checksum does not cover.
    let place = scratch();
    let path = place.path().join("segment");
    let segment = small().create(path.as_path()).unwrap();
    let header = segment.header();
    let mut bytes = std::fs::read(&path).unwrap();
    for bit in 8 * 4096..8 * (header.schema_offset + u64::from(header.schema_len)) as usize {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            outcome(parse(&bytes).map(drop)),
            Outcome::ContentsChecksum,
            "bit {bit}"
        );
        // With both checksums corrected it may be another directory, but never one that leads outside.
        let contents =
            crc32(&bytes[4096..(header.schema_offset + u64::from(header.schema_len)) as usize]);
        let kept = bytes[16..24].to_vec();
        bytes[20..24].copy_from_slice(&contents.to_ne_bytes());
        correct(&mut bytes);
        if let Ok((header, entries)) = parse(&bytes) {
            for entry in entries {
                assert!(entry.offset >= header.participants_offset + 4 * 128);
                assert!(entry.offset + entry.len <= header.total_len);
            }
        }
        bytes[16..24].copy_from_slice(&kept);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Makes a segment, changes its header by `change`, corrects the checksum, and gives the outcomes of opening and of
/// opening for reading only.
fn changed(change: impl FnOnce(&mut [u8])) -> (Outcome, Outcome) {
    let place = scratch();
    let path = place.path().join("segment");
    drop(small().create(path.as_path()).unwrap());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut page = std::fs::read(&path).unwrap();
    change(&mut page[..256]);
    correct(&mut page);
    file.write_all_at(&page[..256], 0).unwrap();
    let view = Segment::open_read_only(path.as_path());
    (open(&path), outcome(view.and_then(|view| view.check())))
}

#[test]
fn f25_the_next_version_opens_when_only_compatible_bits_differ() {
    // Catches a reader that goes by the version instead of the bits, and one that ignores bits it must not ignore.
    let next = |page: &mut [u8]| page[10] += 1;
    let bit = |at: usize| {
        move |page: &mut [u8]| {
            next(page);
            page[at + 3] |= 0x10;
            // What the new feature keeps in a place that was zero.
            page[200..256].fill(7);
        }
    };
    assert_eq!(changed(next), (Outcome::Opens, Outcome::Opens));
    assert_eq!(changed(bit(32)), (Outcome::Opens, Outcome::Opens));
    assert_eq!(
        changed(bit(40)),
        (Outcome::ReadOnlyFeatures, Outcome::Opens)
    );
    assert_eq!(
        changed(bit(48)),
        (Outcome::UnknownFeatures, Outcome::UnknownFeatures)
    );
}

#[test]
fn f25_another_machine_is_told_by_what_differs() {
    // Catches a segment of another byte order, page size or pointer width that is taken for rubbish, or for one of ours.
    let place = scratch();
    let path = place.path().join("segment");
    drop(small().create(path.as_path()).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        parse(&bytes).unwrap_err()
    };
    let swapped = error(&|bytes| bytes[..8].reverse());
    assert!(matches!(swapped, SegmentError::OtherByteOrder), "{swapped}");
    let pages = error(&|bytes| {
        bytes[24..28].copy_from_slice(&65_536_u32.to_ne_bytes());
        correct(bytes);
    });
    let text = pages.to_string();
    assert!(
        text.contains("page size") && text.contains("65536"),
        "{text}"
    );
    let pointers = error(&|bytes| {
        bytes[28..32].copy_from_slice(&32_u32.to_ne_bytes());
        correct(bytes);
    });
    let text = pointers.to_string();
    assert!(
        text.contains("pointer width") && text.contains("32"),
        "{text}"
    );
}

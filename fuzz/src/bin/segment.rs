//! The parsers of header and directory: what they accept lies within the segment and overlaps nothing.
//!
//! The checksums are corrected first, since a fuzzer does not guess them, and the size of the "file" follows the header
//! where that is small enough. An input that begins with an odd byte goes in as it is.
#![no_main]

use ipc_core::segment::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mode % 2 == 0 {
        correct(&mut bytes);
    }
    let Ok((header, entries)) = parse(&bytes) else {
        return;
    };
    assert_eq!(header.total_len, bytes.len() as u64);
    let mut end = header.participants_offset + 128 * u64::from(header.participants);
    for entry in entries {
        assert!(entry.offset >= end && entry.offset % 128 == 0);
        end = entry.offset + entry.len;
        assert!(end <= header.total_len);
        assert!((1..64).contains(&entry.name.len()));
    }
});

/// Gives the bytes the size that their header names, and right checksums.
fn correct(bytes: &mut Vec<u8>) {
    if bytes.len() < 256 {
        return;
    }
    let word = |bytes: &[u8], at: usize| {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or_default())
    };
    let total = word(bytes, 56);
    if (4096..1 << 20).contains(&total) {
        bytes.resize(total as usize, 0);
    }
    let directory = 4096_usize;
    let text = u32::from_ne_bytes(bytes[180..184].try_into().unwrap_or_default()) as usize;
    let contents = (word(bytes, 160) as usize)
        .checked_add(text)
        .and_then(|end| bytes.get(directory..end));
    if let Some(contents) = contents {
        let crc = crc32fast::hash(contents);
        bytes[20..24].copy_from_slice(&crc.to_ne_bytes());
    }
    bytes[16..20].fill(0);
    let crc = crc32fast::hash(&bytes[..256]);
    bytes[16..20].copy_from_slice(&crc.to_ne_bytes());
}

//! The parser of schema texts: whatever it accepts, it would have written itself, byte by byte.
#![no_main]

use ipc_core::layout::Schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(schema) = Schema::parse(text) else { return };
    assert_eq!(schema.text(), text);
    assert!(schema.differences(&schema).is_empty());
    for leaf in schema.leaves(100) {
        assert!(leaf.range().end <= schema.size());
        leaf.format(&vec![0xA5; (leaf.range().end - leaf.range().start).min(1 << 12) as usize]);
    }
});

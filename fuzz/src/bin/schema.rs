//! The parser of schema texts: whatever it accepts, it would have written itself, byte by byte.
#![no_main]

use ipc_core::layout::{Layout, Schema};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(schema) = Schema::parse(text) else {
        return;
    };
    assert_eq!(schema.text(), text);
    assert!(schema.differences(&schema).is_empty());
    // Against another one, as when a segment is not what the program expects.
    let expected = <[[u16; 2]; 3]>::schema();
    assert_eq!(expected.differences(&schema).is_empty(), expected == schema);
    schema.differences(&expected);
    for leaf in schema.leaves(100) {
        assert!(leaf.range().end <= schema.size());
        leaf.format(&vec![
            0xA5;
            (leaf.range().end - leaf.range().start).min(1 << 12)
                as usize
        ]);
    }
});

//! A reader in another language, made from `docs/layout.md` alone.

use std::process::Command;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use ipc_core::bytemuck::{Pod, Zeroable};
use ipc_core::region::{Region, RegionSlice, SharedCell};
use ipc_core::segment::SegmentOptions;
use ipc_core::{Layout, Shared};

use crate::support::{scratch, skipped};

#[derive(Clone, Copy, Layout, Pod, Zeroable)]
#[repr(C)]
struct Level {
    price: f64,
    qty: [u32; 2],
}

#[derive(Layout, Shared)]
#[repr(C)]
struct Book {
    updates: AtomicU64,
    levels: [SharedCell<Level>; 2],
    delta: [AtomicI32; 2],
}

#[test]
fn a_script_reads_a_live_segment() {
    // Catches a drawing that leaves out what a reader needs, or a format that needs our code to be read.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/read_segment.py");
    let found = Command::new("python3").arg("--version").output();
    if !found.is_ok_and(|found| found.status.success()) || std::fs::metadata(script).is_err() {
        return skipped("python3 is not there, or may not be run by this user");
    }
    let place = scratch();
    let path = place.path().join("book");
    let segment = SegmentOptions::new()
        .object("book", Region::<Book>::spec())
        .object("samples", RegionSlice::<i16>::spec(3).unwrap())
        .create(path.as_path())
        .unwrap();
    let id = segment.participant().unwrap();
    let book = Region::<Book>::in_segment(&segment, "book").unwrap();
    book.updates.store(u64::MAX - 1, Relaxed);
    book.levels[1].set(Level {
        price: -2.5,
        qty: [7, 8],
    });
    book.delta[1].store(-5, Relaxed);
    RegionSlice::<i16>::in_segment(&segment, "samples")
        .unwrap()
        .write(0, &[1, -2, 3]);

    let output = Command::new("python3")
        .arg(script)
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let uuid: String = segment
        .header()
        .uuid
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(read["header"]["uuid"], uuid.as_str());
    assert_eq!(read["header"]["creator_pid"], std::process::id());
    assert_eq!(
        read["participants"],
        serde_json::json!([{"number": id.get(), "pid": std::process::id()}])
    );
    let empty = serde_json::json!({"price": 0.0, "qty": [0, 0]});
    let level = serde_json::json!({"price": -2.5, "qty": [7, 8]});
    assert_eq!(read["objects"][0]["name"], "book");
    assert_eq!(
        read["objects"][0]["value"],
        serde_json::json!({"updates": u64::MAX - 1, "levels": [empty, level], "delta": [0, -5]})
    );
    assert_eq!(read["objects"][1]["value"], serde_json::json!([1, -2, 3]));
    assert_eq!(read["objects"][1]["schema"], segment.entries()[1].schema);

    // It refuses what it cannot read, too.
    let other = Command::new("python3")
        .arg(script)
        .arg(script)
        .output()
        .unwrap();
    assert!(
        !other.status.success() && String::from_utf8_lossy(&other.stderr).contains("not a segment")
    );
}

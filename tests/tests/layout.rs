//! The derive of `Layout` and `Shared`, and the text of a schema in the hands of others.

use std::io::Write;
use std::process::{Command, Stdio};
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

#[test]
fn a_python_program_reads_the_text_by_its_grammar() {
    // Catches a fingerprint, or a text, that a program in another language cannot make use of with what it has at hand.
    let nested = [
        <[Level; 2]>::schema(),
        Schema::cell::<[Book; 2]>(),
        u8::schema(),
    ];
    for schema in [Book::schema(), Counters::schema()]
        .into_iter()
        .chain(nested)
    {
        let mut python = Command::new("python3");
        let python = python
            .arg("tests/layout/schema.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut python = match python {
            Ok(python) => python,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return println!("skipped: no python3");
            }
            Err(error) => panic!("python3: {error}"),
        };
        python
            .stdin
            .take()
            .unwrap()
            .write_all(schema.text().as_bytes())
            .unwrap();
        let output = python.wait_with_output().unwrap();
        let leaves = schema.leaves(100);
        let leaves = leaves.iter().map(|leaf| {
            format!(
                "{} {} {} {}\n",
                leaf.path(),
                leaf.primitive().name(),
                leaf.count(),
                leaf.range().start
            )
        });
        let expected = format!("{}\n{}", schema.fingerprint(), leaves.collect::<String>());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

/// Types that the derive refuses in words of its own, and types that the compiler refuses for what the derive wrote. The compiler
/// changes the words around ours from version to version, so those are compared with what one version says.
const REFUSED: [&str; 2] = ["tests/layout/fail", "tests/layout/fail_in_rustc"];
const RUSTC: &str = "rustc 1.95.";

#[test]
fn what_cannot_be_shared_does_not_compile() {
    // Catches a derive that lets a type through, or whose message got worse.
    let cases = trybuild::TestCases::new();
    cases.compile_fail(format!("{}/*.rs", REFUSED[0]));
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    match version.starts_with(RUSTC.as_bytes()) {
        true => cases.compile_fail(format!("{}/*.rs", REFUSED[1])),
        false => println!(
            "skipped: {}, the messages of which are those of {RUSTC}*",
            REFUSED[1]
        ),
    }
}

/// The twins compile with this file: that catches a derive that refuses everything.
macro_rules! twins {
    ($($case:ident)*) => {
        const TWINS: &[&str] = &[$(stringify!($case)),*];
        mod twins {
            $(#[allow(dead_code)] mod $case { include!(concat!("layout/pass/", stringify!($case), ".rs")); })*
        }
    };
}

twins! {
    atomic_bool atomic_pointer atomic_usize bad_name bad_option bool bool_by_alias
    bool_in_array char enum_in_field enum_type function generic isize no_bytes no_fields
    no_repr_c option packed padding_behind padding_between padding_by_align pointer reference
    shared_plain_field string tuple u128 union_type usize vec
}

#[test]
fn each_refused_type_has_a_twin_that_differs_in_one_token() {
    // Catches a case that fails for another reason than the one it is named for.
    let mut cases = Vec::new();
    for directory in REFUSED {
        for file in std::fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().path())
        {
            if file.extension().is_some_and(|extension| extension == "rs") {
                cases.push((file.file_stem().unwrap().to_str().unwrap().to_owned(), file));
            }
        }
    }
    cases.sort();
    let names: Vec<_> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names, TWINS,
        "the refused types on the left, the list of twins on the right"
    );
    for (case, file) in &cases {
        let fail = std::fs::read_to_string(file).unwrap();
        let pass = std::fs::read_to_string(format!("tests/layout/pass/{case}.rs")).unwrap();
        let (fail, pass) = (tokens(&fail), tokens(&pass));
        let before = fail.iter().zip(&pass).take_while(|(a, b)| a == b).count();
        let rest = fail[before..].iter().rev().zip(pass[before..].iter().rev());
        let behind = rest.take_while(|(a, b)| a == b).count();
        assert_eq!(
            pass.len() - before - behind,
            1,
            "{case}: the twin has one other token"
        );
    }
}

/// Words (a name in quotes is one) and single signs.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            _ => rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
                .max(1),
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

//! The classic programs, each run and compared with what it must print.
//!
//! Each runs as the user who tests and, where that is root, as nobody (65534) too, from a copy that he may read.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// What a program prints when it is run without arguments. The first element is its name.
const PRINTS: &[(&str, &str)] = &[
    ("fork-counter", "child: 42\nparent: 43\n"),
    ("fork-counter-typed", "child: 42\nparent: 43\n"),
    (
        "cow-list",
        "[common] visit list: 13 17 42\n[parent] visit list: 7 13 17 42\n[child] visit list: 5 13 17 42\n",
    ),
    ("pagesize", "page size: 4096 bytes\n"),
    (
        "msync-demo",
        "scheduled: the kernel writes when it likes\ninvalidated: other mappings see it, as they did before\n\
         waited: 8192 bytes are on the disk\nfsync: so are its times; a new name needs an fsync of its directory\n",
    ),
    (
        "mremap-grow",
        "grown to 1000 pages: kept\nshrunk to 1 byte\ngrown into a reserved place: true\n\
         the file has 8 pages, and the mapping has moved: false\nno more room: the mapping still has 8 pages\n",
    ),
    (
        "guard-page",
        "first byte: fine\nlast byte: fine\none before: SIGSEGV\none after: SIGSEGV\n\
         write_at: 1 bytes at offset 4096 were asked for, and the mapping has 4096\n",
    ),
    (
        "residency",
        "new      : ........ 0 of 8\ntouched  : ...#.... 1 of 8\npopulated: ...#.### 4 of 8\ndropped  : ......## 2 of 8\n",
    ),
    (
        "advice",
        "Sequential: here\nRandom: here\nNormal: here\nWillNeed: here\nCold: here\nDontDump: here\n\
         DontNeed, anonymous: [0, 0, 0, 0]\nDontNeed, file: file\nWipeOnFork, in the child: [0, 0, 0, 0]\n\
         DontFork, in the child: true\n",
    ),
    (
        "lock-secret",
        "SecretBuffer of 32 bytes\nthe child finds zeros: true\nthe parent has it: true\n\
         1048576 bytes cannot be locked in memory: the limit RLIMIT_MEMLOCK is 65536 bytes, of which 0 are in use; \
         raise it with `ulimit -l` or in limits.conf\n",
    ),
    (
        "hole-punch",
        "######## 8 pages long, 8 in use\n##....## 8 pages long, 4 in use\n",
    ),
    (
        "mirror",
        "in one piece: over the seam\nat the beginning of the ring: the seam\nat its end: over \n",
    ),
    (
        "nonlinear",
        "0: page 3\n1: page 1\n2: page 0\n3: page 2\n4: page 2\n",
    ),
    (
        "dev-zero",
        "without a length: the mapping has no length: add .len(bytes) to the options\n\
         one: [109, 105, 110, 101], other: [0, 0, 0, 0]\n",
    ),
    (
        "page-edges",
        "in memory: five! and a tail\nin the file: five!\n\
         a page more: the file has 5 bytes, and a mapping of 4097 bytes from offset 0 reaches past them: map less, or add \
         .extend_file() to have the file grow\na raw read: SIGBUS\n\
         a safe one: the file was cut short while it was mapped, or a page of it could not be supplied: its bytes here \
         are not to be trusted any more; map it again\n",
    ),
    (
        "unmap-parts",
        "whole:           ######\nfront unmapped:  .#####\nback unmapped:   .####.\nhole unmapped:   .#..#.\n\
         right unmapped:  .#....\n",
    ),
    (
        "protect",
        "readable and writable: a raw store: fine; a safe one: fine\n\
         read-only: a raw store: SIGSEGV; a safe one: the mapping is read-only: it cannot be written\n\
         without access: a raw store: SIGSEGV; a safe one: the mapping is without access: it cannot be written\n\
         frozen: fixed\n",
    ),
    (
        "executable",
        "written now: the mapping is readable and executable: it cannot be written\n42\n",
    ),
    ("layers", "taken: true\n1022\n"),
    (
        "grow-file",
        "first: 1 page, moved: false, sees \"one file\"\nsecond: 3 pages, sees \"one file\"\n",
    ),
    (
        "pass-memfd",
        "child reads: hello, child \nparent reads: hello, parent\n",
    ),
    (
        "refusals",
        "DIR/file is open for reading only, and a shared mapping that may be written was asked for: open it for reading \
         and writing, or map it .read_only(), or .private() to keep the changes to this process\nit works\nit works\n\
         DIR/file is open for writing only, and a mapping needs to read even to write: open it for reading and writing\n\
         offset 5000 is not a multiple of the page size 4096: map from 4096 or from 8192, or add .any_offset() to map from \
         the page below and have the difference hidden\n\
         DIR/file has 10000 bytes, and a mapping of 20000 bytes from offset 0 reaches past them: map less, or add \
         .extend_file() to have the file grow\nDIR is a directory, which cannot be mapped\n\
         an alignment of 48 bytes was asked for: it is not a power of two\n\
         the mapping has no length: add .len(bytes) to the options\n\
         memfd \"memory\" needs 1125899906842624 bytes, which are not to be had: N are free where it lies\n",
    ),
];

/// Directory of the built examples.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mmap-cat")).parent().unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A user who runs programs: from where, and whether as nobody.
struct User {
    programs: PathBuf,
    nobody: bool,
    /// A directory of his own for temporary files.
    scratch: TempDir,
}

impl User {
    /// The user who tests and, if he is root, nobody.
    fn all() -> Vec<User> {
        let mut users = vec![User {
            programs: built().into(),
            nobody: false,
            scratch: open_dir(),
        }];
        if is_root() {
            let scratch = open_dir();
            let programs = scratch.path().join("programs");
            fs::create_dir(&programs).unwrap();
            users.push(User {
                programs,
                nobody: true,
                scratch,
            });
        }
        users
    }

    fn command(&self, name: &str, arguments: &[&[u8]]) -> Command {
        use std::os::unix::ffi::OsStrExt;
        let program = self.programs.join(name);
        if self.nobody && !program.exists() {
            // By a process of its own: a descriptor that is open for writing here would be inherited by whatever another
            // thread starts meanwhile, and the program then be busy.
            let copied = Command::new("install")
                .args(["-m", "755"])
                .arg(built().join(name))
                .arg(&program)
                .status();
            assert!(copied.unwrap().success());
        }
        let mut command = Command::new(program);
        command.args(
            arguments
                .iter()
                .map(|bytes| std::ffi::OsStr::from_bytes(bytes)),
        );
        command
            .env("TMPDIR", self.scratch.path())
            .current_dir(self.scratch.path());
        if self.nobody {
            command.uid(65534).gid(65534);
        }
        command
    }

    fn run(&self, name: &str, arguments: &[&[u8]]) -> Output {
        self.command(name, arguments).output().unwrap()
    }
}

/// A directory that everybody may use.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    dir
}

/// A file of `bytes` that everybody may read.
fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = open_dir();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    (dir, path)
}

fn path(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// Bytes without a pattern of a power of two.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// What is free changes from moment to moment.
fn without_free_space(text: &str) -> String {
    let Some((before, after)) = text.split_once(" are free where it lies") else {
        return text.into();
    };
    format!(
        "{}N are free where it lies{after}",
        before.trim_end_matches(|c: char| c.is_ascii_digit())
    )
}

#[test]
fn each_prints_what_it_must() {
    // Catches an operation that has another effect than it should, for root or for others, and one that leaves a file.
    for user in User::all() {
        for (name, expected) in PRINTS {
            let output = user.run(name, &[]);
            let printed = without_free_space(&String::from_utf8_lossy(&output.stdout));
            let page = format!("page size: {} bytes\n", ipc_core::mapping::page_size());
            let expected = if *name == "pagesize" {
                &page
            } else {
                *expected
            };
            assert!(
                output.status.success() && printed == expected,
                "{name}, nobody: {}: {output:?}\nexpected: {expected}",
                user.nobody
            );
            assert!(output.stderr.is_empty(), "{name}: {output:?}");
            let left: Vec<_> = fs::read_dir(user.scratch.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert!(
                left.iter().all(|entry| *entry == "programs"),
                "{name} leaves {left:?}"
            );
        }
    }
}

#[test]
fn mmap_cat_is_exact_for_every_size() {
    // Catches a lost or repeated piece, a tail of zeros, and the EINVAL of an empty file.
    for user in User::all() {
        for len in [
            0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 1_000_003,
        ] {
            let (_dir, file) = file_of(&bytes(len));
            let output = user.run("mmap-cat", &[path(&file)]);
            assert!(output.status.success(), "{len} bytes: {output:?}");
            assert!(
                output.stdout == bytes(len),
                "{len} bytes: got {}",
                output.stdout.len()
            );
        }
        let output = user.run("mmap-cat", &[b"/nowhere"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere"));
        assert!(String::from_utf8_lossy(&user.run("mmap-cat", &[]).stderr).contains("usage"));
        assert!(
            String::from_utf8_lossy(&user.run("mmap-cat", &[b"/"]).stderr).contains("a directory")
        );
    }
}

#[test]
fn mmap_cat_reports_a_file_that_is_cut_while_it_runs() {
    // Catches the SIGBUS: the program waits for its reader in the middle of the file when the file is cut.
    for user in User::all() {
        let (_dir, file) = file_of(&bytes(4 << 20));
        let mut child = user
            .command("mmap-cat", &[path(&file)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = vec![0; 1000];
        out.read_exact(&mut first).unwrap();
        assert_eq!(first, bytes(1000));
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(0)
            .unwrap();
        std::io::copy(&mut out, &mut std::io::sink()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), None, "{output:?}");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("was cut short"),
            "{output:?}"
        );
    }
}

#[test]
fn mmap_cat_is_quiet_on_a_closed_pipe() {
    // Catches a message, or a program that goes on writing to nobody.
    for user in User::all() {
        let (_dir, file) = file_of(&bytes(4 << 20));
        let mut child = user
            .command("mmap-cat", &[path(&file)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut [0; 10])
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn grep_substring_finds_what_is_there_and_nothing_else() {
    // Catches a match missed at the end or across an edge, one found in the zeros past the end, and text taken for granted.
    let page = 4096;
    let piece = 65_536;
    let at = |len: usize, offset: usize, string: &[u8]| {
        let mut bytes = vec![b'.'; len];
        bytes[offset..offset + string.len()].copy_from_slice(string);
        bytes
    };
    let cases: Vec<(Vec<u8>, &[u8], bool)> = vec![
        (b"some text".to_vec(), b"text", true),
        (b"some text".to_vec(), b"texts", false),
        (b"".to_vec(), b"x", false),
        (b"".to_vec(), b"", true),
        (b"x".to_vec(), b"xx", false),
        // The last byte, of a file that ends at a page edge and of one that does not.
        (at(page, page - 1, b"x"), b"x", true),
        (at(page, page - 3, b"end"), b"end", true),
        (at(5000, 4999, b"x"), b"x", true),
        // Across a page edge, and across the edge of a piece.
        (at(2 * page, page - 2, b"seam"), b"seam", true),
        (at(2 * piece, piece - 2, b"seam"), b"seam", true),
        (at(2 * piece, piece - 1, b"seam"), b"seam", true),
        (at(2 * piece, piece, b"seam"), b"seam", true),
        (at(2 * piece, 2 * piece - 4, b"seam"), b"seam", true),
        (at(piece, piece - 4, b"seam"), b"seam", true),
        // Past the end of the file its page holds zeros, which are no part of it; a program cannot be passed a zero, but
        // other bytes that are no text it can.
        (at(100, 10, &[0xFF, 0xFE, 0x80]), &[0xFE, 0x80], true),
        (at(100, 10, &[0xFF, 0, 0x80]), &[0xFF, 0x80], false),
        (at(100, 98, &[0xFF, 0xFE]), &[0xFF, 0xFE], true),
    ];
    for user in User::all() {
        for (number, (contents, string, found)) in cases.iter().enumerate() {
            let (_dir, file) = file_of(contents);
            let output = user.run("grep-substring", &[string, path(&file)]);
            let expected = if *found {
                ("string found\n", 0)
            } else {
                ("string not found\n", 1)
            };
            let got = (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                output.status.code(),
            );
            assert_eq!(got, (expected.0.into(), Some(expected.1)), "case {number}");
        }
        assert_eq!(
            user.run("grep-substring", &[b"x", b"/nowhere"])
                .status
                .code(),
            Some(2)
        );
        assert_eq!(user.run("grep-substring", &[b"x"]).status.code(), Some(2));
    }
}

#[test]
fn glob_id_hands_out_each_id_once() {
    // Catches the race of the classic program, an init that starts anew, and a file of something else that is used or spoilt.
    for user in User::all() {
        let dir = open_dir();
        let file = dir.path().join("counter.data");
        let get = || {
            let output = user.run("glob-id", &[b"get", path(&file)]);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(
            user.run("glob-id", &[b"init", path(&file)])
                .status
                .success()
        );
        assert_eq!(get(), "checking magic number...\ngot id: 1\n");
        assert!(
            !user
                .run("glob-id", &[b"init", path(&file)])
                .status
                .success()
        );
        // Processes at the same time.
        let mut running: Vec<_> = (0..20)
            .map(|_| {
                let mut command = user.command("glob-id", &[b"get", path(&file)]);
                command.stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut ids: Vec<u64> = running
            .drain(..)
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                let id = text.trim().rsplit_once(' ').expect("got id: N").1;
                id.parse().unwrap()
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (2..=21).collect::<Vec<u64>>());
        assert_eq!(get(), "checking magic number...\ngot id: 22\n");
        // Wrong magic: refused, and left as it was.
        let other = dir.path().join("other");
        fs::write(&other, bytes(8192)).unwrap();
        let refused = user.run("glob-id", &[b"get", path(&other)]);
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(refused.stdout, b"checking magic number...\n");
        assert_eq!(fs::read(&other).unwrap(), bytes(8192));
    }
}

#[test]
fn memalign_prints_an_aligned_address_or_refuses() {
    // Catches an address that is not aligned, and an alignment that cannot be.
    for user in User::all() {
        for align in ["8", "64", "4096", "65536", "1048576"] {
            let output = user.run("memalign", &[b"100", align.as_bytes()]);
            let text = String::from_utf8(output.stdout).unwrap();
            let (decimal, hex) = text
                .trim()
                .strip_prefix("address: ")
                .unwrap()
                .split_once(' ')
                .unwrap();
            let address: usize = decimal.parse().unwrap();
            assert_eq!(hex, format!("({address:#x})"));
            assert_eq!(address % align.parse::<usize>().unwrap(), 0);
        }
        for (align, why) in [
            ("3", "power of two"),
            ("4", "pointer"),
            ("many", "not a number"),
        ] {
            let output = user.run("memalign", &[b"100", align.as_bytes()]);
            assert_eq!(output.status.code(), Some(1));
            assert!(
                String::from_utf8_lossy(&output.stderr).contains(why),
                "{output:?}"
            );
        }
    }
}

#[test]
fn those_with_arguments_heed_them() {
    // Catches an argument that is not looked at.
    for user in User::all() {
        let (_dir, file) = file_of(&bytes(10_000));
        let part = user.run("file-part", &[path(&file), b"5000", b"100"]);
        assert_eq!(part.stdout, bytes(10_000)[5000..5100]);
        let part = user.run("file-part", &[path(&file), b"9990", b"100"]);
        assert_eq!(part.stdout, bytes(10_000)[9990..]);
        assert!(
            user.run("file-part", &[path(&file), b"20000", b"1"])
                .stdout
                .is_empty()
        );
        let order = user.run("nonlinear", &[b"1", b"1", b"0"]);
        assert_eq!(order.stdout, b"0: page 1\n1: page 1\n2: page 0\n");
        let found = user.run("residency", &[path(&file)]);
        assert!(
            String::from_utf8_lossy(&found.stdout).ends_with(": 3 of 3 pages\n"),
            "{found:?}"
        );
        let synced = user.scratch.path().join("synced");
        assert!(user.run("msync-demo", &[path(&synced)]).status.success());
        assert_eq!(&fs::read(&synced).unwrap()[4094..4107], b"over the edge");
        fs::remove_file(&synced).unwrap();
    }
}

#[test]
fn what_depends_on_the_machine_says_so() {
    // Catches an example that fails where the machine is otherwise: without huge pages, or in another overcommit mode.
    for user in User::all() {
        let variants = String::from_utf8(user.run("variants", &[]).stdout).unwrap();
        assert!(variants.starts_with("plain: 0 pages in memory\npopulated: 16 pages in memory\nlocked: 1 page in memory\nhuge pages: "));
        assert!(
            variants.ends_with("where it was asked for: true\nagain: true\n"),
            "{variants}"
        );
        let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
        let sparse = user.run("sparse", &[]);
        let text = String::from_utf8_lossy(&sparse.stdout);
        assert!(
            text.contains(&format!("vm.overcommit_memory is {}", mode.trim())),
            "{sparse:?}"
        );
        if mode.trim() == "2" {
            println!("skipped: this machine's overcommit mode counts what is not reserved");
            continue;
        }
        assert!(text.contains("1099511627776 bytes mapped, little in memory: true\nrefused: 1152921504606846976 bytes\n"), "{sparse:?}");
    }
}

#[test]
fn nothing_stays_in_shared_memory() {
    // Catches an example that leaves a file in /dev/shm. It runs with a /dev/shm of its own, since others use the real one.
    if !is_root() {
        println!("skipped: only root can mount a /dev/shm for the test");
        return;
    }
    let names: Vec<&str> = PRINTS
        .iter()
        .map(|(name, _)| *name)
        .chain(["variants", "sparse"])
        .collect();
    let script = format!(
        "mount -t tmpfs none /dev/shm && mkdir /dev/shm/tmp && export TMPDIR=/dev/shm/tmp && \
         for name in {}; do \"{}/$name\" >/dev/null 2>&1 || echo \"failed: $name\"; done; find /dev/shm -mindepth 1",
        names.join(" "),
        built().display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", &script])
        .output();
    let Ok(output) = output.inspect_err(|error| println!("skipped: unshare: {error}")) else {
        return;
    };
    let (text, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() && said.contains("permi") {
        println!("skipped: this root may not mount: {said}");
        return;
    }
    let left: Vec<&str> = text
        .lines()
        .filter(|line| !matches!(*line, "/dev/shm/tmp" | "/dev/shm/ipc-0"))
        .collect();
    assert!(
        left.is_empty() && output.status.success(),
        "{left:?} {output:?}"
    );
    assert!(
        text.contains("/dev/shm/tmp"),
        "the programs did not run: {output:?}"
    );
    std::io::stdout().flush().unwrap();
}

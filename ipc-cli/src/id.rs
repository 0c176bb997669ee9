//! `ipc id`: unique ids from a file, without a server, or with one for those who want it.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use ipc_core::ids::{EPOCH, Ids};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ended::Ended;
use crate::signals::Signals;

/// Unique ids from a file.
///
/// No id is ever given twice, through any kill and any power cut.
#[derive(Debug, Args)]
pub(crate) struct Id {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a file of ids
    Init {
        /// The file, which must not exist
        path: PathBuf,
        /// Print what `show` prints of it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say what is known of a file of ids
    Show {
        /// The file
        path: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Draw ids, sequential over all processes, one a line
    Get {
        /// The file, or the socket of `ipc id serve`
        path: PathBuf,
        /// How many
        #[arg(long, short, default_value_t = 1)]
        count: u64,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Draw ids by blocks, which is faster; one a line
    Lease {
        /// The file
        path: PathBuf,
        /// How many
        #[arg(long, short, default_value_t = 1)]
        count: u64,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Draw ids for others: each line `N` that comes over the socket is answered by `FIRST LAST`
    Serve {
        /// The file
        path: PathBuf,
        /// The Unix socket; the file's name and `.sock` if not given
        #[arg(long)]
        socket: Option<PathBuf>,
        /// Print where it listens as one JSON object, once it does
        #[arg(long)]
        json: bool,
    },
    /// Use a copy or a restored backup in the place of the original, which must not be used any more
    Adopt {
        /// The copy
        path: PathBuf,
        /// Print what `show` prints of it as one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Id {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<()> {
        match &self.command {
            Command::Init { path, json } => {
                let ids = Ids::create(path.as_path());
                let ids = ids.with_context(|| format!("cannot create {path:?}"))?;
                tell_if(*json, &ids, path)
            }
            Command::Show { path, json } => crate::print(&show(&open(path)?, path, *json)),
            Command::Get { path, count, json } => get(path, *count, *json),
            Command::Lease { path, count, json } => lease(path, *count, *json),
            Command::Serve { path, socket, json } => serve(path, socket.as_deref(), *json),
            Command::Adopt { path, json } => {
                let ids = Ids::adopt(path.as_path());
                let ids = ids.with_context(|| format!("cannot adopt {path:?}"))?;
                tell_if(*json, &ids, path)
            }
        }
    }
}

/// Nothing but the exit code for a person: that the file is there says it all.
fn tell_if(json: bool, ids: &Ids, path: &Path) -> Result<()> {
    match json {
        true => crate::print(&show(ids, path, true)),
        false => Ok(()),
    }
}

fn open(path: &Path) -> Result<Ids> {
    Ids::open(path).with_context(|| format!("cannot open {path:?}"))
}

fn show(ids: &Ids, path: &Path, json: bool) -> String {
    let known = ids.statistics();
    let last = known.drawn % EPOCH;
    if json {
        let object = serde_json::json!({
            "schema_version": 1,
            "path": path.to_string_lossy(),
            "epoch": known.drawn / EPOCH,
            "last": known.drawn,
            "durable_up_to": known.limit,
            "leased": known.leased,
            "lost": known.lost,
            "syncs": known.extensions,
            "changed_unix_ns": known.changed,
            "failed": known.failed,
        });
        return format!("{object}\n");
    }
    let changed = match known.changed {
        0 => "never".to_owned(),
        time => {
            humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + Duration::from_nanos(time))
                .to_string()
        }
    };
    format!(
        "last id drawn   {}\nids in epoch    {last} (epoch {})\ndurable up to   {}\nleased, unused  {}\nlost by deaths  {}\nlast change     {changed}\n{}",
        known.drawn,
        known.drawn / EPOCH,
        known.limit,
        known.leased,
        known.lost,
        if known.failed {
            "the disk has failed: no more ids\n"
        } else {
            ""
        },
    )
}

/// An id on a line.
fn write_id(out: &mut impl Write, id: u64, json: bool) -> io::Result<()> {
    match json {
        true => writeln!(out, r#"{{"schema_version":1,"id":{id}}}"#),
        false => writeln!(out, "{id}"),
    }
}

fn get(path: &Path, count: u64, json: bool) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        return request(path, count, json);
    }
    let ids = open(path)?;
    // Line by line: if the reader goes away, at most one id goes with it.
    let mut out = io::stdout().lock();
    for _ in 0..count {
        write_id(&mut out, ids.next()?, json)?;
    }
    ids.touch();
    Ok(())
}

fn lease(path: &Path, count: u64, json: bool) -> Result<()> {
    let ids = open(path)?;
    let mut lease = ids.lease()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for _ in 0..count {
        write_id(&mut out, lease.next()?, json)?;
    }
    out.flush()?;
    ids.touch();
    Ok(())
}

/// Removed when the server ends.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn serve(path: &Path, socket: Option<&Path>, json: bool) -> Result<()> {
    let ids = Arc::new(open(path)?);
    let beside = || {
        let mut name = path.as_os_str().to_owned();
        name.push(".sock");
        name.into()
    };
    let socket = socket.map_or_else(beside, Path::to_path_buf);
    let signals = Signals::catch()?;
    let listener = listen(&socket)?;
    let _removed = Socket(socket.clone());
    if json {
        let object = serde_json::json!({
            "schema_version": 1,
            "path": path.to_string_lossy(),
            "socket": socket.to_string_lossy(),
        });
        crate::print(&format!("{object}\n"))?;
    } else {
        crate::say(format_args!(
            "ipc: ids of {} on {}",
            path.display(),
            socket.display()
        ));
    }
    loop {
        signals.check()?;
        let mut ready = [PollFd::new(&listener, PollFlags::IN)];
        // Bounded, so that a signal that comes just before the call is seen soon.
        if matches!(
            poll(
                &mut ready,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 200_000_000
                })
            ),
            Ok(1)
        ) {
            let (client, _) = listener.accept().context("cannot accept a client")?;
            let ids = ids.clone();
            std::thread::spawn(move || {
                // A client that goes away in the middle has ended its own conversation, and nobody else's.
                let _ = answer(&ids, client);
            });
        }
    }
}

/// Listens on a socket; one that a dead server left behind is replaced.
fn listen(socket: &Path) -> Result<UnixListener> {
    let bind = || UnixListener::bind(socket);
    let listener = match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(socket).is_ok() {
                bail!("a server is at {} already", socket.display());
            }
            std::fs::remove_file(socket).and_then(|()| bind())
        }
        other => other,
    };
    listener.with_context(|| format!("cannot listen on {}", socket.display()))
}

/// No line of a conversation is longer.
const LINE: u64 = 256;

/// The next line of somebody who may send anything, without its end; nothing if that was all.
fn next_line(from: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if from.take(LINE).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    ensure!(
        line.ends_with('\n'),
        "a line of {LINE} bytes or more, or one that is cut short"
    );
    Ok(Some(line.trim().to_owned()))
}

/// No question asks for more ids.
const MOST: u64 = 1_000_000;

/// Answers each line `N` by `FIRST LAST`, or by `error: …`.
fn answer(ids: &Ids, client: UnixStream) -> Result<()> {
    let mut out = client.try_clone()?;
    let mut questions = BufReader::new(client);
    while let Some(line) = next_line(&mut questions)? {
        let drawn = match line.parse() {
            Ok(count @ 1..=MOST) => ids.take(count).map_err(|error| error.to_string()),
            _ => Err(format!(
                "a number from 1 to {MOST} is expected, not {line:?}"
            )),
        };
        match drawn {
            Ok(drawn) => writeln!(out, "{} {}", drawn.start, drawn.end - 1)?,
            Err(error) => writeln!(out, "error: {error}")?,
        }
        ids.touch();
    }
    Ok(())
}

/// Draws ids from a server.
fn request(socket: &Path, mut count: u64, json: bool) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody serves ids at {}", socket.display()))?;
    // Not for whoever reads the output of ours: that one is there.
    let gone = || Ended::PeerDead(format!("the server at {} has gone", socket.display()));
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut questions = stream;
    let mut out = BufWriter::new(io::stdout().lock());
    while count > 0 {
        let some = count.min(MOST);
        writeln!(questions, "{some}").map_err(|_| gone())?;
        let line = next_line(&mut answers)?.ok_or_else(gone)?;
        let bounds = line
            .split_once(' ')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let as_many = |(first, last): &(u64, u64)| last.checked_sub(*first) == Some(some - 1);
        let Some((first, last)) = bounds.filter(as_many) else {
            bail!("the server says: {line}");
        };
        for id in first..=last {
            write_id(&mut out, id, json)?;
        }
        count -= some;
    }
    Ok(out.flush()?)
}

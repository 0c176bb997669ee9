//! How a command can end other than by being done, and the exit code of each.

use std::io;
use std::process::ExitCode;

/// The exit codes and what they mean.
pub(crate) const CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "failed"),
    (2, "usage"),
    (3, "the other side died or went away"),
    (4, "timed out"),
];

/// The same in a line, for `--help`.
pub(crate) fn exit_codes() -> String {
    let codes: Vec<String> = CODES
        .iter()
        .map(|(code, meaning)| format!("{code} {meaning}"))
        .collect();
    format!("Exit codes: {}.", codes.join(", "))
}

/// Ends that have an exit code of their own. Put anywhere into the chain of an error.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Anything that the others are not.
    #[error("failed")]
    Failed,
    /// The command line asks for what there is not.
    #[error("{0}")]
    Usage(String),
    /// The other side died, or stopped before the end.
    #[error("{0}")]
    PeerDead(String),
    /// Nothing moved for as long as the user was willing to wait.
    #[error("{0}")]
    TimedOut(String),
    /// A signal asked for the end.
    #[error("interrupted")]
    Interrupted(i32),
    /// Whoever read our standard output has gone: nobody wants a message.
    #[error("nobody reads the output any more")]
    NoReader,
}

impl Ended {
    /// Which end an error is.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(ended) = cause.downcast_ref::<Self>() {
                return ended.clone();
            }
            if let Some(ipc_benches::NoSuch(what)) = cause.downcast_ref() {
                return Self::Usage(what.clone());
            }
            let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
            if cause.downcast_ref::<io::Error>().is_some_and(broken) {
                return Self::NoReader;
            }
        }
        Self::Failed
    }

    /// Says why on standard error, and gives the exit code. A process that was asked to end by a signal ends by it, so
    /// that its shell knows.
    pub(crate) fn exit(self, error: &anyhow::Error) -> ExitCode {
        let signal = match self {
            Self::Interrupted(signal) => Some(signal),
            Self::NoReader => Some(signal_hook::consts::SIGPIPE),
            _ => None,
        };
        if let Some(signal) = signal {
            // Only returns if the signal has no such default, and then the code below stands.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        } else {
            crate::say(format_args!("ipc: {}", line(error)));
        }
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::PeerDead(_) => 3,
            Self::TimedOut(_) => 4,
            _ => 1,
        })
    }
}

/// An error and its causes in one line. What the text before it ends with is not told again: some errors name their cause
/// themselves.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door: {0}")]
    struct Shut(#[source] io::Error);

    // Would catch "Permission denied: Permission denied", and a cause that is left out.
    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::Error::new(Shut(io::Error::other("it is locked"))).context("cannot go");
        assert_eq!(
            line(&error),
            "cannot go: cannot open the door: it is locked"
        );
        let error = anyhow::Error::new(io::Error::other("it is locked")).context("cannot go");
        assert_eq!(line(&error), "cannot go: it is locked");
    }
}

//! Survivors who hold something, or sleep, while the victim works.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::still::Inspect;
use crate::kill::adapter::{Case, Scene};
use crate::kill::ground::Ground;
use crate::kill::sleeper::Sleeper;

/// How long a sleeper may take to settle.
const PATIENCE: Duration = Duration::from_secs(5);

/// A survivor that holds something until it is told to let go. Guards borrow what they guard, so it has a thread to itself.
pub(super) struct Keeper {
    go: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Keeper {
    /// Starts a thread that takes something and calls what it is given while it holds it. Returns when it holds it.
    pub(super) fn start(
        hold: impl FnOnce(&dyn Fn()) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (tell, ready): (Sender<()>, Receiver<()>) = channel();
        let (go, told): (Sender<()>, Receiver<()>) = channel();
        let thread = std::thread::spawn(move || {
            hold(&|| {
                let _ = tell.send(());
                // Told to go, or nobody is left to tell.
                let _ = told.recv();
            })
        });
        ready
            .recv()
            .context("a survivor does not get what it should hold")?;
        Ok(Self { go, thread })
    }

    /// Lets it let go.
    fn let_go(self) -> Result<()> {
        drop(self.go);
        self.thread
            .join()
            .map_err(|_| anyhow!("a survivor panicked"))?
    }
}

/// What a sleeper does, and comes back with: what it found.
pub(super) type Sleep = Box<dyn FnOnce() -> Result<String> + Send>;

/// Whether what a sleeper waits for is there, or will come by itself, so that nobody has to bring it.
pub(super) type Ready = fn(&Ground) -> Result<bool>;

/// A ground with those who live on it.
pub(super) struct Company {
    case: Case,
    ground: Ground,
    inspect: Inspect,
    keeper: Option<Keeper>,
    sleep: Option<Sleep>,
    ready: Ready,
    settled: Ready,
    asleep: Option<Sleeper<Result<String>>>,
}

impl Company {
    /// Nobody yet.
    pub(super) fn new(case: &Case, ground: Ground, inspect: Inspect) -> Self {
        Self {
            case: case.clone(),
            ground,
            inspect,
            keeper: None,
            sleep: None,
            ready: |_| Ok(true),
            settled: |_| Ok(true),
            asleep: None,
        }
    }

    /// With one who holds something.
    pub(super) fn beside(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// With one who falls asleep before the victim begins.
    pub(super) fn asleep(
        mut self,
        sleep: impl FnOnce() -> Result<String> + Send + 'static,
        ready: Ready,
    ) -> Self {
        self.sleep = Some(Box::new(sleep));
        self.ready = ready;
        self
    }

    /// The victim begins only when the sleeper has come this far.
    pub(super) fn settled(mut self, settled: Ready) -> Self {
        self.settled = settled;
        self
    }

    /// As a scene.
    pub(super) fn boxed(self) -> Box<dyn Scene> {
        Box::new(self)
    }
}

impl Scene for Company {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn poise(&mut self) -> Result<()> {
        if let Some(sleep) = self.sleep.take() {
            self.asleep = Some(Sleeper::start(sleep)?);
        }
        let until = Instant::now() + PATIENCE;
        while !(self.settled)(&self.ground)? {
            ensure!(Instant::now() < until, "a sleeper does not settle");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn release(&mut self) -> Result<bool> {
        match self.keeper.take() {
            Some(keeper) => keeper.let_go().map(|()| true),
            None => Ok(false),
        }
    }

    fn survive(mut self: Box<Self>, unaided: bool) -> Result<String> {
        self.release()?;
        let Some(sleeper) = self.asleep.take() else {
            return (self.inspect)(&self.case, &self.ground);
        };
        if (self.ready)(&self.ground)? {
            let found = sleeper.wake(unaided)??;
            (self.inspect)(&self.case, &self.ground)?;
            return Ok(found);
        }
        let found = (self.inspect)(&self.case, &self.ground)?;
        sleeper.wake(unaided)??;
        Ok(found)
    }
}

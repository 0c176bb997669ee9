//! Events: publishers that announce items, and waiters that take them and sleep while there are none.
//!
//! An item is a unit of a counter. With timeouts off, a wake-up that is lost leaves a waiter asleep beside an item, and
//! no good state can be reached. Since memory is sequentially consistent here, the fences of the protocol, and the
//! `membarrier` of streaming, do nothing: these cases show that its steps and their order are right, and the loom models
//! that its fences are.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use ipc_core::event::{Event, Wait, Waiters, wait_until};
use ipc_core::memory::{Area, Word64};

use super::super::{Actor, Case, Explored, Options, Timeouts, View};
use super::Entry;

const EVENT: usize = 0;
const ITEMS: usize = 8;

/// A number of publishers and waiters on one event.
pub struct EventCase {
    waiters: Waiters,
    /// Items that each publisher publishes.
    publishers: Vec<u32>,
    /// Items that each waiter takes.
    takers: Vec<u32>,
    /// Waiters that begin when another has died and the kernel has freed what it held, which is when a role that a lock
    /// byte guards can be had again.
    successors: u32,
    /// Whether waiters promise not to sleep whenever they have taken something.
    streaming: bool,
    /// Whether waiters wait by `wait_until`, and not by the steps it is made of.
    whole: bool,
    /// Whom fate may kill.
    victims: Victims,
    options: Options,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victims {
    Publishers,
    Waiters,
}

/// What an actor has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// Items to publish.
    Publish(u32),
    /// Items to take.
    Take(u32),
    /// Begins when a waiter has died; items to take.
    Successor(u32),
}

impl Case for EventCase {
    type Local = Local;
    type Ghost = ();

    const SIGHTS: &'static [&'static str] = &["a waiter asleep"];

    fn options(&self) -> Options {
        Options {
            len: 16,
            fences: self.streaming,
            ..self.options
        }
    }

    fn actors(&self) -> Vec<Actor<Local>> {
        let publishers = self
            .publishers
            .iter()
            .map(|&left| ("publisher", Local::Publish(left)));
        let takers = self
            .takers
            .iter()
            .map(|&left| ("waiter", Local::Take(left)));
        let successors =
            (0..self.successors).map(|_| ("successor", Local::Successor(self.takers[0])));
        publishers
            .chain(takers)
            .chain(successors)
            .enumerate()
            .map(|(process, (name, start))| Actor::new(format!("{name} {process}"), process, start))
            .collect()
    }

    fn operate(&self, _: usize, memory: &Explored, local: &Local) -> Option<Local> {
        let area = Area::new(memory.clone(), 0, 16).expect("fits");
        let event = Event::new(&area, EVENT, self.waiters).expect("fits");
        let items = area.word64(ITEMS).expect("fits");
        match *local {
            Local::Publish(0) | Local::Take(0) | Local::Successor(0) => None,
            Local::Publish(left) => {
                items.add(1, Release);
                event.notify(1);
                Some(Local::Publish(left - 1))
            }
            Local::Take(left) | Local::Successor(left) => {
                let got = if self.whole {
                    wait(&event, &items)
                } else {
                    turn(&event, &items)
                };
                if got && self.streaming {
                    event.start_streaming();
                }
                Some(Local::Take(left - u32::from(got)))
            }
        }
    }

    fn may_start(&self, view: &View<'_, Self>, actor: usize) -> bool {
        !matches!(view.local(actor), Local::Successor(_))
            || (0..view.actors()).any(|other| {
                matches!(view.local(other), Local::Take(_))
                    && view.is_released(view.process_of(other))
            })
    }

    fn may_be_killed(&self, process: usize) -> bool {
        (process < self.publishers.len()) == (self.victims == Victims::Publishers)
    }

    fn good(&self, view: &View<'_, Self>) -> bool {
        let done = |actor| view.is_idle(actor) || view.is_dead(view.process_of(actor));
        let published = (0..self.publishers.len()).all(done);
        let waits = |actor| match view.local(actor) {
            Local::Take(_) => !done(actor),
            Local::Successor(_) => self.may_start(view, actor) && !done(actor),
            Local::Publish(_) => false,
        };
        published && (view.word64(ITEMS) == 0 || !(0..view.actors()).any(waits))
    }

    fn sights(&self, view: &View<'_, Self>) -> u32 {
        (0..view.actors()).any(|actor| view.is_asleep(actor)).into()
    }

    fn name_of(&self, at: usize) -> String {
        if at == EVENT { "event" } else { "items" }.into()
    }
}

fn take(items: &Word64<Explored>) -> bool {
    loop {
        match items.load(Acquire) {
            0 => return false,
            some if items.exchange(some, some - 1, Acquire).is_ok() => return true,
            _ => {}
        }
    }
}

/// One turn of a waiter, by the steps that the head of `event.rs` proves.
fn turn(event: &Event<Explored>, items: &Word64<Explored>) -> bool {
    if take(items) {
        return true;
    }
    let prepared = event.prepare();
    if take(items) {
        return true;
    }
    event.sleep(prepared, Duration::MAX);
    false
}

/// One wait by the function that rings use. The deadline comes with the first timeout.
fn wait(event: &Event<Explored>, items: &Word64<Explored>) -> bool {
    let attempt = || Ok::<_, ()>(take(items).then_some(()));
    let deadline = Some(Duration::from_millis(1));
    let waited = wait_until(event, Wait::Block, deadline, attempt, || Ok(()));
    waited.is_ok_and(|waited| waited.got.is_some())
}

impl EventCase {
    fn new(waiters: Waiters, publishers: &[u32], takers: &[u32]) -> Self {
        Self {
            waiters,
            publishers: publishers.to_vec(),
            takers: takers.to_vec(),
            successors: 0,
            streaming: false,
            whole: false,
            victims: Victims::Waiters,
            options: Options::default(),
        }
    }

    fn killing(mut self, victims: Victims, kills: u8, timeouts: Timeouts) -> Self {
        self.options = Options {
            kills,
            timeouts,
            ..self.options
        };
        self.victims = victims;
        self
    }

    /// A publisher that is killed between its item and its wake-up, with no timeout to make up for it: must fail.
    pub fn killed_publisher_without_timeouts() -> Self {
        Self::new(Waiters::One, &[2], &[2]).killing(Victims::Publishers, 1, Timeouts::Never)
    }

    /// A wake-up that hits a dying waiter, with no timeout to make up for it: must fail.
    pub fn killed_waiter_without_timeouts() -> Self {
        Self::new(Waiters::Many, &[1], &[1, 1]).killing(Victims::Waiters, 1, Timeouts::Never)
    }
}

pub(super) fn entries() -> Vec<Entry> {
    use Victims::{Publishers, Waiters as Takers};
    let one = |publishers: &[u32], left| EventCase::new(Waiters::One, publishers, &[left]);
    let many =
        |publishers: &[u32], takers: &[u32]| EventCase::new(Waiters::Many, publishers, takers);
    let streaming = |case: EventCase| EventCase {
        streaming: true,
        ..case
    };
    let whole = |case: EventCase| EventCase {
        whole: true,
        ..case
    };
    let succeeded = |case: EventCase| EventCase {
        successors: 1,
        ..case
    };
    vec![
        Entry::quick("event/one waiter, one publisher", one(&[3], 3)),
        Entry::quick("event/one waiter, two publishers", one(&[2, 2], 4)),
        Entry::quick("event/one waiter that streams", streaming(one(&[4], 4))),
        Entry::quick(
            "event/one waiter that streams, two publishers",
            streaming(one(&[2, 1], 3)),
        ),
        Entry::long(
            "event/one waiter that streams long, two publishers",
            streaming(one(&[2, 2], 4)),
        ),
        Entry::quick(
            "event/two waiters that stream",
            streaming(many(&[2], &[1, 1])),
        ),
        Entry::long(
            "event/two waiters that stream, two publishers",
            streaming(many(&[2, 1], &[2, 1])),
        ),
        Entry::long(
            "event/two waiters that stream, one killed, timeouts",
            streaming(many(&[3], &[2, 1])).killing(Takers, 1, Timeouts::WhenStuck),
        ),
        Entry::quick("event/two waiters, one publisher", many(&[2], &[1, 1])),
        Entry::quick("event/two waiters, two publishers", many(&[1, 1], &[1, 1])),
        Entry::long(
            "event/two waiters, one publisher of four",
            many(&[4], &[2, 2]),
        ),
        Entry::long(
            "event/two waiters, two publishers, three items",
            many(&[2, 1], &[2, 1]),
        ),
        Entry::long(
            "event/two waiters, three publishers",
            many(&[1, 1, 1], &[1, 1]),
        ),
        Entry::long("event/three waiters, one publisher", many(&[3], &[1, 1, 1])),
        Entry::long(
            "event/three waiters, two publishers",
            many(&[1, 1], &[1, 1, 1]),
        ),
        Entry::quick("event/one waiter by wait_until", whole(one(&[2], 2))),
        Entry::long(
            "event/two waiters by wait_until",
            whole(many(&[2], &[1, 1])),
        ),
        Entry::quick(
            "event/the waiter is killed and replaced",
            succeeded(one(&[3], 3)).killing(Takers, 1, Timeouts::Never),
        ),
        Entry::quick(
            "event/the waiter is killed while it streams and replaced",
            streaming(succeeded(one(&[3], 3))).killing(Takers, 1, Timeouts::Never),
        ),
        Entry::quick(
            "event/two waiters, one killed, timeouts",
            many(&[1, 1], &[1, 1]).killing(Takers, 1, Timeouts::WhenStuck),
        ),
        Entry::quick(
            "event/a publisher is killed, timeouts",
            one(&[2, 2], 4).killing(Publishers, 1, Timeouts::WhenStuck),
        ),
        Entry::long(
            "event/a publisher is killed, timeouts at any time",
            many(&[1, 1], &[1, 1]).killing(Publishers, 1, Timeouts::Always),
        ),
    ]
}

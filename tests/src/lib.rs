//! What the suites share.

pub mod adapters;
pub mod child;
pub mod counted;
pub mod explorer;
pub mod kill;
#[cfg(loom)]
pub mod loom_memory;
pub mod mount;
pub mod peers;
pub mod powercut;
pub mod room;
pub mod shape;
pub mod sync_peer;
pub mod terminal;

/// The programs in the book compile, and run where one process is enough.
#[cfg(doctest)]
mod book {
    macro_rules! pages {
        ($($page:ident: $file:literal)*) => {
            $(#[doc = include_str!(concat!("../../docs/", $file))] struct $page;)*
        };
    }

    pages! {
        Mappings: "mappings.md"
        Pair: "guide/pair.md"
        Messages: "guide/messages.md"
        Waiting: "guide/waiting.md"
        Death: "guide/death.md"
        Segments: "guide/segments.md"
    }
}

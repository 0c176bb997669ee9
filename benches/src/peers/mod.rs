//! Other people's ways of doing it, each in its file, each behind a feature.

#[cfg(feature = "aeron")]
mod aeron;
#[cfg(feature = "peers")]
mod arena;
#[cfg(feature = "peers")]
mod crossbeam;
#[cfg(feature = "peers")]
mod iceoryx2;
#[cfg(feature = "peers")]
mod ipc_channel;
#[cfg(feature = "peers")]
mod rtrb;
#[cfg(feature = "peers")]
mod shaq;

use crate::subject::Subject;

/// Those that were compiled in.
pub fn all() -> Vec<Box<dyn Subject>> {
    vec![
        #[cfg(feature = "peers")]
        Box::new(shaq::Spsc),
        #[cfg(feature = "peers")]
        Box::new(shaq::Mpmc),
        #[cfg(feature = "peers")]
        Box::new(iceoryx2::Iceoryx2),
        #[cfg(feature = "peers")]
        Box::new(ipc_channel::IpcChannel),
        #[cfg(feature = "peers")]
        Box::new(rtrb::Rtrb),
        #[cfg(feature = "peers")]
        Box::new(crossbeam::Channel),
        #[cfg(feature = "peers")]
        Box::new(crossbeam::Queue),
        #[cfg(feature = "aeron")]
        Box::new(aeron::Aeron),
    ]
}

/// What every peer is but for its transport.
#[cfg(any(feature = "peers", feature = "aeron"))]
macro_rules! peer {
    ($subject:ident, $name:literal, $version:literal, typed $over:ident) => {
        peer!(
            $subject,
            $name,
            $version,
            crate::subject::over_typed::<Self>
        );

        impl crate::subject::Typed for $subject {
            type Of<const W: usize> = $over<W>;
        }
    };
    ($subject:ident, $name:literal, $version:literal, $over:expr) => {
        /// The subject.
        pub(super) struct $subject;

        impl crate::subject::Subject for $subject {
            fn name(&self) -> &'static str {
                $name
            }

            fn side(&self) -> crate::subject::Side {
                crate::subject::Side::Peer
            }

            fn version(&self) -> Option<&'static str> {
                Some($version)
            }

            fn measure(
                &self,
                what: crate::measure::Measure,
                case: &crate::measure::Case,
            ) -> Option<anyhow::Result<crate::measure::Values>> {
                $over(what, case)
            }
        }
    };
}
#[cfg(any(feature = "peers", feature = "aeron"))]
use peer;

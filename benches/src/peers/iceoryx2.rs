//! iceoryx2: publish and subscribe, zero-copy. Without overflow and with retries, as it advises where nothing may be lost;
//! with overflow and one place where the newest message is enough. It sleeps on events of another service only, so here
//! it polls.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, ensure};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe;

use super::peer;
use crate::measure::over;
use crate::transport::{Policy, Rx, Shape, Transport, Tx, Waiting, Words};

peer!(Iceoryx2, "iceoryx2", "0.10.0", over::<Over>);

type Factory = publish_subscribe::PortFactory<ipc::Service, [u64], ()>;

/// The name of a service of this run.
pub(super) struct Over(String, Shape);

impl Over {
    /// A node and the service, in the process that uses it.
    fn service(&self) -> Result<(Node<ipc::Service>, Factory)> {
        let shape = &self.1;
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = self.0.as_str().try_into();
        let name = name.map_err(|_| anyhow!("{} is no name of a service", self.0))?;
        let newest = shape.policy == Some(Policy::Latest);
        let service = node
            .service_builder(&name)
            .publish_subscribe::<[u64]>()
            .max_publishers(1)
            .max_subscribers(shape.consumers)
            .max_nodes(shape.consumers + 1)
            .enable_safe_overflow(newest)
            .history_size(0)
            .subscriber_max_buffer_size(if newest { 1 } else { shape.capacity })
            .subscriber_max_borrowed_samples(1)
            .open_or_create()?;
        Ok((node, service))
    }
}

impl Transport for Over {
    type Tx = Sender;
    type Rx = Receiver;

    fn fits(shape: &Shape) -> bool {
        let alone = shape.producers == 1 && (shape.consumers == 1 || shape.policy.is_some());
        let polls = matches!(shape.waiting, Waiting::Poll | Waiting::Share);
        // One that loses does not tell how much.
        alone && polls && shape.policy != Some(Policy::Lossy)
    }

    fn create(shape: &Shape) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ipc-bench-{}-{number}", std::process::id());
        Ok(Self(name, *shape))
    }

    fn tx(&self, _: usize) -> Result<Sender> {
        let (node, service) = self.service()?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(self.1.payload / 8)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        Ok(Sender(publisher, service, node))
    }

    fn rx(&self, _: usize) -> Result<Receiver> {
        let (node, service) = self.service()?;
        let subscriber = service.subscriber_builder().create()?;
        Ok(Receiver(subscriber, self.1.waiting, service, node))
    }
}

/// Dropped in this order: the port before its service before its node.
pub(super) struct Sender(
    Publisher<ipc::Service, [u64], ()>,
    #[allow(dead_code)] Factory,
    #[allow(dead_code)] Node<ipc::Service>,
);

/// Likewise.
pub(super) struct Receiver(
    Subscriber<ipc::Service, [u64], ()>,
    Waiting,
    #[allow(dead_code)] Factory,
    #[allow(dead_code)] Node<ipc::Service>,
);

impl Tx for Sender {
    const IN_PLACE: bool = true;

    #[inline]
    fn send(&mut self, message: &Words) -> Result<()> {
        let sample = self.0.loan_slice_uninit(message.len())?;
        sample.write_from_slice(message).send()?;
        Ok(())
    }

    #[inline]
    fn send_in_place(&mut self, words: usize, fill: impl FnOnce(&mut Words)) -> Result<()> {
        let mut sample = self.0.loan_slice_uninit(words)?;
        let place = sample.payload_mut();
        let (start, len) = (place.as_mut_ptr().cast(), place.len());
        #[allow(unsafe_code)]
        // SAFETY: as many words as the slice that they are taken from, which is borrowed; the memory is mapped, and so has
        // always held some value.
        fill(unsafe { std::slice::from_raw_parts_mut(start, len) });
        #[allow(unsafe_code)]
        // SAFETY: written by `fill`.
        let sample = unsafe { sample.assume_init() };
        sample.send()?;
        Ok(())
    }
}

impl Rx for Receiver {
    const IN_PLACE: bool = true;

    #[inline]
    fn receive(&mut self, message: &mut Words) -> Result<()> {
        let sample = self.1.until(|| self.0.receive().transpose())?;
        ensure!(sample.len() == message.len(), "{} words", sample.len());
        message.copy_from_slice(&sample);
        Ok(())
    }

    #[inline]
    fn receive_in_place<T>(&mut self, look: impl FnOnce(&Words) -> T) -> Result<T> {
        let sample = self.1.until(|| self.0.receive().transpose())?;
        Ok(look(&sample))
    }
}

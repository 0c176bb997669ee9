//! A ring in an async program: the producer a `Sink`, the consumer a `Stream`, both on one thread of tokio.

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use ipc_core::segment::Place;
use ipc_ring::stream::AsyncConsumer;
use ipc_ring::{Ring, mpmc};

const MESSAGES: u64 = 2_000;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        // The ring is small, so both sides wait for each other again and again.
        let ring = mpmc::Ring::<u64>::options()
            .capacity(16)
            .create(Place::Anonymous)?;
        let mut sink = ring.producer()?.into_sink()?;
        let mut stream = ring.consumer()?.into_stream()?;
        // A second consumer, on the reactor of tokio itself.
        let mut other = AsyncConsumer::new(ring.consumer()?)?;

        let produce = async {
            for message in 0..MESSAGES {
                sink.send(message).await?;
            }
            sink.into_inner().0.close();
            anyhow::Ok(())
        };
        let consume = async {
            let mut sum = 0;
            while let Some(message) = stream.next().await {
                sum += message?;
            }
            anyhow::Ok(sum)
        };
        let consume_too = async {
            let mut sum = 0;
            while let Ok(message) = other.pop().await {
                sum += message;
            }
            anyhow::Ok(sum)
        };
        let ((), a, b) = tokio::try_join!(produce, consume, consume_too)?;
        anyhow::ensure!(
            a + b == MESSAGES * (MESSAGES - 1) / 2,
            "messages are missing"
        );
        println!("{MESSAGES} messages through a stream and a descriptor");
        Ok(())
    })
}

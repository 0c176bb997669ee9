//! Channels: values in, the same values out, and errors for everything else.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_core::segment::Place;
use ipc_ring::channel::{self, Bincode, Codec, CodecError, PopError, PushError};
use ipc_ring::{ONLY, Ring};
use ipc_tests::child::Child;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Where `docs/layout.md` draws the arena of the first lane.
const ARENA: usize = 256 + 512;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Event {
    #[default]
    Started,
    Order {
        id: u64,
        symbol: String,
        price: Option<i64>,
    },
    Book(BTreeMap<i64, Vec<(u32, char)>>),
    Batch(Vec<Event>),
}

fn channel<M>(capacity: usize) -> channel::Ring<M> {
    channel::Ring::options()
        .capacity(capacity)
        .create(Place::Memfd("channel".into()))
        .unwrap()
}

fn events() -> impl Strategy<Value = Event> {
    let book = prop::collection::btree_map(
        any::<i64>(),
        prop::collection::vec(any::<(u32, char)>(), 0..20),
        0..20,
    );
    let leaf = prop_oneof![
        Just(Event::Started),
        (any::<u64>(), ".{0,40}", any::<Option<i64>>())
            .prop_map(|(id, symbol, price)| Event::Order { id, symbol, price }),
        book.prop_map(Event::Book),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(Event::Batch)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    /// Catches a value that comes out as another one: of any length, where the first guess of it is too short, right or
    /// too long, and where there is no room for the guess but for the value.
    #[test]
    fn what_goes_in_comes_out(values in prop::collection::vec(events(), 1..60)) {
        let ring = channel::<Event>(1 << 16);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let mut expected = values.iter();
        for value in &values {
            while let Err(error) = producer.try_push(value) {
                let full = matches!(error, PushError::Ring(ipc_ring::PushError::Full(())));
                prop_assert!(full, "{}", error);
                prop_assert_eq!(Some(&consumer.try_pop().unwrap()), expected.next());
            }
        }
        for value in expected {
            prop_assert_eq!(&consumer.try_pop().unwrap(), value);
        }
        prop_assert!(consumer.is_empty());
    }

    /// Catches a record of rubbish that does more than give an error or another value.
    #[test]
    fn rubbish_is_an_error_or_a_value(rubbish in prop::collection::vec(any::<u8>(), 8..200)) {
        let ring = channel::<Event>(1024);
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let text = "x".repeat(rubbish.len());
        producer.push(&Event::Order { id: 1, symbol: text, price: None }).unwrap();
        let object = ring.segment().object(ONLY).unwrap();
        object.area().write(ARENA + 8, &rubbish).unwrap();
        match consumer.try_pop() {
            Ok(_) | Err(PopError::Decode { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
        // Whatever it was, it is gone, and the channel goes on.
        producer.push(&Event::Started).unwrap();
        prop_assert_eq!(consumer.try_pop().unwrap(), Event::Started);
    }
}

/// Catches a length in a record that is believed: it would allocate for ever, or abort.
#[test]
fn a_corrupt_length_is_an_error() {
    let ring = channel::<Vec<u64>>(1024);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for length in [2_u64, 1 << 20, 1 << 32, 1 << 61, u64::MAX] {
        // Nine bytes: a mark, and a length of eight bytes.
        producer.push(&vec![1; 8]).unwrap();
        let position = object_word(&ring, 256 + 128) % 1024;
        let object = ring.segment().object(ONLY).unwrap();
        let at = ARENA + position as usize + 8;
        object.area().write(at, &[253]).unwrap();
        object.area().write(at + 1, &length.to_le_bytes()).unwrap();
        let error = consumer.try_pop().unwrap_err();
        assert!(matches!(error, PopError::Decode { len: 9, .. }), "{error}");
    }
}

fn object_word<M>(ring: &channel::Ring<M>, at: usize) -> u64 {
    let object = ring.segment().object(ONLY).unwrap();
    object.area().word64(at).unwrap().load(Relaxed)
}

/// Catches a value that goes in although nobody could take it out, and errors that do not say why it does not.
#[test]
fn a_value_that_is_too_long_is_refused() {
    let ring = channel::Ring::<String, Bincode<1000>>::options()
        .capacity(1024)
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let beyond_limit = producer.push(&"x".repeat(1001)).unwrap_err();
    assert_eq!(
        beyond_limit.to_string(),
        "the value cannot be encoded: it is longer than the limit of its codec"
    );
    let beyond_ring = producer.push(&"x".repeat(600)).unwrap_err();
    assert!(
        matches!(
            beyond_ring,
            PushError::Ring(ipc_ring::PushError::TooLong {
                len: 603,
                max: 512,
                ..
            })
        ),
        "{beyond_ring}"
    );
    assert!(ring.is_empty());
    producer.push(&"x".repeat(509)).unwrap();
    assert_eq!(consumer.pop().unwrap().len(), 509);
}

/// Catches a wait without an end, and a closed channel that takes values or loses them.
#[test]
fn deadlines_and_closing_are_those_of_the_ring() {
    let ring = channel::<String>(64);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let soon = || Instant::now() + Duration::from_millis(50);
    let timed_out = consumer.pop_until(soon()).unwrap_err();
    assert!(matches!(
        timed_out,
        PopError::Ring(ipc_ring::PopError::TimedOut)
    ));
    producer.push(&"x".repeat(30)).unwrap();
    let timed_out = producer.push_until(&"y".repeat(30), soon()).unwrap_err();
    assert!(matches!(
        timed_out,
        PushError::Ring(ipc_ring::PushError::TimedOut(()))
    ));
    ring.close();
    let closed = producer.push(&String::new()).unwrap_err();
    assert!(matches!(
        closed,
        PushError::Ring(ipc_ring::PushError::Closed(()))
    ));
    assert_eq!(consumer.pop().unwrap().len(), 30);
    let closed = consumer.pop().unwrap_err();
    assert!(matches!(closed, PopError::Ring(ipc_ring::PopError::Closed)));
}

/// Another encoding.
struct Json;

impl<M: Serialize + serde::de::DeserializeOwned> Codec<M> for Json {
    fn encode(value: &M, mut sink: impl FnMut(&[u8])) -> Result<(), CodecError> {
        sink(&serde_json::to_vec(value)?);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Catches a channel that works with one encoding only, and takes what is in another one.
#[test]
fn the_encoding_can_be_replaced() {
    let ring = channel::Ring::<Event, Json>::options()
        .create(Place::Anonymous)
        .unwrap();
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let order = Event::Order {
        id: 7,
        symbol: "ABC".into(),
        price: Some(-1),
    };
    producer.push(&order).unwrap();
    assert_eq!(consumer.pop().unwrap(), order);
    let object = ring.segment().object(ONLY).unwrap();
    producer.push(&Event::Started).unwrap();
    let position = object_word_json(&ring) as usize;
    object.area().write(ARENA + position + 8, b"{").unwrap();
    let error = consumer.pop().unwrap_err();
    assert!(matches!(error, PopError::Decode { .. }), "{error}");

    fn object_word_json(ring: &channel::Ring<Event, Json>) -> u64 {
        let object = ring.segment().object(ONLY).unwrap();
        object.area().word64(256 + 128).unwrap().load(Relaxed)
    }
}

/// Catches a channel of several lanes that loses, doubles or mixes up the values of its producers.
#[test]
fn many_processes_send_to_one() {
    const PRODUCERS: u64 = 4;
    const VALUES: u64 = 2000;
    let ring = channel::Ring::<(u64, u64, String)>::options()
        .capacity(4096)
        .lanes(PRODUCERS as usize)
        .create(Place::Memfd("channel".into()))
        .unwrap();
    let mut consumer = ring.consumer().unwrap();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let ring = &ring;
            Child::run(move || {
                let mut end = ring.rejoin().unwrap().producer().unwrap();
                for number in 0..VALUES {
                    let text = "~".repeat((number % 700) as usize);
                    end.push(&(producer, number, text)).unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; PRODUCERS as usize];
    let deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..PRODUCERS * VALUES {
        let (producer, number, text) = consumer.pop_until(deadline).unwrap();
        assert_eq!(number, next[producer as usize]);
        assert_eq!(text.len() as u64, number % 700);
        next[producer as usize] += 1;
    }
    producers.into_iter().for_each(Child::join);
}

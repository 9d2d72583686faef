//! A pipeline that is slower than its topic.

use std::time::Duration;

use futures::StreamExt as _;

use crate::support::{Broker, PATIENCE, next, positions, start, take, unique};

#[tokio::test]
async fn no_more_than_the_bound_is_in_flight_and_nothing_is_lost() {
    const BOUND: usize = 8;
    const COUNT: usize = 500;
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, COUNT).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight = BOUND.try_into().unwrap();
    let (mut events, handle) = start(config).await;

    let mut taken = take(&mut events, BOUND).await;
    // Long enough to pause, so that what was fetched ahead is dropped and read again.
    let early = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
    assert!(early.is_err(), "handed out more than the bound");
    assert_eq!(handle.stats().in_flight, BOUND);

    let mut seen = positions(&taken);
    while seen.len() < COUNT {
        assert!(handle.stats().in_flight <= BOUND);
        // Out of order.
        taken.swap_remove(taken.len() / 2).receipt.done();
        while taken.len() <= BOUND / 2 && seen.len() < COUNT {
            let event = next(&mut events).await;
            seen.extend(positions(std::slice::from_ref(&event)));
            taken.push(event);
        }
    }
    assert!(seen.into_iter().eq(0..COUNT as u64), "every record once, in order");
    for event in taken {
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn records_that_are_held_keep_their_places_but_do_not_stop_the_rest() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 20).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight = 2.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    drop(next(&mut events).await);
    for position in 1..20 {
        let event = next(&mut events).await;
        assert_eq!(event.meta.origin.position, position);
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().held, 1);
}

//! Errors of transactional calls and their effects: one test for each row of the table in
//! docs/reliability.md.
//!
//! The tests use librdkafka's mock cluster, which returns the errors that a test asks for. It does
//! not implement transactions, so a reader also sees the records of aborted ones. A reply that is
//! read twice therefore shows that a transaction was aborted or abandoned and its replies were
//! written again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_kafka::{Error, SourceConfig};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use tokio::time::Instant;

use crate::support::{Broker, PATIENCE, unique};
use crate::transactions::{Member, exactly_once};

/// How often replies were written if an error happened in their transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// librdkafka repeated the request, or the replies had not been written when the transaction
    /// was given up.
    Once,
    /// The transaction was aborted, or ended by a new producer, after its replies had been written.
    /// Another transaction has written them again.
    Again,
}

struct Lab {
    cluster: MockCluster<'static, DefaultProducerContext>,
    broker: Broker,
    requests: String,
    replies: String,
    group: String,
    id: String,
}

impl Lab {
    fn new(brokers: i32) -> Self {
        let cluster = MockCluster::new(brokers).unwrap();
        let broker = Broker { servers: cluster.bootstrap_servers(), embedded: None };
        let lab = Self {
            cluster,
            broker,
            requests: unique("requests"),
            replies: unique("replies"),
            group: unique("group"),
            id: unique("id"),
        };
        for topic in [&lab.requests, &lab.replies] {
            lab.cluster.create_topic(topic, 1, 1).unwrap();
        }
        lab
    }

    fn config(&self) -> SourceConfig {
        exactly_once(&self.broker, &self.requests, &self.group, &self.id)
    }

    async fn ask(&self, first: usize) {
        self.broker.fill_with(&self.requests, 1, 5, |_, n| format!("held:{}", first + n)).await;
    }

    /// Waits until `count` different requests have a reply.
    fn await_replies(&self, count: usize) {
        let start = Instant::now();
        loop {
            let replies: BTreeSet<_> = self.replies().into_iter().collect();
            if replies.len() == count {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{count} replies are not {replies:?}");
        }
    }

    /// Returns all replies, including those in aborted transactions.
    fn replies(&self) -> Vec<usize> {
        let count = self.broker.ends(&self.replies)[0].try_into().unwrap();
        let records = self.broker.read(&self.replies, count).into_iter();
        let values = records.map(|record| record.value.unwrap());
        let number = |value: &[u8]| std::str::from_utf8(value).unwrap()[5..].parse().unwrap();
        values.map(|value| number(&value)).collect()
    }

    /// Starts a member that answers five requests and commits their offsets.
    async fn member(&self) -> Member {
        self.ask(0).await;
        let member = Member::start(self.config(), &self.replies).await;
        member.gate.add_permits(1);
        self.await_replies(5);
        let start = Instant::now();
        while member.handle.stats().in_flight_bytes > 0 {
            assert!(start.elapsed() < PATIENCE, "{:?}", member.handle.stats());
        }
        member.gate.forget_permits(1);
        member
    }

    /// Lets the member answer the requests 5 to 9, which `ask` has sent, and returns how often it
    /// wrote their replies.
    async fn go_on(&self, member: Member) -> usize {
        member.gate.add_permits(1);
        self.await_replies(10);
        // The replies to these requests come after all others, also after those that are written
        // again. So once they are read, the others are complete.
        self.ask(10).await;
        self.await_replies(15);
        member.close().await;
        let replies = self.replies();
        assert_eq!(replies.iter().collect::<BTreeSet<_>>().len(), 15);
        replies.iter().filter(|reply| (5..10).contains(*reply)).count() / 5
    }
}

/// Makes the brokers answer requests of the kind `api` with an error, `times` times, while a
/// transaction is under way. Asserts how often its replies are written.
async fn row(api: Api, code: Code, times: usize, expected: Written) {
    let lab = Lab::new(1);
    let member = lab.member().await;
    lab.ask(5).await;
    lab.cluster.request_errors(api, &vec![code; times]);
    let written = lab.go_on(member).await;
    let written = if written == 1 { Written::Once } else { Written::Again };
    assert_eq!(written, expected, "{:?}", lab.replies());
}

macro_rules! rows {
    ($($name:ident: $api:ident, $code:ident, $times:literal => $written:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                row(Api::$api, Code::$code, $times, Written::$written).await;
            }
        )*
    };
}

rows! {
    a_transaction_of_an_old_group_generation_is_written_again:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1 => Again;
    a_transaction_of_an_unknown_member_is_written_again:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, 1 => Again;
    a_transaction_of_a_fenced_instance_is_written_again:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, 1 => Again;
    a_transaction_during_a_rebalance_is_written_again:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, 2 => Again;
    offsets_are_sent_again_while_the_coordinator_loads:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 2 => Once;
    a_transaction_with_offsets_of_an_old_producer_is_written_again:
        AddOffsetsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Again;
    a_transaction_ended_by_an_old_producer_is_written_again:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Again;
    a_transaction_ended_by_a_fenced_producer_is_written_again:
        EndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1 => Again;
    a_transaction_in_an_invalid_state_is_written_again:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1 => Again;
    a_transaction_ended_by_an_unknown_producer_is_written_again:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, 1 => Again;
    ending_a_transaction_at_the_wrong_coordinator_is_repeated:
        EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 2 => Once;
    ending_a_transaction_over_a_broken_connection_is_repeated:
        EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT, 2 => Once;
    a_reply_of_an_old_producer_is_written_once:
        Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Once;
    a_reply_of_a_fenced_producer_is_written_once:
        Produce, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1 => Once;
    a_reply_out_of_sequence_is_written_once:
        Produce, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1 => Once;
    a_reply_to_a_former_partition_leader_is_written_once:
        Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 2 => Once;
    a_producer_waits_while_the_coordinator_loads:
        InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 3 => Once;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_keep_failing_end_the_source_after_its_stuck_timeout() {
    let lab = Lab::new(1);
    lab.ask(0).await;
    lab.cluster.request_errors(Api::EndTxn, &[Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE; 100]);
    let mut config = lab.config();
    config.stuck_timeout = Some(Duration::from_secs(2));
    let started = Instant::now();
    let member = Member::start(config, &lab.replies).await;
    member.gate.add_permits(1);
    let error = member.failed().await;
    assert!(started.elapsed() >= Duration::from_secs(2));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    let origin = format!("{}[0]@0, ", lab.requests);
    assert!(cause.starts_with(&origin) && cause.contains("transactions"), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_fail_now_and_then_do_not_end_the_source() {
    let lab = Lab::new(1);
    let mut config = lab.config();
    config.stuck_timeout = Some(Duration::from_secs(2));
    let member = Member::start(config, &lab.replies).await;
    member.gate.add_permits(1);
    for round in 0..3 {
        let failure = Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE;
        lab.cluster.request_errors(Api::EndTxn, &[failure]);
        lab.ask(5 * round).await;
        lab.await_replies(5 * (round + 1));
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    let replies = lab.replies();
    assert!(replies.len() > 15, "no transaction failed: {replies:?}");
    member.close().await;
}

/// Its replies are written again as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_during_a_rebalance_handles_no_request_again() {
    for code in [
        Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        // The same, with the protocol of KIP-848.
        Code::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    ] {
        let lab = Lab::new(1);
        let member = lab.member().await;
        lab.ask(5).await;
        lab.cluster.request_errors(Api::TxnOffsetCommit, &[code; 2]);
        let handled = Arc::clone(&member.handled);
        assert!(lab.go_on(member).await > 1, "{code:?}: no transaction was aborted");
        assert_eq!(handled.load(Ordering::Relaxed), 15, "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_error_ends_the_source() {
    let lab = Lab::new(1);
    let member = lab.member().await;
    let refused = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3];
    lab.cluster.request_errors(Api::AddPartitionsToTxn, &refused);
    lab.ask(5).await;
    member.gate.add_permits(1);
    let error = member.failed().await;
    let cause = std::error::Error::source(&error).unwrap().downcast_ref();
    assert!(matches!(cause, Some(Error::Transaction { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_timeout_that_the_brokers_reject_is_an_error_at_the_start() {
    let lab = Lab::new(1);
    let code = Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT;
    // The first error goes to the client that checks the topic.
    lab.cluster.request_errors(Api::InitProducerId, &[code; 2]);
    let mut source = forebay_kafka::Source::connect(lab.config()).await.unwrap();
    let sink = forebay_kafka::SinkConfig::new(&lab.broker.servers, &lab.replies);
    let error = source.sink(sink).await.unwrap_err();
    assert!(matches!(error, Error::Transaction { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_goes_away_during_a_transaction_only_delays_it() {
    let lab = Lab::new(2);
    for topic in [&lab.requests, &lab.replies] {
        lab.cluster.partition_leader(topic, 0, Some(1)).unwrap();
    }
    lab.cluster.coordinator(MockCoordinator::Group(lab.group.clone()), 1).unwrap();
    lab.cluster.coordinator(MockCoordinator::Transaction(lab.id.clone()), 2).unwrap();
    let member = lab.member().await;
    lab.cluster.broker_down(2).unwrap();
    lab.ask(5).await;
    member.gate.add_permits(1);
    // Longer than a transaction may take, so that its producer is given up.
    tokio::time::sleep(Duration::from_secs(6)).await;
    lab.cluster.broker_up(2).unwrap();
    lab.go_on(member).await;
}

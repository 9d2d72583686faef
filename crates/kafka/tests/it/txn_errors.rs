//! What a transactional call may fail with, and what becomes of it: one test for each row of the table in
//! docs/reliability.md.
//!
//! librdkafka's mock cluster answers as it is told to. It keeps no transactions, so a reader sees what was written in
//! those that were aborted too, which shows here whether one was.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay_kafka::{Error, SourceConfig};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use tokio::time::Instant;

use crate::support::{Broker, PATIENCE, unique};
use crate::transactions::{Member, exactly_once};

/// What the log has of the replies of a transaction that met with an error and was committed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// librdkafka made the request again, or the replies had not been written before the transaction was given up.
    Once,
    /// The transaction was aborted or left to a new producer, and its replies are in another.
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

    /// Waits until so many requests have a reply, the last of which is behind all others.
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

    /// All replies, those in transactions that were aborted too.
    fn replies(&self) -> Vec<usize> {
        let count = self.broker.ends(&self.replies)[0].try_into().unwrap();
        let records = self.broker.read(&self.replies, count).into_iter();
        let values = records.map(|record| record.value.unwrap());
        let number = |value: &[u8]| std::str::from_utf8(value).unwrap()[5..].parse().unwrap();
        values.map(|value| number(&value)).collect()
    }

    /// A member that has answered five requests and committed that.
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

    /// Has the member go on as if nothing had been, and says how often it wrote the replies to the second five requests.
    async fn go_on(&self, member: Member) -> usize {
        member.gate.add_permits(1);
        self.await_replies(10);
        // These come after any others, however often those are read.
        self.ask(10).await;
        self.await_replies(15);
        member.close().await;
        let replies = self.replies();
        assert_eq!(replies.iter().collect::<BTreeSet<_>>().len(), 15);
        replies.iter().filter(|reply| (5..10).contains(*reply)).count() / 5
    }
}

/// Has the brokers answer a request so, while a transaction is under way.
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
    offsets_of_an_old_generation:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1 => Again;
    offsets_of_a_member_that_is_not_known:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, 1 => Again;
    offsets_of_an_instance_that_is_fenced:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, 1 => Again;
    offsets_while_the_group_changes:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, 2 => Again;
    offsets_while_the_coordinator_loads:
        TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 2 => Once;
    offsets_of_an_old_producer:
        AddOffsetsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Again;
    an_end_of_an_old_producer:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Again;
    an_end_of_a_producer_that_is_fenced:
        EndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1 => Again;
    an_end_of_what_is_no_transaction:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1 => Again;
    an_end_of_a_producer_that_is_not_known:
        EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, 1 => Again;
    an_end_at_another_coordinator:
        EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 2 => Once;
    an_end_that_is_cut_off:
        EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT, 2 => Once;
    a_reply_of_an_old_producer:
        Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1 => Once;
    a_reply_of_a_producer_that_is_fenced:
        Produce, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1 => Once;
    a_reply_out_of_sequence:
        Produce, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1 => Once;
    a_reply_to_a_broker_that_leads_no_longer:
        Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 2 => Once;
    a_producer_while_the_coordinator_loads:
        InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 3 => Once;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_ends_the_source() {
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
async fn a_transaction_timeout_that_the_brokers_do_not_take_is_an_error_at_the_start() {
    let lab = Lab::new(1);
    let code = Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT;
    // One of them is for a client that looks for the topic.
    lab.cluster.request_errors(Api::InitProducerId, &[code; 2]);
    let mut source = forebay_kafka::Source::connect(lab.config()).await.unwrap();
    let sink = forebay_kafka::SinkConfig::new(&lab.broker.servers, &lab.replies);
    let error = source.sink(sink).await.unwrap_err();
    assert!(matches!(error, Error::Transaction { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_goes_away_in_a_transaction_holds_it_up_and_no_more() {
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
    // Longer than a transaction may take, so its producer is given up.
    tokio::time::sleep(Duration::from_secs(6)).await;
    lab.cluster.broker_up(2).unwrap();
    lab.go_on(member).await;
}

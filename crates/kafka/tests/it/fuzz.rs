//! Records of arbitrary bytes, read by a source. They are written with librdkafka directly, because
//! rust-rdkafka accepts only header names in UTF-8.

#![expect(unsafe_code, reason = "librdkafka is a C library")]

use std::ffi::{CString, c_void};
use std::ptr;

use bytes::Bytes;
use forebay_stream::Header;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::support::{Broker, PATIENCE, next, start, unique};

/// A header's name, which may be invalid UTF-8 but has no null character, and its value.
type RawHeader = (CString, Option<Vec<u8>>);

#[derive(Clone, Debug)]
struct Raw {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<RawHeader>,
}

fn records() -> impl Strategy<Value = Raw> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..64));
    let name = prop_oneof![
        prop::collection::vec(1_u8..=255, 0..12),
        "forebay-[a-z-]{0,24}|kafka_reply(Topic|Partition)|traceparent"
            .prop_map(String::into_bytes),
    ];
    let name = name.prop_map(|name| CString::new(name).unwrap());
    let headers = prop::collection::vec((name, bytes()), 0..6);
    (bytes(), bytes(), headers).prop_map(|(key, value, headers)| Raw { key, value, headers })
}

/// Writes a record to partition 0.
fn produce(producer: &BaseProducer, topic: &str, record: &Raw) {
    use sys::rd_kafka_vtype_t as Type;
    type Union = sys::rd_kafka_vu_s__bindgen_ty_1;
    let topic = CString::new(topic).unwrap();
    let start = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or(ptr::null(), |bytes| bytes.as_ptr().cast::<c_void>())
    };
    let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let memory = |bytes: &Option<Vec<u8>>| Union {
        mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: start(bytes).cast_mut(),
            size: size(bytes),
        },
    };
    let argument = |vtype, u| sys::rd_kafka_vu_s { vtype, u };
    let mut arguments = vec![
        argument(Type::RD_KAFKA_VTYPE_TOPIC, Union { cstr: topic.as_ptr() }),
        argument(Type::RD_KAFKA_VTYPE_PARTITION, Union { i32_: 0 }),
        argument(Type::RD_KAFKA_VTYPE_MSGFLAGS, Union { i: sys::RD_KAFKA_MSG_F_COPY }),
        argument(Type::RD_KAFKA_VTYPE_KEY, memory(&record.key)),
        argument(Type::RD_KAFKA_VTYPE_VALUE, memory(&record.value)),
    ];
    arguments.extend(record.headers.iter().map(|(name, value)| {
        let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
            name: name.as_ptr(),
            val: start(value),
            size: size(value).try_into().unwrap(),
        };
        argument(Type::RD_KAFKA_VTYPE_HEADER, Union { header })
    }));
    // SAFETY: each argument sets the union's member that belongs to its type. The memory that it
    // points to outlives the call, which copies it.
    let error = unsafe {
        let client = producer.client().native_ptr();
        sys::rd_kafka_produceva(client, arguments.as_ptr(), arguments.len())
    };
    assert!(error.is_null(), "the record was not queued");
}

#[tokio::test]
async fn fuzz_records_of_any_bytes_are_read_unchanged() {
    // Number of records that are written before they are read.
    const ROUND: u32 = 512;
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &broker.servers).create().unwrap();
    let (mut events, handle) = start(broker.source(&topic, &unique("group"))).await;
    let strategy = records();
    let mut runner = TestRunner::default();
    let mut left = ProptestConfig::default().cases;
    while left > 0 {
        let count = left.min(ROUND);
        left -= count;
        let sample = |_| strategy.new_tree(&mut runner).unwrap().current();
        let round: Vec<Raw> = (0..count).map(sample).collect();
        for record in &round {
            produce(&producer, &topic, record);
        }
        producer.flush(PATIENCE).unwrap();
        for record in round {
            let event = next(&mut events).await;
            let copy = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(Bytes::copy_from_slice);
            assert_eq!(event.value, copy(&record.value), "{record:?}");
            assert_eq!(event.meta.key, copy(&record.key), "{record:?}");
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(name, value)| Header {
                    name: name.to_string_lossy().into_owned(),
                    value: copy(value),
                })
                .collect();
            assert_eq!(event.meta.headers, headers, "{record:?}");
            event.receipt.done();
        }
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

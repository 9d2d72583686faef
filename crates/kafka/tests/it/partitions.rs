//! Replies are written to the partition that Java clients compute for their key.

use bytes::Bytes;
use forebay_kafka::{Reply, Sink, SinkConfig};
use forebay_stream::{Event, Meta, Receipt, Sink as _};

use crate::support::Broker;

/// Numbers of partitions of the topics.
const COUNTS: [i32; 7] = [1, 2, 3, 4, 7, 12, 100];

/// All 256 bytes.
const ALL: [u8; 256] = {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = byte.to_le_bytes()[0];
        byte += 1;
    }
    all
};

/// Each key with its partitions in seven topics, whose numbers of partitions are [`COUNTS`].
/// Computed with kafka-clients 4.3.1 in two ways that gave the same result:
/// `BuiltInPartitioner.partitionForKey` and `Utils.toPositive(Utils.murmur2(key)) % count`.
const PARTITIONS: &[(&[u8], [i32; 7])] = &[
    (b"", [0, 1, 0, 1, 2, 9, 81]),
    (b"a", [0, 0, 1, 0, 5, 4, 24]),
    (b"ab", [0, 0, 2, 2, 0, 2, 34]),
    (b"abc", [0, 1, 0, 3, 4, 3, 7]),
    (b"abcd", [0, 0, 2, 0, 5, 8, 0]),
    (b"key", [0, 1, 1, 1, 4, 1, 81]),
    (b"user-42", [0, 0, 1, 0, 1, 4, 60]),
    (b"user-43", [0, 0, 2, 2, 3, 2, 54]),
    (b"21", [0, 0, 0, 0, 3, 0, 40]),
    (b"foobar", [0, 0, 0, 2, 0, 6, 66]),
    (b"a-little-bit-long-string", [0, 0, 2, 0, 1, 8, 12]),
    (b"a-little-bit-longer-string", [0, 1, 2, 3, 0, 11, 19]),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", [0, 1, 2, 1, 3, 5, 77]),
    (b"\xc3\xa4\xc3\xb6\xc3\xbc \xe2\x82\xac", [0, 0, 0, 0, 1, 0, 28]),
    (b"\x00", [0, 0, 2, 0, 0, 8, 88]),
    (b"\x00\x00\x00\x00", [0, 0, 1, 0, 6, 4, 20]),
    (b"\xff", [0, 1, 0, 3, 5, 3, 63]),
    (b"\x80\xfe\xff\x00\x01", [0, 1, 1, 1, 3, 1, 93]),
    (b"\xff\xff\xff\xff\xff\xff\xff", [0, 1, 1, 3, 4, 7, 99]),
    (&ALL, [0, 0, 1, 2, 3, 10, 74]),
];

#[tokio::test]
async fn a_reply_is_written_to_the_partition_that_java_computes_for_its_key() {
    let broker = Broker::start();
    for (column, count) in COUNTS.into_iter().enumerate() {
        let topic = broker.topic(count).await;
        let mut sink = Sink::connect(SinkConfig::new(&broker.servers, &topic)).await.unwrap();
        for (key, _) in PARTITIONS {
            let meta = Meta { key: Some(Bytes::from_static(key)), ..Meta::default() };
            let value = Reply { value: Some(Bytes::from_static(b"x")), ..Reply::default() };
            let event = Event { value, meta: meta.into(), receipt: Receipt::detached() };
            sink.send(event).await.unwrap();
        }
        sink.close().await.unwrap();

        let records = broker.read_partitions(&topic, 0..count, PARTITIONS.len());
        for partition in 0..count {
            let keys = PARTITIONS.iter().filter(|(_, places)| places[column] == partition);
            let expected: Vec<_> = keys.map(|(key, _)| Some(Bytes::from_static(key))).collect();
            let here = records.iter().filter(|record| record.partition == partition);
            let found: Vec<_> = here.map(|record| record.key.clone()).collect();
            assert_eq!(found, expected, "partition {partition} of {count}");
        }
    }
}

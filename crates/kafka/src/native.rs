//! The few librdkafka calls that rust-rdkafka does not wrap, or whose wrappers may panic. All
//! unsafe code of the crate is here.

#![expect(unsafe_code, reason = "librdkafka is a C library")]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::Header;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

/// Returns the headers of `message` in order, with their values byte for byte.
///
/// rust-rdkafka's own reader panics if a name is not UTF-8, which any client can write. Here,
/// invalid bytes become replacement characters.
#[must_use]
pub fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut list = ptr::null_mut();
    // SAFETY: `message` is borrowed, so it outlives this function. So does the list of headers,
    // which the message owns.
    let error = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) };
    if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Vec::new();
    }
    (0..).map_while(|index| header(list, index)).collect()
}

fn header(list: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header> {
    let mut name = ptr::null();
    let mut value = ptr::null();
    let mut size = 0;
    // SAFETY: `list` is alive, see the caller. On success `name` is a terminated string and `value`
    // is null or has `size` bytes, both alive as long as the list; they are copied before this
    // function returns.
    unsafe {
        let error =
            sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        let value = (!value.is_null())
            .then(|| Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast(), size)));
        Some(Header { name, value })
    }
}

/// Commits `offsets` without waiting. The consumer's next poll passes the answer to its context's
/// `commit_callback`.
///
/// rust-rdkafka's own asynchronous commit names no queue for the answer, so nobody hears of one
/// that is refused.
pub(crate) fn commit_later<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
) -> Result<(), RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    // SAFETY: the client outlives the borrow of `consumer`. The reference to its queue is released
    // here, and the pending answer holds its own reference. The offsets are copied.
    let code = unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return Err(RDKafkaErrorCode::UnknownGroup);
        }
        let code = sys::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        sys::rd_kafka_queue_destroy(queue);
        code
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}

/// Commits `offsets` and waits for the answer, but never longer than `timeout`.
///
/// librdkafka's own synchronous commit waits without a limit, so it would hang for as long as the
/// brokers do not answer.
pub(crate) fn commit_within<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    commit_at(consumer.client(), offsets, timeout)
}

/// Commits `offsets` with the client of any kind of consumer and waits for the answer, but never
/// longer than `timeout`.
///
/// # Errors
///
/// Returns the code with which the group's coordinator refused the commit, or that of a timeout.
pub fn commit_at<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    if offsets.count() == 0 {
        return Ok(());
    }
    let client = client.native_ptr();
    let millis = timeout.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: `client` is borrowed, so it outlives this function. The queue is created and
    // destroyed here, and librdkafka drops an answer that comes later. The event is destroyed once
    // its code has been read. The offsets are copied.
    let code = unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let mut code =
            sys::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let event = sys::rd_kafka_queue_poll(queue, millis);
            if event.is_null() {
                code = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT;
            } else {
                code = sys::rd_kafka_event_error(event);
                sys::rd_kafka_event_destroy(event);
            }
        }
        sys::rd_kafka_queue_destroy(queue);
        code
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError | RDKafkaErrorCode::NoOffset => Ok(()),
        code => Err(code),
    }
}

/// Returns the metadata that was committed with a partition's offset, empty if there is none.
///
/// rust-rdkafka's own reader panics if the metadata is not UTF-8, but any client can commit other
/// bytes.
#[must_use]
pub fn metadata(list: &TopicPartitionList, topic: &str, partition: i32) -> Vec<u8> {
    let Ok(topic) = CString::new(topic) else { return Vec::new() };
    // SAFETY: the list is borrowed, so it outlives this function, and so do its elements.
    // `metadata` is null or has `metadata_size` bytes, which are copied.
    unsafe {
        let element =
            sys::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        match element.as_ref() {
            Some(element) if !element.metadata.is_null() => {
                let size = element.metadata_size;
                std::slice::from_raw_parts(element.metadata.cast(), size).to_vec()
            }
            _ => Vec::new(),
        }
    }
}

/// Lets the groups of an embedded cluster form at once; by default they wait three seconds for more
/// members.
pub(crate) fn join_groups_at_once<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the cluster belongs to the client and lives as long. It is null if the client has
    // none.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}

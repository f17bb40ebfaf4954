//! Partition queues and batch consumption: the one module that calls librdkafka directly.
//!
//! The safe crate has no batch API, and librdkafka's batch call on the consumer queue would meet rebalance events that
//! rdkafka 0.39 wants to serve itself. So every assigned partition gets its own queue, cut off from the consumer queue, and
//! batches come from those; [`BaseConsumer::poll`] serves events only. Measured: half the CPU per message of `poll`.
//!
//! Nothing here may run beside `seek` or `pause`. Queues are dropped when their partition is revoked or reassigned.
#![expect(
    unsafe_code,
    reason = "rd_kafka_consume_batch_queue is not in the safe crate and halves the cost per message"
)]

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use crate::engine::input::Source;

/// One thing that a partition queue delivers.
#[derive(Debug)]
pub enum Fetched<'q> {
    Message(Message<'q>),
    /// The end of the log, as of a moment ago: the offset that the next message will have.
    End(i64),
    /// The offset asked for is not in the log, and nothing may jump silently.
    OutOfRange,
    Failed(RDKafkaErrorCode),
}

/// A message, borrowed from the batch.
#[derive(Debug)]
pub struct Message<'q>(&'q sys::rd_kafka_message_t);

impl<'q> Message<'q> {
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// The value; empty for a tombstone.
    #[inline]
    pub fn payload(&self) -> &'q [u8] {
        // SAFETY: librdkafka sets payload and len together; they live as long as the message, which is borrowed for 'q.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// The key; empty if there is none.
    pub fn key(&self) -> &'q [u8] {
        // SAFETY: as for the payload.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Kafka's timestamp of the message, in milliseconds; −1 if there is none.
    pub fn timestamp(&self) -> i64 {
        // SAFETY: the message is valid for 'q; a null type pointer is allowed.
        unsafe { sys::rd_kafka_message_timestamp(self.0, ptr::null_mut()) }
    }
}

/// The queue of one assigned partition, and the part of its last batch not yet taken.
pub struct PartitionQueue<C: ConsumerContext + 'static> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// Messages of the last batch; they live until the next one is fetched.
    batch: Vec<*mut sys::rd_kafka_message_t>,
    taken: usize,
    /// Dropped after the queue and its messages: the client must outlive both.
    _consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread, one at a time; the raw pointers are owned.
unsafe impl<C: ConsumerContext + 'static> Send for PartitionQueue<C> where BaseConsumer<C>: Send + Sync {}

impl<C: ConsumerContext + 'static> PartitionQueue<C> {
    /// The queue of a partition, cut off from the consumer queue. `size` bounds a batch. `None` for a topic name that
    /// librdkafka does not accept.
    pub fn take(consumer: &Arc<BaseConsumer<C>>, source: &Source, size: usize) -> Option<Self> {
        let queue = cut_off(consumer, source)?;
        Some(Self {
            queue,
            batch: Vec::with_capacity(size.max(1)),
            taken: 0,
            _consumer: Arc::clone(consumer),
        })
    }

    /// Fetches a batch without waiting, unless part of the last one is left; says how many messages wait.
    pub fn fill(&mut self) -> usize {
        let waiting = self.batch.len() - self.taken;
        if waiting > 0 {
            return waiting;
        }
        self.clear();
        // SAFETY: the queue is valid until drop; the buffer has room for `capacity` pointers and librdkafka writes at most
        // as many as it returns, so the length set is initialised.
        unsafe {
            let got = sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.batch.as_mut_ptr(),
                self.batch.capacity(),
            );
            self.batch.set_len(usize::try_from(got).unwrap_or(0));
        }
        self.batch.len()
    }

    /// The offset of the next message or end of log that [`take_next`](Self::take_next) will return.
    #[inline]
    pub fn peek(&self) -> Option<i64> {
        let message = *self.batch.get(self.taken)?;
        // SAFETY: messages of the batch are valid until it is cleared.
        Some(unsafe { (*message).offset })
    }

    /// The next thing of the batch.
    #[inline]
    pub fn take_next(&mut self) -> Option<Fetched<'_>> {
        let message = *self.batch.get(self.taken)?;
        self.taken += 1;
        self.look_ahead();
        // SAFETY: librdkafka returned this pointer and it has not been destroyed: `clear` alone does so, and cannot run
        // while this borrow of `self` lives.
        let message = unsafe { &*message };
        Some(match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Fetched::Message(Message(message)),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Fetched::End(message.offset),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => Fetched::OutOfRange,
            error => Fetched::Failed(error.into()),
        })
    }

    /// Asks for the message after next and the next one's value, which another core has written, before they are needed.
    #[inline]
    fn look_ahead(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            if let Some(&after) = self.batch.get(self.taken + 2) {
                // SAFETY: prefetching has no effect but on caches, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(after.cast()) };
            }
            if let Some(&next) = self.batch.get(self.taken) {
                // SAFETY: messages of the batch are valid; prefetching has no effect but on caches.
                unsafe {
                    let value: *const i8 = (*next).payload.cast();
                    for line in 0..4 {
                        _mm_prefetch::<_MM_HINT_T0>(value.wrapping_add(line * 64));
                    }
                }
            }
        }
    }

    /// Destroys the batch, all of it in a row: a message shares counters with librdkafka's thread, which has taken them
    /// back to its core when messages are destroyed one by one between other work. Measured: 80 ns per message.
    fn clear(&mut self) {
        for message in self.batch.drain(..) {
            // SAFETY: a message that librdkafka gave to us. It leaves the list here, so it is destroyed once, and no borrow
            // of it is left, since `self` is borrowed as a whole.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        self.taken = 0;
    }
}

impl<C: ConsumerContext + 'static> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: our reference, given back once; librdkafka counts references, the client is still alive.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Cuts a partition's queue off from the consumer queue before it is assigned, so that no message can go astray there.
/// librdkafka remembers that the application did so (`RD_KAFKA_Q_F_FWD_APP`) when it starts fetching.
pub fn detach<C: ConsumerContext>(consumer: &BaseConsumer<C>, source: &Source) {
    if let Some(queue) = cut_off(consumer, source) {
        // SAFETY: the reference that `cut_off` returned, given back once.
        unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) };
    }
}

/// The end of a partition's log as librdkafka last heard of it, without asking the broker.
pub fn high_watermark<C: ConsumerContext>(consumer: &BaseConsumer<C>, source: &Source) -> Option<i64> {
    let topic = CString::new(&*source.topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: all pointers are valid for the call; the function only reads cached values.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            source.partition,
            &mut low,
            &mut high,
        )
    };
    (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

fn cut_off<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    source: &Source,
) -> Option<NonNull<sys::rd_kafka_queue_t>> {
    let topic = CString::new(&*source.topic).ok()?;
    // SAFETY: client and topic are valid for the calls. The queue comes with a reference of its own, which the caller
    // gives back; forwarding to null cuts it off.
    unsafe {
        let queue = NonNull::new(sys::rd_kafka_queue_get_partition(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            source.partition,
        ))?;
        sys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
        Some(queue)
    }
}

/// # Safety
///
/// `start` is null, or valid for `len` bytes during 'q.
#[inline]
unsafe fn bytes<'q>(start: *mut std::ffi::c_void, len: usize) -> &'q [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start.cast(), len) }
}

//! `Wake`: wakes a thread that sleeps when it has nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use parking_lot::Mutex;

/// A thread that may be asleep, and the way to wake it. Other threads call [`wake`](Self::wake)
/// with every piece of work that they add; while the thread is awake that costs one atomic
/// operation.
#[derive(Debug, Default)]
pub(super) struct Wake {
    thread: Mutex<Option<Thread>>,
    asleep: AtomicBool,
}

impl Wake {
    /// Makes `thread` the one that is woken, in place of an earlier one.
    pub(super) fn register(&self, thread: Thread) {
        *self.thread.lock() = Some(thread);
    }

    /// Notes whether the calling thread is about to sleep. It calls this before it looks for work.
    /// After that it may sleep only while [`is_asleep`](Self::is_asleep), because `wake` resets it
    /// for work that was added after the look.
    pub(super) fn set_asleep(&self, asleep: bool) {
        // Pairs with the swap in `wake`. If the thread has looked too early to find the work of a
        // caller of `wake`, the swap comes after this store and sees `true`.
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    pub(super) fn is_asleep(&self) -> bool {
        // Pairs with the swap in `wake`.
        self.asleep.load(Ordering::SeqCst)
    }

    /// Wakes the thread if it may be asleep.
    pub(super) fn wake(&self) {
        // Pairs with the store in `set_asleep`.
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = &*self.thread.lock()
        {
            thread.unpark();
        }
    }

    /// Wakes the thread even if it has noted that it does not sleep, for example because it pauses
    /// for a short time.
    pub(super) fn wake_at_once(&self) {
        self.set_asleep(true);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::Wake;

    #[test]
    fn work_that_is_added_while_the_thread_falls_asleep_wakes_it() {
        const ITEMS: u64 = 20_000;
        let wake = Arc::new(Wake::default());
        let added = Arc::new(AtomicU64::new(0));
        let sleeper = thread::spawn({
            let wake = Arc::clone(&wake);
            let added = Arc::clone(&added);
            move || {
                wake.register(thread::current());
                loop {
                    wake.set_asleep(true);
                    if added.load(Ordering::SeqCst) == ITEMS {
                        return;
                    }
                    if wake.is_asleep() {
                        // Without a limit: a wake-up that is lost leaves the test hanging.
                        thread::park();
                    }
                }
            }
        });
        for _ in 0..ITEMS {
            added.fetch_add(1, Ordering::SeqCst);
            wake.wake();
        }
        // The thread may not have been registered when the last item was added.
        while !sleeper.is_finished() {
            wake.wake_at_once();
            thread::yield_now();
        }
        sleeper.join().unwrap();
    }
}

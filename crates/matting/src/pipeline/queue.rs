//! A bounded queue between two stages, that can be torn down from outside.
//!
//! Invariant: after [`Queue::abort`] nobody waits in it any more, on either side.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// First in, first out, at most `capacity` long.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Nothing more will be put in.
    closed: bool,
    /// Nothing more will be taken out either.
    aborted: bool,
}

/// The pipeline is being torn down; the reason is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted;

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false, aborted: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in; waits while the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<(), Aborted> {
        let mut state = self.lock();
        while state.items.len() >= self.capacity && !state.aborted {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.aborted {
            return Err(Aborted);
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the oldest item; waits while there is none. `None` after the last one of a closed queue.
    pub(crate) fn pop(&self) -> Result<Option<T>, Aborted> {
        let mut state = self.lock();
        loop {
            if state.aborted {
                return Err(Aborted);
            }
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.changed.notify_all();
                return Ok(Some(item));
            }
            if state.closed {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that nothing more will be put in.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Sends everybody away.
    pub(crate) fn abort(&self) {
        let mut state = self.lock();
        state.aborted = true;
        state.items.clear();
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_still_gives_what_it_holds() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.pop(), Ok(Some(1)));
        assert_eq!(queue.pop(), Ok(None));
    }

    #[test]
    fn abort_frees_both_sides() {
        let (full, empty) = (Queue::new(1), Queue::<u8>::new(1));
        full.push(1).unwrap();
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| full.push(2));
            let popper = scope.spawn(|| empty.pop());
            full.abort();
            empty.abort();
            assert_eq!(pusher.join().unwrap(), Err(Aborted));
            assert_eq!(popper.join().unwrap(), Err(Aborted));
        });
    }

    #[test]
    fn order_is_kept_under_back_pressure() {
        let queue = Queue::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..1000 {
                    queue.push(number).unwrap();
                }
                queue.close();
            });
            for expected in 0..1000 {
                assert_eq!(queue.pop(), Ok(Some(expected)));
            }
            assert_eq!(queue.pop(), Ok(None));
        });
    }
}

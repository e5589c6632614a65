//! The budget of buffered request bytes of one worker: beyond it a call waits for room instead of the
//! process growing.
//!
//! Not here: the deadline of that wait (the watch nudges the waiting task).

use crate::config::limits;
use std::cell::Cell;
use std::cell::RefCell;
use std::task::Poll;
use std::task::Waker;

#[derive(Default)]
pub struct Budget {
    used: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Budget {
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Takes `bytes` if they fit.
    pub fn take(&self, bytes: usize) -> bool {
        let fits = self.used.get().saturating_add(bytes) <= limits::BODY_BUDGET_BYTES;
        if fits {
            self.used.set(self.used.get() + bytes);
        }
        fits
    }

    /// Gives bytes back and wakes those who wait; they look again.
    pub fn give_back(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Waits until `bytes` are taken (true) or `over` says that the time is up (false).
    pub async fn wait(&self, bytes: usize, over: impl Fn(&Waker) -> bool) -> bool {
        std::future::poll_fn(|cx| {
            if self.take(bytes) {
                return Poll::Ready(true);
            }
            if over(cx.waker()) {
                return Poll::Ready(false);
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_bytes_come_back() {
        let budget = Budget::default();
        assert!(budget.take(limits::BODY_BUDGET_BYTES));
        assert!(!budget.take(1));
        let mut wait = std::pin::pin!(budget.wait(10, |_| false));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        budget.give_back(10);
        assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(true));
        assert_eq!(budget.used(), limits::BODY_BUDGET_BYTES);
    }

    #[test]
    fn the_wait_ends_with_its_time() {
        let budget = Budget::default();
        assert!(budget.take(limits::BODY_BUDGET_BYTES));
        let mut wait = std::pin::pin!(budget.wait(1, |_| true));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(false));
    }
}

//! The moment after which an import can no longer be interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const INTERRUPTED: u8 = 1;
const COMMITTING: u8 = 2;

/// Shared by an import and by whoever may interrupt it: one of them is first.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Interrupts the import, unless it commits already. If true, nothing will be imported.
    pub fn interrupt(&self) -> bool {
        self.leave_running_for(INTERRUPTED) || self.is_interrupted()
    }

    /// Whether the import has to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::SeqCst) == INTERRUPTED
    }

    /// Whether the import may commit; from then on nobody can interrupt it.
    pub(super) fn may_commit(&self) -> bool {
        self.leave_running_for(COMMITTING)
    }

    fn leave_running_for(&self, state: u8) -> bool {
        let order = Ordering::SeqCst;
        self.0
            .compare_exchange(RUNNING, state, order, order)
            .is_ok()
    }
}

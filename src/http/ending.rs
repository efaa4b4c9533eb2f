//! How a reply ended.

/// How a reply ended, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    /// All of it was handed to the system.
    Complete,
    /// Its client left before its end.
    ClientLeft,
    /// Its client took nothing of it for too long.
    Stalled,
    /// It broke by our fault: the database's, the format's.
    Failed,
    /// It took longer than any reply may.
    TooLong,
    /// The server stopped before its end.
    ShutDown,
}

impl Ending {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::ClientLeft => "client_left",
            Ending::Stalled => "stalled",
            Ending::Failed => "failed",
            Ending::TooLong => "too_long",
            Ending::ShutDown => "shut_down",
        }
    }
}

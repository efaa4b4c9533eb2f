//! The log line of a request: who asked, and what became of it.

/// Logs how a request ended, with who asked before what else there is to say: a stream that broke by our fault
/// and a 500 as an error, a 503 as a warning.
macro_rules! ended {
    ($request:expr, $ending:expr, $status:expr, $($fields:tt)*) => {{
        let request = &$request;
        let trace = request.trace.as_ref();
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    id = request.id,
                    client = %request.client,
                    proxy = request.proxy.map(tracing::field::display),
                    token = request.caller.token(),
                    trace = trace.map(|trace| trace.id.as_str()),
                    parent = trace.map(|trace| trace.parent.as_str()),
                    $($fields)*
                )
            };
        }
        match ($ending, $status) {
            ($crate::http::ending::Ending::Failed, _) | (_, 500) => log!(error),
            (_, 503) => log!(warn),
            _ => log!(info),
        }
    }};
}

pub(super) use ended;

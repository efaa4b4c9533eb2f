//! Why a server did not answer, and what that is to whoever asked.

use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

use crate::definition::Stream;
use crate::store::StoreError;

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It said no.
    #[error("{0}")]
    Said(Said),
    /// The connection is gone, or there is none.
    #[error("{0}")]
    Lost(String),
    /// It said nothing for so long.
    #[error(
        "the server said nothing for {} s (silence_seconds)",
        .0.as_secs()
    )]
    Silent(Duration),
    /// Nobody wants the answer any more.
    #[error("stopped")]
    Stopped,
}

/// What a server says of what it cannot do.
#[derive(Debug, thiserror::Error)]
#[error("{message}{} (SQLSTATE {code})", detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub(crate) struct Said {
    /// Its code (the SQL standard's SQLSTATE; PostgreSQL's documentation, appendix A).
    pub(crate) code: String,
    message: String,
    detail: Option<String>,
}

impl Said {
    pub(super) fn read(body: &ErrorResponseBody) -> Result<Said, Failure> {
        let mut said = Said {
            code: String::new(),
            message: String::new(),
            detail: None,
        };
        let mut fields = body.fields();
        while let Some(field) = fields.next().map_err(Failure::protocol)? {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => said.code = text,
                b'M' => said.message = text,
                b'D' => said.detail = Some(text),
                _ => {}
            }
        }
        Ok(said)
    }
}

impl Failure {
    pub(super) fn protocol(error: io::Error) -> Failure {
        Failure::Lost(format!("the server speaks another protocol: {error}"))
    }

    /// Whether it is the server's answer, by this code.
    pub(super) fn is(&self, code: &str) -> bool {
        matches!(self, Failure::Said(said) if said.code == code)
    }

    /// Whether the connection is of no use any more.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Failure::Said(said) => Failure::ends_connection(&said.code),
            Failure::Lost(_) | Failure::Silent(_) => true,
            Failure::Stopped => false,
        }
    }

    /// Whether a server that says so has gone, or goes: it was told to, it starts, it recovers.
    pub(super) fn ends_connection(code: &str) -> bool {
        code.starts_with("57P") || code == "25P03"
    }

    /// What it is to whoever reads a stream from the server at `place`.
    pub(super) fn of_stream(self, stream: &Stream, place: &str) -> StoreError {
        let reason = self.to_string();
        let unreachable = |reason| StoreError::Unreachable {
            place: place.to_owned(),
            reason,
        };
        match self {
            Failure::Stopped => StoreError::Stopped,
            Failure::Lost(reason) => unreachable(reason),
            Failure::Silent(silence) => StoreError::Silent {
                stream: stream.name.clone(),
                seconds: silence.as_secs(),
            },
            Failure::Said(said) => match &*said.code {
                // lock_not_available: a writer changes the table itself.
                "55P03" => StoreError::Busy {
                    stream: stream.name.clone(),
                },
                code if Failure::ends_connection(code) || code.starts_with("08") => {
                    unreachable(reason)
                }
                // Whoever has too many connections, or too little memory, may have enough later.
                code if code.starts_with("53") => unreachable(reason),
                _ => StoreError::Database {
                    stream: stream.name.clone(),
                    reason,
                },
            },
        }
    }
}

//! A session of a server: it is let in, asked, and told to stop. PostgreSQL's frontend/backend protocol, version 3.
//!
//! A read never blocks for longer than [`TICK`], so that a scan that nobody wants ends at once and a server that
//! says nothing is noticed. That is why this is not one of the usual clients, which block until there is an answer.

use std::env;
use std::io::{Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;

use super::failure::{Failure, Said};
use super::password::password;
use super::socket::{Socket, TICK, is_tick};
use crate::config::{Database, Host, PostgresUrl};
use crate::store::Cancel;

/// What is read at once, unless a message is larger.
const BUFFER: usize = 128 * 1024;

/// How long a server that was told to stop may take before its connection is given up.
const STOPPING: Duration = Duration::from_secs(2);

/// A session of a server.
pub(crate) struct Session {
    socket: Socket,
    /// What was read; all but `unread` is done with.
    buffer: Vec<u8>,
    unread: Range<usize>,
    database: Database,
    host: Host,
    /// What tells the server which query to cancel.
    key: (i32, i32),
    /// Whether it was asked something, and the answer has not ended.
    asked: bool,
    /// Whether it is in a transaction: `I` if not, `T`, or `E` in one that has failed.
    status: u8,
    /// How the server holds texts.
    encoding: String,
}

/// What a server answered: the rows of the last statement that had some.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The columns: name, type and type modifier.
    pub(super) columns: Vec<(String, u32, i32)>,
    /// The values as text.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    /// The value of the first row's column of that number.
    pub(crate) fn value(&self, at: usize) -> Option<&str> {
        self.rows.first()?.get(at)?.as_deref()
    }
}

/// When to end without an answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch<'c> {
    cancel: Option<&'c Cancel>,
    deadline: Option<Instant>,
}

impl<'c> Watch<'c> {
    /// When it is set.
    pub(super) fn of(cancel: &'c Cancel) -> Watch<'c> {
        Watch {
            cancel: Some(cancel),
            deadline: None,
        }
    }

    fn until(deadline: Instant) -> Watch<'c> {
        Watch {
            cancel: None,
            deadline: Some(deadline),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let cancelled = self.cancel.is_some_and(Cancel::is_cancelled);
        let late = self
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline);
        if cancelled || late {
            Err(Failure::Stopped)
        } else {
            Ok(())
        }
    }
}

/// Takes what is copied out of a server. Each says with [`Failure::Stopped`] that it has enough.
pub(super) trait Copied {
    /// A copy begins.
    fn begin(&mut self);
    /// Its next bytes.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    /// It has ended; whether that was its end.
    fn end(&mut self) -> Result<(), Failure>;
    /// Called many times a second.
    fn tick(&mut self) -> Result<(), Failure>;
}

impl Session {
    /// Opens a session of the first server that lets it in.
    pub(crate) fn open(database: &Database) -> Result<Session, Failure> {
        let mut failed = Failure::Lost("the database has no URL that names a host".to_owned());
        for (url, host) in database
            .url
            .iter()
            .flat_map(|url| url.hosts.iter().map(move |host| (url, host)))
        {
            match Session::of(database, url, host) {
                Ok(session) => return Ok(session),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn of(database: &Database, url: &PostgresUrl, host: &Host) -> Result<Session, Failure> {
        let environment = |name| env::var(name).ok().filter(|text: &String| !text.is_empty());
        let user = url.user.clone().or_else(|| environment("PGUSER"));
        let user = user.or_else(|| environment("USER")).ok_or_else(|| {
            Failure::Lost("the URL names no user, and nor do PGUSER and USER".to_owned())
        })?;
        let name = url.database.clone().or_else(|| environment("PGDATABASE"));
        let name = name.unwrap_or_else(|| user.clone());
        let mut session = Session {
            socket: Socket::connect(database, host, url.trust.as_ref())?,
            buffer: vec![0; BUFFER],
            unread: 0..0,
            database: database.clone(),
            host: host.clone(),
            key: (0, 0),
            asked: true,
            status: b'I',
            encoding: String::new(),
        };
        let mut parameters = vec![
            ("user", user.as_str()),
            ("database", &name),
            ("client_encoding", "UTF8"),
            ("application_name", &url.application),
        ];
        parameters.extend(url.options.as_deref().map(|options| ("options", options)));
        session.send(|out| frontend::startup_message(parameters, out))?;
        let password = || password(url, host, &user, &name);
        session.enter(&user, &password)?;
        if session.encoding != "UTF8" {
            return Err(Failure::Lost(format!(
                "the database {name} is in {}; only those in UTF8 are served",
                session.encoding
            )));
        }
        Ok(session)
    }

    /// Says who it is, and waits until it is let in.
    fn enter(&mut self, user: &str, password: &dyn Fn() -> Option<String>) -> Result<(), Failure> {
        let watch = Watch::until(Instant::now() + self.database.connect);
        let late = |failure| match failure {
            Failure::Stopped => {
                Failure::Lost("the server did not let us in within connect_seconds".to_owned())
            }
            failure => failure,
        };
        let known = || {
            password().ok_or_else(|| {
            Failure::Lost("the server wants a password, and there is none: PGPASSWORD or ~/.pgpass has it".to_owned())
        })
        };
        let unknown = || {
            Failure::Lost("the server wants to know who we are in no way that is known".to_owned())
        };
        let mut scram = None;
        loop {
            match self.message(&mut || watch.check()).map_err(late)? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    let password = known()?;
                    self.send(|out| frontend::password_message(password.as_bytes(), out))?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), known()?.as_bytes(), body.salt());
                    self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
                }
                Message::AuthenticationSasl(body) => {
                    let mut mechanisms = body.mechanisms();
                    let mut has_scram = false;
                    while let Some(mechanism) = mechanisms.next().map_err(Failure::protocol)? {
                        has_scram |= mechanism == sasl::SCRAM_SHA_256;
                    }
                    if !has_scram {
                        return Err(unknown());
                    }
                    let binding = sasl::ChannelBinding::unsupported();
                    let state = scram.insert(sasl::ScramSha256::new(known()?.as_bytes(), binding));
                    let message = state.message().to_vec();
                    self.send(|out| {
                        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, &message, out)
                    })?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    if let Some(state) = &mut scram {
                        state.update(body.data()).map_err(Failure::protocol)?;
                        let message = state.message().to_vec();
                        self.send(|out| frontend::sasl_response(&message, out))?;
                    }
                }
                Message::AuthenticationSaslFinal(body) => {
                    if let Some(state) = &mut scram {
                        // That it does not know the password either.
                        state.finish(body.data()).map_err(Failure::protocol)?;
                    }
                }
                Message::BackendKeyData(body) => self.key = (body.process_id(), body.secret_key()),
                Message::ParameterStatus(body) => {
                    if body.name().is_ok_and(|name| name == "server_encoding") {
                        self.encoding = body.value().map_err(Failure::protocol)?.to_owned();
                    }
                }
                Message::ErrorResponse(body) => return Err(Failure::Said(Said::read(&body)?)),
                Message::ReadyForQuery(_) => {
                    self.asked = false;
                    return Ok(());
                }
                Message::NoticeResponse(_) => {}
                _ => {
                    return Err(unknown());
                }
            }
        }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_broken(&self) -> bool {
        self.asked
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// Whether it is in a transaction that has failed.
    pub(super) fn is_failed(&self) -> bool {
        self.status == b'E'
    }

    /// Has it never used again.
    pub(super) fn give_up(&mut self) {
        self.asked = true;
    }

    /// Runs statements, separated by semicolons, up to the first that fails.
    pub(crate) fn ask(&mut self, sql: &str, watch: Watch<'_>) -> Result<Answer, Failure> {
        self.begin(sql)?;
        let mut answer = Answer::default();
        let ended = self.until_ready(&mut || watch.check(), &mut |message| {
            match message {
                Message::RowDescription(body) => {
                    answer = Answer::default();
                    let mut fields = body.fields();
                    while let Some(field) = fields.next().map_err(Failure::protocol)? {
                        let column = (
                            field.name().to_owned(),
                            field.type_oid(),
                            field.type_modifier(),
                        );
                        answer.columns.push(column);
                    }
                }
                Message::DataRow(body) => {
                    let text = |range: Option<Range<usize>>| {
                        range.map(|range| {
                            String::from_utf8_lossy(&body.buffer()[range]).into_owned()
                        })
                    };
                    let row = body.ranges().map(|range| Ok(text(range))).collect();
                    answer.rows.push(row.map_err(Failure::protocol)?);
                }
                _ => {}
            }
            Ok(())
        });
        self.ended(ended)?;
        Ok(answer)
    }

    /// Runs statements of which some copy out. Whoever takes what is copied has seen its end then, and the server
    /// has said that each statement was complete.
    pub(super) fn copy_out(&mut self, sql: &str, copied: &mut dyn Copied) -> Result<(), Failure> {
        self.begin(sql)?;
        let ended = self.copy(copied);
        self.ended(ended)
    }

    fn copy(&mut self, copied: &mut dyn Copied) -> Result<(), Failure> {
        let mut copying = false;
        let mut failed = None;
        let mut ticked = Instant::now();
        loop {
            let (tag, frame) = self.frame(&mut || copied.tick())?;
            match tag {
                backend::COPY_DATA_TAG if copying => {
                    copied.data(&self.buffer[frame])?;
                    // Nothing else would be looked at while records come fast.
                    if self.unread.is_empty() && ticked.elapsed() >= TICK {
                        ticked = Instant::now();
                        copied.tick()?;
                    }
                    continue;
                }
                backend::COPY_OUT_RESPONSE_TAG => {
                    copying = true;
                    copied.begin();
                }
                backend::COPY_DONE_TAG => copied.end()?,
                backend::COMMAND_COMPLETE_TAG => copying = false,
                backend::ERROR_RESPONSE_TAG => {
                    if let Message::ErrorResponse(body) = self.parse(frame)? {
                        failed.get_or_insert(Said::read(&body)?);
                    }
                }
                backend::READY_FOR_QUERY_TAG => {
                    self.ready(frame)?;
                    return match failed {
                        Some(said) => Err(Failure::Said(said)),
                        None if copying => {
                            Err(Failure::Lost("a copy ended without its end".to_owned()))
                        }
                        None => Ok(()),
                    };
                }
                _ => {}
            }
        }
    }

    /// Begins to copy in; goes on with [`Session::copy_in`], and ends with [`Session::end_copy_in`].
    pub(crate) fn begin_copy_in(&mut self, sql: &str) -> Result<(), Failure> {
        self.begin(sql)?;
        loop {
            match self.message(&mut || Ok(()))? {
                Message::CopyInResponse(_) => return Ok(()),
                Message::ErrorResponse(body) => {
                    let said = Said::read(&body)?;
                    self.until_ready(&mut || Ok(()), &mut |_| Ok(()))?;
                    return Err(Failure::Said(said));
                }
                _ => {}
            }
        }
    }

    /// Sends what is copied in: complete messages of the protocol.
    pub(crate) fn copy_in(&mut self, messages: &[u8]) -> Result<(), Failure> {
        self.write(messages)
    }

    /// Ends what is copied in; `Ok` when the server has taken it.
    pub(crate) fn end_copy_in(&mut self, watch: Watch<'_>) -> Result<(), Failure> {
        self.send(|out| {
            frontend::copy_done(out);
            Ok(())
        })?;
        let ended = self.until_ready(&mut || watch.check(), &mut |_| Ok(()));
        self.ended(ended)
    }

    fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        if self.asked {
            return Err(Failure::Lost("the connection was given up".to_owned()));
        }
        self.asked = true;
        self.send(|out| frontend::query(sql, out))
    }

    /// What is left to do when an answer has ended, or is not wanted.
    fn ended(&mut self, ended: Result<(), Failure>) -> Result<(), Failure> {
        if matches!(ended, Err(Failure::Stopped)) && self.asked {
            self.stop()?;
        }
        ended
    }

    /// Has the server stop what it does, and reads what it still says. `Ok` also when it was done before.
    fn stop(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + STOPPING;
        let trust = self.database.url.as_ref().and_then(|url| url.trust.clone());
        let mut socket = Socket::connect(&self.database, &self.host, trust.as_ref())?;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.key.0, self.key.1, &mut request);
        let lost = |error: std::io::Error| Failure::Lost(error.to_string());
        socket
            .write_all(&request)
            .and_then(|()| socket.flush())
            .map_err(lost)?;
        // It closes the connection when the query was told: none after this one is meant.
        let _ = super::socket::in_time(until, || socket.read(&mut [0; 8]));
        let watch = Watch::until(until);
        match self.until_ready(&mut || watch.check(), &mut |_| Ok(())) {
            Ok(()) => Ok(()),
            // query_canceled, or whatever else ended it.
            Err(Failure::Said(said)) if !Failure::ends_connection(&said.code) => Ok(()),
            Err(Failure::Stopped) => Err(Failure::Lost("the server does not stop".to_owned())),
            Err(failure) => Err(failure),
        }
    }

    /// Reads messages until the server waits for the next question.
    fn until_ready(
        &mut self,
        tick: &mut dyn FnMut() -> Result<(), Failure>,
        take: &mut dyn FnMut(Message) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut failed = None;
        let mut ticked = Instant::now();
        loop {
            let (tag, frame) = self.frame(tick)?;
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                tick()?;
            }
            match tag {
                backend::READY_FOR_QUERY_TAG => {
                    self.ready(frame)?;
                    return failed.map_or(Ok(()), |said| Err(Failure::Said(said)));
                }
                backend::ERROR_RESPONSE_TAG => {
                    if let Message::ErrorResponse(body) = self.parse(frame)? {
                        failed.get_or_insert(Said::read(&body)?);
                    }
                }
                backend::COPY_DATA_TAG => {}
                _ => take(self.parse(frame)?)?,
            }
        }
    }

    fn ready(&mut self, frame: Range<usize>) -> Result<(), Failure> {
        if let Message::ReadyForQuery(body) = self.parse(frame)? {
            self.status = body.status();
        }
        self.asked = false;
        Ok(())
    }

    /// The next message.
    fn message(
        &mut self,
        tick: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<Message, Failure> {
        let (_, frame) = self.frame(tick)?;
        self.parse(frame)
    }

    fn parse(&self, body: Range<usize>) -> Result<Message, Failure> {
        // With its tag and its length.
        let mut bytes = BytesMut::from(&self.buffer[body.start - 5..body.end]);
        let message = Message::parse(&mut bytes).map_err(Failure::protocol)?;
        message.ok_or_else(|| Failure::Lost("a message of the server is incomplete".to_owned()))
    }

    /// The tag of the next message, and where in the buffer its body is. Of those that may come at any time, none.
    fn frame(
        &mut self,
        tick: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(u8, Range<usize>), Failure> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            let mut wanted = 5;
            if let Some((head, _)) = unread.split_first_chunk::<5>() {
                let [tag, length @ ..] = *head;
                let length = u32::from_be_bytes(length) as usize;
                if length < 4 {
                    return Err(Failure::Lost(
                        "the server speaks another protocol".to_owned(),
                    ));
                }
                wanted = 1 + length;
                if unread.len() >= wanted {
                    let body = self.unread.start + 5..self.unread.start + wanted;
                    self.unread.start = body.end;
                    if [
                        backend::NOTICE_RESPONSE_TAG,
                        backend::NOTIFICATION_RESPONSE_TAG,
                    ]
                    .contains(&tag)
                    {
                        continue;
                    }
                    return Ok((tag, body));
                }
            }
            self.fill(wanted, tick)?;
        }
    }

    /// Reads more, so that so many bytes fit that are not done with.
    fn fill(
        &mut self,
        wanted: usize,
        tick: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.unread.is_empty() {
            self.unread = 0..0;
            if self.buffer.len() > BUFFER && wanted <= BUFFER {
                self.buffer = vec![0; BUFFER];
            }
        }
        if self.buffer.len() - self.unread.start < wanted {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.buffer.len() < wanted {
                // As it comes: a length alone is to take no memory.
                let most = (2 * self.unread.len()).max(BUFFER).min(wanted);
                self.buffer.resize(most.max(self.buffer.len()), 0);
            }
        }
        let start = Instant::now();
        loop {
            match self.socket.read(&mut self.buffer[self.unread.end..]) {
                Ok(0) => return Err(Failure::Lost("the server closed the connection".to_owned())),
                Ok(read) => {
                    self.unread.end += read;
                    return Ok(());
                }
                Err(error) if is_tick(&error) => {
                    tick()?;
                    if start.elapsed() > self.database.silence {
                        return Err(Failure::Silent(self.database.silence));
                    }
                }
                Err(error) => return Err(Failure::Lost(error.to_string())),
            }
        }
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        write(&mut out).map_err(|error| Failure::Lost(error.to_string()))?;
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self
            .socket
            .write_all(bytes)
            .and_then(|()| self.socket.flush());
        written.map_err(|error| match is_tick(&error) {
            true => Failure::Silent(self.database.silence),
            false => Failure::Lost(error.to_string()),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.asked {
            // Whether it hears of it or not, the socket is closed.
            let _ = self.send(|out| {
                frontend::terminate(out);
                Ok(())
            });
        }
    }
}

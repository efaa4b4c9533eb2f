//! The socket to a server: TCP, TLS over it, or one of this machine.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::failure::Failure;
use crate::config::{Database, Host, Trust};

/// How long a read waits at most before it is asked whether to go on.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A connected socket. Its reads end with [`io::ErrorKind::WouldBlock`] when nothing comes for [`TICK`].
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Connects to a server of a database; over TLS, if its URL says so.
    pub(super) fn connect(
        database: &Database,
        host: &Host,
        trust: Option<&Trust>,
    ) -> Result<Socket, Failure> {
        let until = Instant::now() + database.connect;
        let failed =
            |error: io::Error| Failure::Lost(format!("{}:{}: {error}", host.name, host.port));
        if host.is_socket() {
            let path = Path::new(&host.name).join(format!(".s.PGSQL.{}", host.port));
            let failed = |error: io::Error| Failure::Lost(format!("{}: {error}", path.display()));
            let socket = UnixStream::connect(&path).map_err(failed)?;
            socket.set_read_timeout(Some(TICK)).map_err(failed)?;
            socket
                .set_write_timeout(Some(database.silence))
                .map_err(failed)?;
            return Ok(Socket::Unix(socket));
        }
        let mut tcp = tcp(host, until).map_err(failed)?;
        let alive = TcpKeepalive::new()
            .with_time(database.keepalive)
            .with_interval(database.keepalive);
        let socket = SockRef::from(&tcp);
        socket.set_tcp_keepalive(&alive).map_err(failed)?;
        socket
            .set_tcp_user_timeout(Some(database.silence))
            .map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        tcp.set_read_timeout(Some(TICK)).map_err(failed)?;
        tcp.set_write_timeout(Some(database.silence))
            .map_err(failed)?;
        let Some(trust) = trust else {
            return Ok(Socket::Tcp(tcp));
        };
        let mut request = bytes::BytesMut::new();
        frontend::ssl_request(&mut request);
        tcp.write_all(&request).map_err(failed)?;
        let mut answer = [0];
        in_time(until, || tcp.read_exact(&mut answer)).map_err(failed)?;
        if answer != *b"S" {
            let text =
                "the server has no TLS; with ?sslmode=disable in the URL nothing is encrypted";
            return Err(Failure::Lost(text.to_owned()));
        }
        let name = ServerName::try_from(host.name.clone());
        let name = name.map_err(|error| Failure::Lost(format!("{}: {error}", host.name)))?;
        let tls = ClientConnection::new(Arc::new(trusting(trust)?), name);
        let mut tls = tls.map_err(|error| Failure::Lost(error.to_string()))?;
        in_time(until, || tls.complete_io(&mut tcp).map(drop)).map_err(failed)?;
        Ok(Socket::Tls(Box::new(StreamOwned::new(tls, tcp))))
    }
}

/// Connects to the first address of a host that answers.
fn tcp(host: &Host, until: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in (host.name.as_str(), host.port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(TICK)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Tries again what nothing came for, until it is too late.
pub(super) fn in_time<T>(until: Instant, mut io: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match io() {
            Err(error) if is_tick(&error) => {
                if Instant::now() > until {
                    let text =
                        "the server lets nobody in: it did not answer within connect_seconds";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
            }
            done => return done,
        }
    }
}

/// Whether a read ended since nothing came.
pub(super) fn is_tick(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    [WouldBlock, TimedOut, Interrupted].contains(&error.kind())
}

/// TLS that trusts these.
fn trusting(trust: &Trust) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::File(file) => {
            let wrong =
                |reason: String| Failure::Lost(format!("sslrootcert {}: {reason}", file.display()));
            let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
            for found in CertificateDer::pem_slice_iter(&text) {
                let found = found.map_err(|_| wrong("it is not PEM".to_owned()))?;
                roots.add(found).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("it has no certificate".to_owned()));
            }
        }
        Trust::System => {
            static SYSTEM: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
            let system = SYSTEM.get_or_init(|| rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(system.iter().cloned());
        }
    }
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Failure::Lost(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
            Socket::Tls(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Tls(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.flush(),
            Socket::Unix(socket) => socket.flush(),
            Socket::Tls(socket) => socket.flush(),
        }
    }
}

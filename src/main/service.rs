//! What a service manager, such as systemd, hands over and is told.
//!
//! Under none, nothing is handed over, and nobody is told.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, anyhow};
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use sd_notify::NotifyState;

use crate::Usage;

/// The sockets that clients connect to, if they are passed on (`LISTEN_FDS`). Whatever is opened before would
/// be taken for one of them if fewer were passed than promised.
pub(crate) fn sockets() -> anyhow::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).map(|at| {
        let socket = passed.take_tcp_listener(at).and_then(|socket| match socket {
            Some(socket) if socket_acceptconn(&socket)? => Ok(Some(socket)),
            _ => Ok(None),
        });
        let number = at + 1;
        let wanted = format!(
            "socket {number} of those that LISTEN_FDS passes must be a TCP socket that listens (ListenStream= and \
             Accept=no in a systemd unit)"
        );
        match socket {
            Ok(Some(socket)) => Ok(socket),
            Ok(None) => Err(anyhow!("{wanted}: it does not listen")),
            Err(error) => Err(anyhow!("{wanted}: {error}")),
        }
    });
    sockets.collect::<anyhow::Result<_>>().context(Usage)
}

/// Clients are served at these addresses.
pub(crate) fn serving(addresses: &[SocketAddr]) {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let status = format!("serving at {}", addresses.join(", "));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The configuration is read again; [`reloaded`] must follow.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock cannot be read"),
    }
}

/// The configuration was read again: the addresses stay, what is wrong left what ran.
pub(crate) fn reloaded(wrong: bool, addresses: &[SocketAddr]) {
    if wrong {
        let status = "serving what it did: the new configuration is wrong, as the log says";
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    } else {
        serving(addresses);
    }
}

/// No more clients are taken, those that are there are served to the end.
pub(crate) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping: running streams may finish"),
    ]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager at NOTIFY_SOCKET cannot be told how it goes");
    }
}

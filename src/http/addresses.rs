//! How many connections each address has, and what those get that are too many.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;
use warp::http::StatusCode;

use super::problem::Problem;
use super::refused::{PARTING, written};
use super::request::random_id;

/// How many clients that are refused may be waited for at once, so that they can read why.
const MOST_PARTING: usize = 16;

/// How many connections each address has that has any.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    connections: HashMap<IpAddr, usize>,
    /// How many clients that were refused are still there.
    parting: usize,
    /// How many were refused since the log last said so, and when it did.
    refused: u64,
    said: Option<Instant>,
}

/// A connection that is counted, as long as this is kept.
pub(super) struct Counted {
    addresses: Addresses,
    /// `None` is one that was refused.
    key: Option<IpAddr>,
}

impl Addresses {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from an address, unless it has so many.
    pub(super) fn count(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let key = network(address);
        let mut known = self.known();
        let connections = known.connections.entry(key).or_default();
        if *connections >= most {
            return None;
        }
        *connections += 1;
        Some(self.counted(Some(key)))
    }

    fn counted(&self, key: Option<IpAddr>) -> Counted {
        Counted {
            addresses: self.clone(),
            key,
        }
    }

    /// Says to a client why it is not served, unless it awaits TLS: a handshake for each that is too many is what
    /// the limit spares. What is returned waits until it has read that.
    pub(super) fn refuse(
        &self,
        tcp: TcpStream,
        address: IpAddr,
        most: usize,
        tls: bool,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.log(address, most);
        if tls {
            return None;
        }
        // What has come is read: to hang up with it unread would take the answer away from the client.
        // Not by tokio's ways, which wait to be told that there is something.
        let _ = (&*SockRef::from(&tcp)).read(&mut [0; 8192]);
        let detail = format!(
            "there are {most} connections from this address already (server.connections_per_address); use \
             those, or wait until some have ended"
        );
        let problem = Problem::too_many(detail, Duration::from_secs(1));
        // It fits into the buffer of a new connection, or the client does without.
        let _ = SockRef::from(&tcp).send(written(&problem, &random_id(), true).as_bytes());
        let _ = SockRef::from(&tcp).shutdown(Shutdown::Write);
        let mut known = self.known();
        if known.parting >= MOST_PARTING {
            return None;
        }
        known.parting += 1;
        let counted = self.counted(None);
        Some(async move {
            let _counted = counted;
            let _ = tokio::time::timeout(PARTING, drained(&tcp)).await;
        })
    }

    /// At most one line a second.
    fn log(&self, address: IpAddr, most: usize) {
        let mut known = self.known();
        known.refused += 1;
        let is_recent = |said: Instant| said.elapsed() < Duration::from_secs(1);
        if known.said.is_some_and(is_recent) {
            return;
        }
        known.said = Some(Instant::now());
        let refused = std::mem::take(&mut known.refused);
        drop(known);
        let status = StatusCode::TOO_MANY_REQUESTS.as_u16();
        tracing::warn!(
            client = %address,
            refused,
            "{status} to a client with {most} connections already (server.connections_per_address)"
        );
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut known = self.addresses.known();
        let Some(key) = self.key else {
            known.parting -= 1;
            return;
        };
        if let Some(connections) = known.connections.get_mut(&key) {
            *connections -= 1;
            if *connections == 0 {
                known.connections.remove(&key);
            }
        }
    }
}

/// Reads what a client still sends, up to its end.
async fn drained(tcp: &TcpStream) -> io::Result<()> {
    let mut rest = [0; 8192];
    loop {
        tcp.readable().await?;
        match tcp.try_read(&mut rest) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

/// What counts as one address: of IPv6 the network that one subscriber has, a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_network_and_forgotten_when_they_end() {
        let addresses = Addresses::default();
        let count = |address: &str| addresses.count(address.parse().unwrap(), 2);
        let first = count("2001:db8::1");
        let second = count("2001:db8::ffff:0:1");
        assert!(first.is_some() && second.is_some());
        assert!(count("2001:db8::2").is_none());
        assert!(count("2001:db8:0:1::2").is_some());
        drop(first);
        assert!(count("2001:db8::2").is_some());
        let mapped = [count("::ffff:192.0.2.1"), count("192.0.2.1")];
        assert!(mapped.iter().all(Option::is_some));
        assert!(count("192.0.2.1").is_none());
        assert!(count("192.0.2.2").is_some());
        drop((second, mapped));
        assert!(addresses.known().connections.is_empty());
    }
}

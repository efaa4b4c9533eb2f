//! Where the server listens: at every address that a name has.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream, lookup_host};

/// The sockets that clients connect to, at least one.
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens at every address of `HOST:PORT`, with the same port at each; port 0 takes a free one. An
    /// address that the machine does not have is passed over, unless it is the only one: `localhost` may be
    /// `::1` where there is no IPv6.
    ///
    /// # Errors
    /// The name has no address, one of them is taken, or the machine has none of them.
    pub async fn bind(address: &str) -> io::Result<Listeners> {
        Listeners::bind_all(lookup_host(address).await?).await
    }

    /// Takes sockets that listen already, at least one; within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(sockets: Vec<std::net::TcpListener>) -> io::Result<Listeners> {
        let taken = sockets.into_iter().map(|socket| {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        });
        taken.collect::<io::Result<_>>().map(Listeners)
    }

    async fn bind_all(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Listeners> {
        let (mut listeners, mut bound): (Vec<TcpListener>, Vec<SocketAddr>) = Default::default();
        let mut missing = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for mut address in addresses {
            if let Some(first) = bound.first() {
                address.set_port(first.port());
            }
            if bound.contains(&address) {
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    bound.push(listener.local_addr()?);
                    listeners.push(listener);
                }
                Err(error) if is_missing(&error) => missing = error,
                Err(error) => return Err(error),
            }
        }
        if listeners.is_empty() {
            return Err(missing);
        }
        Ok(Listeners(listeners))
    }

    /// The addresses really bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// The next client, of any of them.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            for listener in &self.0 {
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Listeners {
        Listeners(vec![listener])
    }
}

/// Whether the machine has no such address, or no addresses of its kind.
fn is_missing(error: &io::Error) -> bool {
    let unsupported = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    unsupported || error.kind() == ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> std::vec::IntoIter<SocketAddr> {
        let parsed = texts.iter().map(|text| text.parse().unwrap());
        parsed.collect::<Vec<_>>().into_iter()
    }

    #[tokio::test]
    async fn every_address_is_listened_at_with_one_port() {
        // 192.0.2.1 is of no machine (RFC 5737).
        let all = addresses(&["192.0.2.1:0", "127.0.0.1:0", "127.0.0.2:0", "127.0.0.1:0"]);
        let listeners = Listeners::bind_all(all).await.unwrap();
        let bound = listeners.addresses().unwrap();
        let port = bound[0].port();
        assert_eq!(
            bound,
            ["127.0.0.1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
        );
        for address in bound {
            let client = TcpStream::connect(address).await.unwrap();
            let (accepted, peer) = listeners.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(accepted.local_addr().unwrap(), address);
        }
        // One that is taken is not passed over.
        let both = [format!("127.0.0.3:{port}"), format!("127.0.0.2:{port}")];
        let both = addresses(&both.each_ref().map(String::as_str));
        let error = Listeners::bind_all(both).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let none = Listeners::bind_all(addresses(&["192.0.2.1:0"])).await;
        assert_eq!(none.err().unwrap().kind(), ErrorKind::AddrNotAvailable);
        let none = Listeners::bind_all(addresses(&[])).await;
        assert_eq!(none.err().unwrap().kind(), ErrorKind::NotFound);
    }
}

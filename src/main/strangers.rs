//! Addresses that others than this machine's users can reach.

use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use flows::config::Config;
use flows::store::Finding;

use crate::{Usage, told};

/// How `flows serve` can be reached from elsewhere.
pub(crate) const WAYS_OUT: &str = "`flows token new NAME` makes a token and prints the section [[auth.tokens]] to paste; or listen at \
    127.0.0.1 behind a proxy on this machine that says who may read; or, where everybody may read everything, \
    write insecure = true into [server]";

/// How `flows demo` can be.
pub(crate) const WAY_OUT_OF_DEMO: &str =
    "let --listen name 127.0.0.1, and reach it from elsewhere through ssh -L";

/// Refuses to listen at an address that is not a loopback one, unless the configuration says who may read.
pub(crate) fn refuse_strangers(
    config: &Config,
    addresses: &[SocketAddr],
    ways_out: &str,
) -> anyhow::Result<()> {
    match public(addresses) {
        Some(address) if config.auth.is_open() && !config.server.insecure => Err(anyhow!(
            "nothing says who may read, and more than this machine can reach {address}: {ways_out}"
        ))
        .context(Usage),
        _ => Ok(()),
    }
}

/// What there is to say of who may read, before an address is known that was really bound.
pub(crate) fn said(config: &Config) -> Vec<Finding> {
    let listen = config.server.listen.parse::<SocketAddr>();
    let refused = listen.map(|address| refuse_strangers(config, &[address], WAYS_OUT));
    let refused = refused.ok().and_then(Result::err);
    let refused = refused.map(|error| Finding::Error(told(&error)));
    let tokens = config.auth.tokens.iter();
    let expired = tokens.filter_map(|token| {
        let expiry = token.expires.as_ref().filter(|expiry| expiry.is_over())?;
        let (name, text) = (&token.name, &expiry.text);
        let expired = format!("the token {name} expired at {text}, and lets nobody in");
        Some(Finding::Warning(expired))
    });
    refused.into_iter().chain(expired).collect()
}

/// Refuses to let everybody read everything where that needed a token until now, be it at a loopback address:
/// there may be a proxy in front of it.
pub(crate) fn refuse_to_open(config: &Config, running: &Config) -> anyhow::Result<()> {
    if running.auth.is_open() || !config.auth.is_open() || config.server.insecure {
        return Ok(());
    }
    Err(anyhow!(
        "nothing says who may read any more, so that everybody could: to revoke the last token, paste another \
         one in its place (`flows token new NAME`); where everybody may read everything, write insecure = true \
         into [server], or restart"
    ))
    .context(Usage)
}

/// Warns of metrics that everybody can read.
pub(crate) fn warn_of_watched(addresses: &[SocketAddr]) {
    if let Some(address) = public(addresses) {
        tracing::warn!(
            "more than this machine can reach {address} (metrics.listen), where no token is needed: it tells the \
             names of streams, and why one cannot be read"
        );
    }
}

/// Warns of tokens that others than their holders may read on their way.
pub(crate) fn warn_of_listeners(config: &Config, addresses: &[SocketAddr]) {
    let in_the_clear = config.server.tls.is_none() && !config.auth.tokens.is_empty();
    if let Some(address) = public(addresses).filter(|_| in_the_clear) {
        tracing::warn!(
            "tokens travel in the clear to {address}, unless a proxy in front of it does TLS; [server.tls] does \
             it here"
        );
    }
}

/// An address that is not a loopback one.
fn public(addresses: &[SocketAddr]) -> Option<&SocketAddr> {
    addresses.iter().find(|address| !is_loopback(address))
}

fn is_loopback(address: &SocketAddr) -> bool {
    // `::ffff:127.0.0.1` is, too.
    address.ip().to_canonical().is_loopback()
}

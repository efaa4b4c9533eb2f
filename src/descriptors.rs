//! How many files and sockets the process may open, and who gets how many of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What one connection to the database opens at most: the file, its write-ahead log, and a
/// temporary file for a sort.
const PER_CONNECTION: u64 = 3;

/// What is open besides: standard streams, the runtime's own, the listener, what SQLite shares
/// between connections, and a few that are being closed.
const RESERVED: u64 = 20;

/// Too few files may be opened to serve anything.
#[derive(Debug, thiserror::Error)]
#[error(
    "only {may_open} files and sockets may be open at once, and at least {least} are needed; `ulimit -n` raises that"
)]
pub struct TooFew {
    may_open: u64,
    least: u64,
}

/// Who may open how many.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections to the database: no more than are configured.
    pub connections: u32,
    /// Connections of clients at once.
    pub sockets: usize,
    /// What to tell the operator when that is less than was configured.
    pub warning: Option<String>,
}

/// Raises the limit of the process as far as it may be, and divides what it allows: at most half for
/// connections to the database, the rest for those of clients.
///
/// # Errors
/// There is not enough for one connection.
pub fn share(pool_size: u32) -> Result<Share, TooFew> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let may_open = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        // Some systems allow less than they state.
        Err(_) => current,
    };
    divide(may_open.unwrap_or(u64::MAX), pool_size)
}

fn divide(may_open: u64, pool_size: u32) -> Result<Share, TooFew> {
    let least = RESERVED + 2 * PER_CONNECTION;
    if may_open < least {
        return Err(TooFew { may_open, least });
    }
    let fitting = (may_open - RESERVED) / 2 / PER_CONNECTION;
    let connections = u32::try_from(fitting).map_or(pool_size, |fitting| fitting.min(pool_size));
    let sockets = may_open - RESERVED - u64::from(connections) * PER_CONNECTION;
    let warning = (connections < pool_size).then(|| {
        let needed = RESERVED + 2 * PER_CONNECTION * u64::from(pool_size);
        format!(
            "only {may_open} files and sockets may be open at once: {connections} connections to \
             the database instead of {pool_size}, and {sockets} clients; `ulimit -n {needed}` \
             allows more, a smaller database.pool_size needs less"
        )
    });
    Ok(Share {
        connections,
        sockets: usize::try_from(sockets).unwrap_or(usize::MAX),
        warning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_open_is_divided_and_no_more() {
        for may_open in 0..2000 {
            for pool_size in [1, 2, 64, 1024] {
                let Ok(share) = divide(may_open, pool_size) else {
                    assert!(may_open < RESERVED + 2 * PER_CONNECTION);
                    continue;
                };
                let opened = u64::from(share.connections) * PER_CONNECTION;
                assert_eq!(RESERVED + opened + share.sockets as u64, may_open);
                assert!((1..=pool_size).contains(&share.connections), "{share:?}");
                assert!(share.sockets as u64 >= opened, "{share:?}");
                assert_eq!(share.warning.is_some(), share.connections < pool_size);
            }
        }
        let unlimited = divide(u64::MAX, 1024).unwrap();
        assert_eq!((unlimited.connections, unlimited.warning), (1024, None));
    }
}

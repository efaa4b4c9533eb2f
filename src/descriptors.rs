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
    /// Connections to each database: no more than are configured.
    pub connections: Vec<u32>,
    /// Connections of clients at once.
    pub sockets: usize,
    /// What to tell the operator when that is less than was configured.
    pub warning: Option<String>,
}

/// Raises the limit of the process as far as it may be, and divides what it allows: at most half for
/// connections to databases, whose pools have these sizes, the rest for those of clients.
///
/// # Errors
/// There is not enough for one connection to each database.
pub fn share(pool_sizes: &[u32]) -> Result<Share, TooFew> {
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
    divide(may_open.unwrap_or(u64::MAX), pool_sizes)
}

fn divide(may_open: u64, pool_sizes: &[u32]) -> Result<Share, TooFew> {
    let databases = pool_sizes.len() as u64;
    let least = RESERVED + 2 * PER_CONNECTION * databases;
    if may_open < least {
        return Err(TooFew { may_open, least });
    }
    let all: u64 = pool_sizes.iter().copied().map(u64::from).sum();
    let fitting = all.min((may_open - RESERVED) / 2 / PER_CONNECTION);
    // Each database gets one, and of the others as many as its pool is large.
    let others = |pool_size: u32| {
        let wanted = u64::from(pool_size) - 1;
        let others = wanted * (fitting - databases) / (all - databases).max(1);
        // No more than was wanted.
        1 + u32::try_from(others).unwrap_or(pool_size)
    };
    let connections: Vec<u32> = pool_sizes.iter().copied().map(others).collect();
    let opened: u64 = connections.iter().copied().map(u64::from).sum();
    let sockets = may_open - RESERVED - opened * PER_CONNECTION;
    let warning = (opened < all).then(|| {
        let needed = RESERVED + 2 * PER_CONNECTION * all;
        let (databases, key) = match pool_sizes {
            [_] => ("the database", "database.pool_size"),
            _ => ("the databases", "pool_size"),
        };
        format!(
            "only {may_open} files and sockets may be open at once: {opened} connections to \
             {databases} instead of {all}, and {sockets} clients; `ulimit -n {needed}` allows more, a \
             smaller {key} needs less"
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
            for pools in [
                &[1][..],
                &[2],
                &[64],
                &[1024],
                &[1, 1],
                &[64, 64],
                &[1, 1024, 7],
            ] {
                let databases = pools.len() as u64;
                let Ok(share) = divide(may_open, pools) else {
                    assert!(may_open < RESERVED + 2 * PER_CONNECTION * databases);
                    continue;
                };
                let opened: u32 = share.connections.iter().sum();
                let held = u64::from(opened) * PER_CONNECTION;
                assert_eq!(RESERVED + held + share.sockets as u64, may_open);
                assert_eq!(share.connections.len(), pools.len());
                for (connections, pool) in share.connections.iter().zip(pools) {
                    assert!((1..=*pool).contains(connections), "{share:?}");
                }
                assert!(share.sockets as u64 >= held, "{share:?}");
                let all: u32 = pools.iter().sum();
                assert_eq!(share.warning.is_some(), opened < all);
            }
        }
        let unlimited = divide(u64::MAX, &[1024, 3]).unwrap();
        assert_eq!(
            (unlimited.connections, unlimited.warning),
            (vec![1024, 3], None)
        );
        let shared = divide(RESERVED + 6 * PER_CONNECTION, &[64, 64, 1]).unwrap();
        assert_eq!(shared.connections, [1, 1, 1]);
        let shared = divide(RESERVED + 20 * PER_CONNECTION, &[60, 20]).unwrap();
        assert_eq!(shared.connections, [7, 2]);
    }
}

//! Serving until a signal, and taking the configuration anew at SIGHUP.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use flows::config::{Config, Database};
use flows::descriptors::{self, Share};
use flows::http::listeners::Listeners;
use flows::http::{App, server, tls};
use flows::log;
use flows::store::{self, Finding, Store};
use flows_formats::Registry;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::strangers::{
    WAYS_OUT, refuse_strangers, refuse_to_open, warn_of_listeners, warn_of_watched,
};
use crate::{Signals, Usage, service, told};

/// Reads the configuration.
type Load = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

/// Checks, then serves until a signal.
pub(crate) fn serve_checked(load: Load) -> anyhow::Result<()> {
    let sockets = service::sockets()?;
    let config = load()?;
    log::start(config.log.level, config.log.format).context("cannot start the log")?;
    let started = Started::new(&config)?;
    let hangups = started.hangups()?;
    let Checked {
        mut errors,
        warnings,
    } = Checked::of(&config);
    if let Some(last) = errors.pop() {
        for error in errors {
            let _ = writeln!(io::stderr(), "flows: {error}");
        }
        return Err(anyhow!(last)).context(Usage);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let scheme = config.server.tls.as_ref().map_or("http", |_| "https");
    Bound::new(started, &config, sockets, WAYS_OUT)?.serve(config, Some((load, hangups)), |addresses| {
        let urls = urls(scheme, addresses);
        if let Err(error) = writeln!(io::stdout(), "listening on {urls}") {
            tracing::warn!(%error, "listening on {urls}, which cannot be written to standard output");
        }
        Ok(())
    })
}

fn urls(scheme: &str, addresses: &[SocketAddr]) -> String {
    let urls = addresses
        .iter()
        .map(|address| format!("{scheme}://{address}"));
    urls.collect::<Vec<_>>().join(", ")
}

/// What there is to say against a configuration and its databases.
struct Checked {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Checked {
    fn of(config: &Config) -> Checked {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let check = |(database, streams): (_, Vec<_>)| store::open(database).check(&streams);
        let tls = config.server.tls.iter().map(tls::check);
        for finding in tls.chain(config.served().into_iter().flat_map(check)) {
            match finding {
                Finding::Fine(_) => {}
                Finding::Warning(text) => warnings.push(text),
                Finding::Error(text) => errors.push(text),
            }
        }
        Checked { errors, warnings }
    }
}

/// A server that does not have its address yet.
pub(crate) struct Started {
    runtime: Runtime,
    share: Share,
}

impl Started {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Started> {
        let databases = config.served();
        let pool_sizes = databases.iter().map(|(database, _)| database.pool_size);
        let share = descriptors::share(&pool_sizes.collect::<Vec<_>>())?;
        // Each connection keeps a thread that may block; no other work waits for one.
        let threads = usize::try_from(share.connections.iter().sum::<u32>())? + 16;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(threads)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        Ok(Started { runtime, share })
    }

    /// The SIGHUPs from now on, which end the process no more.
    fn hangups(&self) -> io::Result<Signal> {
        let _inside = self.runtime.enter();
        signal(SignalKind::hangup())
    }
}

/// A server that has its address, and does not serve yet.
pub(crate) struct Bound {
    runtime: Runtime,
    listeners: Listeners,
    /// `metrics.listen`, if there is one.
    watched: Option<Listeners>,
    share: Share,
}

impl Bound {
    /// Takes the sockets if there are any, else those of the configured address, if not everybody is let in;
    /// errors name these ways out.
    pub(crate) fn new(
        started: Started,
        config: &Config,
        sockets: Vec<TcpListener>,
        ways_out: &str,
    ) -> anyhow::Result<Bound> {
        let Started { runtime, share } = started;
        let address = &config.server.listen;
        let listeners = runtime.block_on(async {
            if !sockets.is_empty() {
                return Listeners::take(sockets).context("cannot take the sockets of LISTEN_FDS");
            }
            Listeners::bind(address).await.with_context(|| {
                format!("cannot listen on {address}; --listen names another address, port 0 takes a free one")
            })
        })?;
        refuse_strangers(config, &listeners.addresses()?, ways_out)?;
        let watched = match &config.metrics.listen {
            None => None,
            Some(address) => {
                let bound = runtime.block_on(Listeners::bind(address));
                Some(bound.with_context(|| {
                    format!("cannot listen on {address}; metrics.listen names another address, port 0 takes a free one")
                })?)
            }
        };
        Ok(Bound {
            runtime,
            listeners,
            watched,
            share,
        })
    }

    /// Serves until a signal; tells `listening` the addresses. With a way to `load` it, takes the
    /// configuration anew at SIGHUP.
    pub(crate) fn serve(
        self,
        config: Config,
        load: Option<(Load, Signal)>,
        listening: impl FnOnce(&[SocketAddr]) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(warning) = self.share.warning {
            tracing::warn!("{warning}");
        }
        let formats = Registry::load()?;
        let mut pool_sizes = self.share.connections.into_iter();
        let store = |database: &Database| -> Arc<dyn Store> {
            store::open(&Database {
                pool_size: pool_sizes.next().unwrap_or(database.pool_size),
                ..database.clone()
            })
        };
        self.runtime.block_on(async {
            let mut signals = Signals::new()?;
            outgrow_the_log()?;
            let app = App::new(&config, formats, store)?;
            let (apps, current) = watch::channel(Arc::new(app));
            let addresses = self.listeners.addresses()?;
            warn_of_listeners(&config, &addresses);
            let reloading = load.map(|(load, hangups)| {
                tokio::spawn(reload(hangups, load, config, apps, addresses.clone()))
            });
            if let Some(watched) = self.watched {
                let addresses = watched.addresses()?;
                tracing::info!("metrics and health at {}", urls("http", &addresses));
                warn_of_watched(&addresses);
                tokio::spawn(server::watch(watched, current.clone()));
            }
            listening(&addresses)?;
            service::serving(&addresses);
            let stop = async {
                signals.next().await;
                // One that is under way is not to say that the server is ready again.
                if let Some(reloading) = reloading {
                    reloading.abort();
                }
                service::stopping();
                tokio::spawn(async move {
                    signals.next().await;
                    tracing::warn!("a second signal: quitting at once");
                    log::flush();
                    std::process::exit(1);
                });
            };
            server::serve(self.listeners, self.share.sockets, current, stop).await;
            Ok::<_, anyhow::Error>(())
        })?;
        // Scans whose client was cut off end within milliseconds.
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }
}

/// Lets a log that has reached the size that files may have fail, instead of ending the process.
fn outgrow_the_log() -> io::Result<()> {
    // A signal that was once watched never takes its default action again.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Takes the configuration anew at each SIGHUP. What is wrong with it leaves what runs.
async fn reload(
    mut hangups: Signal,
    load: Load,
    mut running: Config,
    apps: watch::Sender<Arc<App>>,
    addresses: Vec<SocketAddr>,
) {
    let (load, addresses) = (Arc::new(load), Arc::new(addresses));
    while hangups.recv().await.is_some() {
        service::reloading();
        let (load, before, app) = (
            Arc::clone(&load),
            running.clone(),
            Arc::clone(&apps.borrow()),
        );
        let listening = Arc::clone(&addresses);
        // It reads files, and the databases.
        let changed =
            tokio::task::spawn_blocking(move || changed(&load, &before, &app, &listening)).await;
        let changed = changed.map_err(anyhow::Error::from).flatten();
        let wrong = changed.is_err();
        match changed {
            Ok((config, app)) => {
                log::set_level(config.log.level);
                apps.send_replace(Arc::new(app));
                tracing::info!(
                    streams = config.streams.len(),
                    "SIGHUP: the configuration was read again"
                );
                warn_of_listeners(&config, &addresses);
                running = config;
            }
            Err(error) => {
                let error = told(&error);
                tracing::error!("SIGHUP: the configuration stays as it was: {error}");
            }
        }
        service::reloaded(wrong, &addresses);
    }
}

/// What the configuration is now; warns of what only a restart changes.
fn changed(
    load: &Load,
    running: &Config,
    app: &App,
    addresses: &[SocketAddr],
) -> anyhow::Result<(Config, App)> {
    let mut config = load()?;
    refuse_strangers(&config, addresses, WAYS_OUT)?;
    refuse_to_open(&config, running)?;
    let kept = config.keep(running, app.databases());
    let app = app.changed(&config, Registry::load()?)?;
    let Checked {
        mut errors,
        warnings,
    } = Checked::of(&config);
    if !errors.is_empty() {
        // A database that is unwell without any change does not keep a token from being revoked.
        let known = Checked::of(running).errors;
        errors.retain(|error| {
            let is_known = known.contains(error);
            if is_known {
                tracing::warn!("{error}");
            }
            !is_known
        });
    }
    if !errors.is_empty() {
        return Err(anyhow!(errors.join("; ")));
    }
    for key in kept {
        tracing::warn!("SIGHUP: {key} has changed, which takes a restart");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok((config, app))
}

//! The command `flows`.

#![forbid(unsafe_code)]

#[path = "main/serve.rs"]
mod serve;
#[path = "main/service.rs"]
mod service;
#[path = "main/strangers.rs"]
mod strangers;
#[path = "main/token.rs"]
mod token;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use flows::config::{self, ADDRESS, Config, DEFAULT_FILE, is_address};
use flows::definition::Stream;
use flows::http::tls;
use flows::lanl::generate::Lines;
use flows::lanl::import::{ImportError, Imported, Interrupt, Source, import};
use flows::listing;
use flows::log::{self, FORMATS, LEVELS};
use flows::pull::{Bearer, Pull, PullError};
use flows::selection::{Order, PARAMETERS};
use flows::store::{self, Finding, Store};
use flows_formats::Registry;
use indicatif::{ProgressBar, ProgressStyle};
use serve::{Bound, Started, serve_checked};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

/// Streams time-stamped records out of a database over HTTP, in the format the client names.
///
/// Exit codes: 0 fine, 2 wrong usage or configuration, 75 try later, 1 anything else.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the configured streams until SIGINT or SIGTERM
    ///
    /// Checks configuration and database first, as `flows check` does. The address really bound (those, of a
    /// name that has several) is the one line on standard output; the log goes to standard error. At the first signal running
    /// streams get server.shutdown_seconds to finish; a second one quits at once. SIGHUP reads the configuration
    /// again: streams, who may read, compression, log.level and [server] but for its address; what is wrong leaves
    /// what runs.
    /// Under a service manager such as systemd, TCP sockets that it passes (LISTEN_FDS) take the place of the
    /// address, and it is told of start, reload and stop (NOTIFY_SOCKET).
    Serve {
        #[command(flatten)]
        configured: Configured,
        /// Listen here, instead of at server.listen; port 0 takes a free one, a name all its addresses
        #[arg(long, value_name = "ADDR", value_parser = address)]
        listen: Option<String>,
        #[command(flatten)]
        logged: Logged,
    },
    /// Load LANL's flows into the table of the stream `flows`
    ///
    /// Each line: time,duration,src_comp,src_port,dst_comp,dst_port,protocol,packet_count,byte_count.
    /// Lines that are not flows go to SOURCE.rejected, with their number and the reason. All or
    /// nothing: interrupted, even killed, the database is as it was before.
    Import {
        /// A file, gzipped or not, or - for standard input
        source: PathBuf,
        #[command(flatten)]
        configured: Configured,
        /// Add to a table that has records, continuing their numbers
        #[arg(long)]
        append: bool,
    },
    /// Print synthetic flows in the shape of LANL's lines
    Generate {
        /// How many lines
        #[arg(long, value_name = "N")]
        rows: u64,
        /// The same seed makes the same lines
        #[arg(long, value_name = "S", default_value_t = 0)]
        seed: u64,
    },
    /// Make a database of synthetic flows, serve it, and show how to ask for them
    ///
    /// The database is in a temporary folder, and gone when the demo stops.
    Demo {
        /// How many records
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        rows: u64,
        /// Listen here, such as localhost:5001; port 0 takes a free one
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000", value_parser = address)]
        listen: String,
        #[command(flatten)]
        logged: Logged,
    },
    /// List the formats that clients can name, or tell all about one
    Formats {
        /// Tell all about this one, its options too
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Pull what is new of a stream into files, each record once
    ///
    /// Each run goes on where the one before stopped, killed or not, until nothing is new. Each file is
    /// one complete reply, DIR/STREAM-NUMBER-FROM-TO.EXTENSION, named after its number, so that names sort in
    /// the order of pulling, and after the positions that it lies between. Exit codes: 0 done, 75 try later
    /// (the server is gone or busy, another run is pulling, the disk is full), 1 broken (a record cannot be
    /// sent, or the table ends before what was pulled already), 2 wrong usage, or not allowed (401, 403, a
    /// certificate that is not trusted).
    Pull {
        /// The stream, such as https://HOST:5000/api/v1/stream/flows
        url: String,
        /// The folder for the files, which is made if there is none
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The format of the files
        #[arg(long, value_name = "NAME", default_value = "ndjson")]
        format: String,
        /// The most records of a file
        #[arg(long, value_name = "N", default_value_t = 1_000_000,
              value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
        max_rows: u64,
        /// Only records that match this, such as dst_port=445 or byte_count=gt.1000; may be repeated
        #[arg(long, value_name = "COLUMN=FILTER", value_parser = filter)]
        filter: Vec<(String, String)>,
        /// Only these columns, such as time,src_comp
        #[arg(long, value_name = "LIST")]
        columns: Option<String>,
        /// time, or id for what arrives late in tables whose ids only grow
        #[arg(long, value_name = "ORDER", default_value = "time", value_parser = order)]
        order: Order,
        /// The file whose first line is the token to show; without it, the environment's FLOWS_TOKEN if there is one
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Trust the certificates in this file (PEM), in the place of the system's
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// Make a token, which lets its holder read
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print a configuration for a database: flows init app.db > flows.toml
    ///
    /// A section for every table and view that can be streamed, with its time, its id and the types of its
    /// columns, found from the schema and from a sample of both ends and the middle; comments say what was
    /// guessed, and why a table is not streamed. Columns that look like secrets are commented out. Read it
    /// before you serve it. Exit code 2 when nothing can be streamed.
    Init {
        /// An SQLite file, or the URL of a PostgreSQL database, which is only read
        database: String,
    },
    /// Say what every stream will serve, or what is wrong and how to fix it
    ///
    /// Looks at the schema and at a sample of both ends and the middle of every table: what is not as it is
    /// declared, and what to declare instead. Exit code 2 when a stream cannot be served, or with --all-rows
    /// has a record that would break it.
    Check {
        #[command(flatten)]
        configured: Configured,
        /// Read every record of every stream, and list those that would break it, with their ids
        #[arg(long)]
        all_rows: bool,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Print a new token, and the section of the configuration that lets its holder read
    ///
    /// The token is the first line on standard output, and is printed this once: whoever is to read gets it, and
    /// sends it in the header Authorization: Bearer TOKEN. The section has its hash; paste it into the
    /// configuration file, and send the server SIGHUP. Nothing is read or written.
    New(token::New),
}

#[derive(clap::Args)]
struct Logged {
    /// What the log says, instead of log.level: error, warn, info or debug
    #[arg(long, value_name = "LEVEL", value_parser = |name: &str| named(name, &LEVELS))]
    log_level: Option<LevelFilter>,
    /// What a line of the log is, instead of log.format: text or json
    #[arg(long, value_name = "FORMAT", value_parser = |name: &str| named(name, &FORMATS))]
    log_format: Option<log::Format>,
}

impl Logged {
    /// Replaces what the configuration says.
    fn replace(&self, log: &mut config::Log) {
        log.level = self.log_level.unwrap_or(log.level);
        log.format = self.log_format.unwrap_or(log.format);
    }
}

/// One of these, by its name.
fn named<T: Copy>(name: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(known, _)| *known == name);
    found.map(|(_, meant)| *meant).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        format!("it must be {}", names.join(" or "))
    })
}

#[derive(clap::Args)]
struct Configured {
    /// Read the configuration from here [default: config/flows.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use this SQLite file, or PostgreSQL database (postgres://…), instead of [database]'s; [databases.NAME]
    /// keep theirs
    #[arg(long, value_name = "FILE|URL")]
    database: Option<String>,
}

impl Configured {
    /// The file to read, if there is one.
    fn file(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
        self.config.clone().or_else(default)
    }

    fn load(&self) -> anyhow::Result<Config> {
        self.read(self.file().as_deref())
    }

    fn read(&self, file: Option<&Path>) -> anyhow::Result<Config> {
        let mut config = Config::load(file, &Registry::load()?).context(Usage)?;
        if let Some(place) = &self.database {
            let is_used = config
                .streams
                .iter()
                .any(|stream| stream.database.is_none());
            if !is_used {
                let text = "--database is for the streams of [database], and there is none: each names another";
                return Err(anyhow!(text)).context(Usage);
            }
            let replaced = config.database.replace(place);
            replaced
                .map_err(|reason| anyhow!("--database: {reason}"))
                .context(Usage)?;
        }
        Ok(config)
    }
}

fn address(text: &str) -> Result<String, String> {
    let address = is_address(text).then(|| text.to_owned());
    address.ok_or_else(|| format!("it must be {ADDRESS}"))
}

fn filter(text: &str) -> Result<(String, String), String> {
    let (column, filter) = text.split_once('=').ok_or("it must be COLUMN=FILTER")?;
    if PARAMETERS.contains(&column) {
        return Err(format!(
            "{column} is not a column; it must be COLUMN=FILTER"
        ));
    }
    let bound = filter
        .strip_prefix("lt.")
        .or_else(|| filter.strip_prefix("lte."));
    if let Some(bound) = bound.filter(|bound| *bound == "now" || bound.starts_with("now-")) {
        return Err(format!(
            "records that are not yet before {bound} would be passed over, and never pulled: leave it out"
        ));
    }
    Ok((column.to_owned(), filter.to_owned()))
}

fn order(text: &str) -> Result<Order, String> {
    let found = Order::ALL.into_iter().find(|order| order.name() == text);
    found.ok_or_else(|| "it must be time or id".to_owned())
}

/// Marks an error as one of usage or configuration: exit code 2.
#[derive(Debug)]
struct Usage;

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("usage")
    }
}

/// What went wrong, and why; the mark is no part of it.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().skip(error.is::<Usage>().into());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn main() -> ExitCode {
    let ran = run(Arguments::parse().command);
    log::flush();
    let Err(error) = ran else {
        return ExitCode::SUCCESS;
    };
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    let usage = error.is::<Usage>();
    // A file, or a URL, may have a token where none belongs.
    let _ = writeln!(
        io::stderr(),
        "flows: {}",
        flows::token::redacted(&told(&error))
    );
    if error.downcast_ref().is_some_and(PullError::is_temporary) {
        // "Temporary failure" to cron and mail alike (sysexits.h).
        ExitCode::from(75)
    } else if usage {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve {
            configured,
            listen,
            logged,
        } => {
            // Once found, a file that is gone is an error, and not the defaults.
            let file = configured.file();
            serve_checked(Box::new(move || {
                let mut config = configured.read(file.as_deref())?;
                if let Some(listen) = &listen {
                    config.server.listen.clone_from(listen);
                }
                logged.replace(&mut config.log);
                Ok(config)
            }))
        }
        Command::Import {
            source,
            configured,
            append,
        } => {
            let config = configured.load()?;
            import_file(&source, &config, append)
        }
        Command::Generate { rows, seed } => {
            // A larger buffer than stdout's own, whose lines would be written one by one.
            io::copy(
                &mut Lines::new(rows, seed),
                &mut io::BufWriter::new(io::stdout().lock()),
            )?;
            Ok(())
        }
        Command::Demo {
            rows,
            listen,
            logged,
        } => demo(rows, listen, &logged),
        Command::Formats { name, json } => formats(name.as_deref(), json),
        Command::Pull {
            url,
            to,
            format,
            max_rows,
            filter,
            columns,
            order,
            token_file,
            ca_file,
        } => pull(Pull {
            url,
            folder: to,
            format: listing::named(&Registry::load()?, &format).context(Usage)?,
            max_rows,
            order,
            columns,
            filters: filter,
            bearer: bearer(token_file.as_deref()).map_err(of_pull)?,
            ca_file,
        }),
        Command::Token {
            command: TokenCommand::New(new),
        } => new.print(),
        Command::Init { database } => init(&database),
        Command::Check {
            configured,
            all_rows,
        } => report(&configured.load()?, all_rows),
    }
}

/// Shows what there is to say about configuration and database.
fn report(config: &Config, all_rows: bool) -> anyhow::Result<()> {
    let mut errors = 0;
    let mut show = |findings: Vec<Finding>| -> io::Result<()> {
        let mut out = io::stdout().lock();
        for finding in findings {
            match finding {
                Finding::Fine(text) => writeln!(out, "{text}")?,
                Finding::Warning(text) => writeln!(out, "warning: {text}")?,
                Finding::Error(text) => {
                    errors += 1;
                    writeln!(out, "error: {text}")?;
                }
            }
        }
        Ok(())
    };
    show(strangers::said(config))?;
    show(config.server.tls.iter().map(tls::check).collect())?;
    for (database, streams) in config.served() {
        let place = database.place();
        match &database.name {
            None => writeln!(io::stdout(), "database {place}")?,
            Some(name) => writeln!(io::stdout(), "database {name}: {place}")?,
        }
        let store = store::open(database);
        show(store.check(&streams))?;
        for stream in streams.iter().filter(|_| all_rows) {
            show(every_record(&*store, stream))?;
        }
    }
    match errors {
        0 => Ok(()),
        1 => Err(anyhow!(
            "1 error; it is on standard output, with the way to fix it"
        )),
        _ => Err(anyhow!(
            "{errors} errors; they are on standard output, with ways to fix them"
        )),
    }
    .context(Usage)
}

/// Reads every record of a stream, with progress.
fn every_record(store: &dyn Store, stream: &Arc<Stream>) -> Vec<Finding> {
    let bar = progress_bar();
    bar.set_message(format!("of {}", stream.name));
    bar.set_style(progress_style(
        "{human_pos} records {msg} {spinner}, {elapsed}",
    ));
    let findings = store.check_all_rows(stream, &mut |read, total| {
        if let Some(total) = total.filter(|_| bar.length().is_none()) {
            bar.set_length(total);
            let template =
                "{human_pos} of {human_len} records {msg} {wide_bar}, {elapsed}, {eta} left";
            bar.set_style(progress_style(template));
        }
        bar.set_position(read);
    });
    bar.finish_and_clear();
    findings
}

/// Prints a configuration for a database that nobody has described.
fn init(database: &str) -> anyhow::Result<()> {
    let formats = Registry::load()?;
    let mut config = Config::parse("", &formats)?;
    let replaced = config.database.replace(database);
    replaced.map_err(|reason| anyhow!(reason)).context(Usage)?;
    let written = flows::init::configuration(&config.database, &formats);
    let written = written.map_err(|error| anyhow!(error)).context(Usage)?;
    io::stdout().write_all(written.text.as_bytes())?;
    if written.streams == 0 {
        let place = config.database.place();
        return Err(anyhow!(
            "nothing in {place} can be streamed as it is; the comments on standard output say why, and what \
             would help"
        ))
        .context(Usage);
    }
    Ok(())
}

fn formats(name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let listed = listing::formats(&Registry::load()?, name, json).context(Usage)?;
    io::stdout().write_all(listed.as_bytes())?;
    Ok(())
}

/// SIGINT and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals(
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn demo(rows: u64, listen: String, logged: &Logged) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("flows-demo-").tempdir()?;
    let mut config = Config::load(None, &Registry::load()?).context(Usage)?;
    (config.database.path, config.database.url) = (folder.path().join("demo.db"), None);
    config.server.listen = listen;
    logged.replace(&mut config.log);
    config.server.shutdown = Duration::ZERO;
    // Before all the records are made for nothing.
    let bound = Bound::new(
        Started::new(&config)?,
        &config,
        Vec::new(),
        strangers::WAY_OUT_OF_DEMO,
    )?;
    let bar = progress_bar();
    let lines = bar.wrap_read(Lines::new(rows, 0));
    let source = Source::new("the generator", folder.path().join("rejected"), lines)?;
    import_interruptibly(source, &config, false, bar)?;
    log::start(config.log.level, config.log.format).context("cannot start the log")?;
    bound.serve(config, None, |addresses| {
        let Some(address) = addresses.first() else {
            return Ok(());
        };
        let url = format!("http://{address}/api/v1/stream/flows");
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{rows} synthetic records, until Ctrl-C, at http://{address}\ntry:"
        )?;
        writeln!(out, "  curl '{url}?limit=3'")?;
        writeln!(
            out,
            "  curl '{url}?scanned_after=0&scanned_before=2505600&limit=3&format=xml'"
        )?;
        writeln!(out, "  curl '{url}.csv' | tail -n 3")?;
        out.flush()
    })
}

fn import_file(source: &Path, config: &Config, append: bool) -> anyhow::Result<()> {
    let bar = progress_bar();
    let source =
        Source::open(source, &bar).with_context(|| format!("cannot read {}", source.display()))?;
    if bar.length().is_some() {
        let template = "{bytes} of {total_bytes} {wide_bar} {msg}, {elapsed}, {eta} left";
        bar.set_style(progress_style(template));
    }
    let Imported {
        ids: (before, last),
        rejected,
        rejected_file,
    } = import_interruptibly(source, config, append, bar)?;
    let stream = config.stream(IMPORTED);
    let database = stream.map_or(&config.database, |stream| config.database_of(stream));
    let mut out = io::stdout().lock();
    write!(out, "kept {} lines in {}", last - before, database.place())?;
    if last > before {
        write!(out, " (ids {} to {last})", before + 1)?;
    }
    match rejected {
        0 => writeln!(out, ", rejected none")?,
        _ => writeln!(
            out,
            ", rejected {rejected} (see {})",
            rejected_file.display()
        )?,
    }
    Ok(())
}

/// The stream that LANL's flows are imported into.
const IMPORTED: &str = "flows";

/// Imports into the stream `flows`, until a signal.
fn import_interruptibly(
    source: Source,
    config: &Config,
    append: bool,
    bar: ProgressBar,
) -> anyhow::Result<Imported> {
    let stream = config
        .stream(IMPORTED)
        .ok_or_else(|| anyhow!("the configuration has no stream called flows to import into"))
        .context(Usage)?;
    let (stream, database) = (Arc::clone(stream), config.database_of(stream).clone());
    let interrupt = Interrupt::default();
    let interrupted = interrupt.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let imported = runtime.block_on(async {
        let mut signals = Signals::new().context("cannot watch for signals")?;
        let mut import = tokio::task::spawn_blocking(move || {
            let imported = import(source, &database, &stream, append, &bar, &interrupted);
            bar.finish_and_clear();
            imported
        });
        tokio::select! {
            imported = &mut import => return anyhow::Ok(imported??),
            () = signals.next() => {}
        }
        if !interrupt.interrupt() {
            // It is being committed: what comes of it is known when it has ended.
            return Ok(import.await??);
        }
        // It may wait for its source for ever.
        let _ = tokio::time::timeout(Duration::from_secs(2), import).await;
        Err(ImportError::Interrupted.into())
    });
    runtime.shutdown_background();
    match imported {
        Err(error)
            if matches!(
                error.downcast_ref(),
                Some(ImportError::OtherColumns { .. } | ImportError::NoTable { .. })
            ) =>
        {
            Err(error).context(Usage)
        }
        imported => imported,
    }
}

/// The token in a file, or else in the environment, if there is one.
fn bearer(file: Option<&Path>) -> Result<Option<Bearer>, PullError> {
    let Some(file) = file else {
        return Bearer::of_environment();
    };
    let (bearer, warning) = Bearer::of_file(file)?;
    if let Some(warning) = warning {
        let _ = writeln!(io::stderr(), "flows: warning: {warning}");
    }
    Ok(Some(bearer))
}

/// Marks what whoever runs it has to change.
fn of_pull(error: PullError) -> anyhow::Error {
    let is_usage = error.is_usage();
    let error = anyhow::Error::from(error);
    if is_usage {
        error.context(Usage)
    } else {
        error
    }
}

/// Pulls, and says what came of it in one line.
fn pull(mut pull: Pull) -> anyhow::Result<()> {
    pull.url.truncate(pull.url.trim_end_matches('/').len());
    let name = pull.url.rsplit('/').next().unwrap_or_default();
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_named = !name.is_empty() && name.chars().all(in_name);
    let has_scheme = ["http://", "https://"]
        .iter()
        .any(|scheme| pull.url.starts_with(scheme));
    if !has_scheme || pull.url.contains(['?', '#']) || !is_named {
        return Err(anyhow!(
            "{} is not a stream's URL; it must be https://HOST:PORT/api/v1/stream/NAME (or http://), \
             without an extension or a query (--format, --filter, --columns and --order choose)",
            pull.url
        ))
        .context(Usage);
    }
    let bar = progress_bar();
    let pulled = pull.run(&bar);
    bar.finish_and_clear();
    let pulled = pulled.map_err(of_pull)?;
    let folder = pull.folder.display();
    let position = match pulled.position {
        Some(position) => format!("up to {position}"),
        None => "the stream is empty".to_owned(),
    };
    match pulled.files {
        0 => writeln!(io::stdout(), "nothing new in {folder}, {position}")?,
        files => {
            let s = if files == 1 { "" } else { "s" };
            let bytes = pulled.bytes;
            writeln!(
                io::stdout(),
                "pulled {files} file{s}, {bytes} bytes, into {folder}, {position}"
            )?;
        }
    }
    Ok(())
}

/// Shows the bytes of the source and the rows made of them, on a terminal only.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    bar.set_style(progress_style("{bytes} {spinner} {msg}, {elapsed}"));
    bar
}

/// The style of a template; tests that import on a terminal show that all are right.
fn progress_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}

//! Clients that mean harm, as many as they like, beside one that does not: it is served, memory is bounded,
//! and all that was taken is given back.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};
use tempfile::TempDir;

use crate::harness::{
    FLOWS, PATIENCE, Reply, Server, chunk, folder, generated, is_long, wait_until,
};

/// More than any client should wait, were the machine busy with other tests: only a hang takes longer.
const SANE: Duration = Duration::from_secs(20);

/// How long each abuse goes on.
fn a_while() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 3 })
}

/// One of several tests at a time: each takes the whole machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Standard error, past the tests' runner, which keeps what macros print to itself.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("abuse: {line}\n").as_bytes());
}

/// How many of so many connections this process may open; raises the limit as far as it may.
fn allowed(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // The others are of tests that run at the same time.
    let most = usize::try_from(current / 2).unwrap_or(usize::MAX);
    if most < wanted {
        say(&format!(
            "{most} connections instead of {wanted}: `ulimit -n` is {current}"
        ));
    }
    wanted.min(most)
}

/// A server under abuse.
struct Abused {
    server: Server,
    sockets: usize,
    _folder: TempDir,
}

impl Abused {
    /// Serves so many generated records.
    fn new(rows: u64, configuration: &str) -> Abused {
        let folder = folder();
        let database = generated(folder.path(), rows);
        let server = Server::with(folder.path(), &database, configuration);
        let sockets = files(&server).0;
        Abused {
            server,
            sockets,
            _folder: folder,
        }
    }

    /// Asks for small documents, each on a connection of its own, while `abuse` runs; says how long they took,
    /// and how much memory the server had meanwhile, in MiB.
    fn beside<T>(&self, what: &str, abuse: impl FnOnce() -> T) -> (T, u64) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let good = scope.spawn(|| {
                let (mut took, mut memory) = (Vec::new(), 0);
                while !over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let reply = self.server.get(&format!("{FLOWS}.csv?limit=3"));
                    took.push(start.elapsed());
                    reply.is_complete();
                    memory = memory.max(self.server.anonymous_mib());
                    thread::sleep(Duration::from_millis(5));
                }
                (took, memory)
            });
            let result = abuse();
            over.store(true, Ordering::Relaxed);
            let (mut took, memory) = good.join().unwrap();
            took.sort();
            let (median, p99) = (took[took.len() / 2], took[(took.len() - 1) * 99 / 100]);
            let most = took[took.len() - 1];
            say(&format!(
                "{what}: {} small requests beside it: median {median:.1?}, p99 {p99:.1?}, at most {most:.1?}; \
                 {memory} MiB",
                took.len()
            ));
            assert!(p99 < SANE, "{what}: {p99:?}");
            (result, memory)
        })
    }

    /// All that was taken is given back, and whoever comes now is served.
    fn recovers(&self) {
        let pool = 64;
        wait_until("all sockets are closed", || {
            let (sockets, others) = files(&self.server);
            // The pool keeps its connections for a while, each with three files.
            sockets <= self.sockets && others <= 3 * pool + 20
        });
        let cores = thread::available_parallelism().unwrap().get();
        assert!(threads(&self.server) <= pool + 16 + cores + 10);
        // Every connection of the pool is free: so many streams run at once as before.
        let path = format!("{FLOWS}.csv");
        let whole = self.server.bytes(&path).len();
        let readers: Vec<_> = (0..48)
            .map(|_| {
                let mut reader = BufReader::new(self.server.ask(&path));
                assert_eq!(Reply::head(&mut reader).status, 200);
                reader
            })
            .collect();
        let ended = readers
            .into_iter()
            .map(|reader| thread::spawn(move || body(reader)));
        for ended in ended.collect::<Vec<_>>() {
            assert_eq!(ended.join().unwrap(), Some(whole));
        }
    }
}

/// How many bytes a chunked body has; `None` when it is broken.
fn body(mut reader: BufReader<TcpStream>) -> Option<usize> {
    let mut bytes = 0;
    loop {
        let chunk = chunk(&mut reader)?;
        if chunk.is_empty() {
            return Some(bytes);
        }
        bytes += chunk.len();
    }
}

/// How many sockets, and how many other files, a server has open.
fn files(server: &Server) -> (usize, usize) {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    // One may be closed before it is looked at.
    let names = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let is_socket = |name: &std::path::PathBuf| name.to_string_lossy().starts_with("socket:");
    let (sockets, others): (Vec<_>, Vec<_>) = names.partition(is_socket);
    (sockets.len(), others.len())
}

fn threads(server: &Server) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid()));
    threads.unwrap().count()
}

/// One of many addresses of this machine.
fn address(at: usize, addresses: usize) -> [u8; 4] {
    let at = u8::try_from(at % addresses).unwrap();
    [127, 7, 7, at + 1]
}

/// A connection that is begun, and not waited for.
fn begun(server: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&server.into());
    TcpStream::from(socket)
}

/// Holds so many connections for some time, each with a head that grows by a byte a second; who is hung up on
/// comes again.
fn slowloris(server: SocketAddr, connections: usize, addresses: usize) -> usize {
    let end = Instant::now() + a_while();
    let mut hung_up = 0;
    let mut held: Vec<_> = (0..connections)
        .map(|at| begun(server, address(at, addresses)))
        .collect();
    let mut begins = vec![true; connections];
    while Instant::now() < end {
        let round = Instant::now() + Duration::from_secs(1);
        for (at, tcp) in held.iter_mut().enumerate() {
            let part: &[u8] = if begins[at] {
                b"GET /api/v1/streams HTTP/1.1\r\nX: "
            } else {
                b"x"
            };
            let sent = tcp.write(part);
            let read = tcp.read(&mut [0; 4096]);
            let is_waiting =
                |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            if sent.is_ok() {
                begins[at] = false;
            }
            if !read.as_ref().is_err_and(is_waiting) {
                hung_up += 1;
                begins[at] = true;
                *tcp = begun(server, address(at, addresses));
            }
        }
        thread::sleep(round.saturating_duration_since(Instant::now()));
    }
    hung_up
}

#[test]
fn slowloris_from_many_addresses() {
    let _alone = ALONE.lock();
    let abused = Abused::new(50_000, "");
    let connections = allowed(2_000);
    let (hung_up, memory) = abused.beside("slowloris from 8 addresses", || {
        slowloris(abused.server.address, connections, 8)
    });
    say(&format!("{connections} connections, {hung_up} hung up on"));
    assert!(memory < 200, "{memory} MiB");
    abused.recovers();
}

#[test]
fn slowloris_from_one_address() {
    let _alone = ALONE.lock();
    let abused = Abused::new(50_000, "");
    let connections = allowed(2_000);
    let (hung_up, memory) = abused.beside("slowloris from one address", || {
        slowloris(abused.server.address, connections, 1)
    });
    say(&format!("{connections} connections, {hung_up} hung up on"));
    // How many of the others got through to be refused, the system's queue of connections decides.
    assert!(hung_up > 0);
    let lines = abused.server.log().matches("WARN 429").count() as u64;
    assert!((1..=a_while().as_secs() + 10).contains(&lines), "{lines}");
    assert!(memory < 200, "{memory} MiB");
    abused.recovers();
}

#[test]
fn five_hundred_streams_at_once() {
    let _alone = ALONE.lock();
    let abused = Abused::new(if is_long() { 1_000_000 } else { 50_000 }, "");
    let path = format!("{FLOWS}.csv");
    let whole = abused.server.bytes(&path).len();
    let get = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let ((complete, busy), memory) = abused.beside("500 whole tables at once", || {
        let reader = |at: usize| -> JoinHandle<u16> {
            let mut tcp = abused.server.connect_from(address(at, 5));
            let get = get.clone();
            let read = move || {
                tcp.write_all(get.as_bytes()).unwrap();
                let mut reader = BufReader::new(tcp);
                let head = Reply::head(&mut reader);
                if head.status == 200 {
                    assert_eq!(body(reader), Some(whole));
                } else {
                    assert_eq!(head.header("retry-after"), "1");
                }
                head.status
            };
            let thread = thread::Builder::new().stack_size(256 * 1024);
            thread.spawn(read).unwrap()
        };
        let readers: Vec<_> = (0..500).map(reader).collect();
        let statuses: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
        (count(200), count(503))
    });
    say(&format!(
        "{complete} complete, {busy} refused after the wait"
    ));
    assert_eq!(complete + busy, 500);
    assert!(complete >= 48);
    assert!(memory < 400, "{memory} MiB");
    abused.recovers();
}

#[test]
fn two_hundred_stalled_readers() {
    let _alone = ALONE.lock();
    let abused = Abused::new(
        100_000,
        "[server]\nstall_seconds = 5\n[database]\nwait_ms = 1000",
    );
    let get = format!("GET {FLOWS} HTTP/1.1\r\nHost: t\r\n\r\n");
    let (stalled, memory) = abused.beside("200 stalled readers", || {
        let ask = |at| {
            let mut tcp = abused.server.connect_from(address(at, 4));
            SockRef::from(&tcp).set_recv_buffer_size(4096).unwrap();
            tcp.write_all(get.as_bytes()).unwrap();
            tcp
        };
        let stalled: Vec<_> = (0..200).map(ask).collect();
        let mut cut = 0;
        wait_until("those that got a stream are cut off", || {
            let log = abused.server.log();
            cut = log.matches("stalled: the client took nothing").count();
            cut >= 48
        });
        thread::sleep(a_while());
        drop(stalled);
        cut
    });
    say(&format!(
        "{stalled} were cut off, the others refused after the wait"
    ));
    assert!(memory < 400, "{memory} MiB");
    abused.recovers();
}

#[test]
fn connections_reset_at_random() {
    let _alone = ALONE.lock();
    let abused = Abused::new(50_000, "");
    let requests = Arc::new([
        format!("GET {FLOWS}.csv HTTP/1.1\r\nHost: t\r\n\r\n"),
        format!("GET {FLOWS}.parquet HTTP/1.1\r\nHost: t\r\n\r\n"),
        format!("GET {FLOWS}?limit=10 HTTP/1.1\r\nHost: t\r\n\r\n").repeat(3),
        format!(
            "GET {FLOWS}?byte_count=gt.1000&order=id HTTP/1.1\r\nHost: t\r\nAccept-Encoding: zstd\r\n\r\n"
        ),
        "GET /api/v1/streams HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ]);
    let (resets, memory) = abused.beside("resets", || {
        let end = Instant::now() + a_while();
        let resetter = |seed: u64| {
            let (requests, server) = (Arc::clone(&requests), abused.server.address);
            move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut resets = 0;
                while Instant::now() < end {
                    let Ok(mut tcp) = TcpStream::connect(server) else {
                        continue;
                    };
                    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                    SockRef::from(&tcp)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                    let request = random.choice(requests.iter()).unwrap();
                    let part = if random.u8(..4) == 0 {
                        random.usize(..request.len())
                    } else {
                        request.len()
                    };
                    let _ = tcp.write_all(&request.as_bytes()[..part]);
                    if part == request.len() && random.bool() {
                        let _ = tcp.read(&mut vec![0; random.usize(1..100_000)]);
                    }
                    thread::sleep(Duration::from_micros(random.u64(..20_000)));
                    drop(tcp);
                    resets += 1;
                }
                resets
            }
        };
        let resetters: Vec<_> = (0..16).map(|seed| thread::spawn(resetter(seed))).collect();
        resetters
            .into_iter()
            .map(|resetter| resetter.join().unwrap())
            .sum::<u64>()
    });
    say(&format!("{resets} connections reset"));
    assert!(memory < 400, "{memory} MiB");
    let log = abused.server.log();
    assert!(
        !log.contains("panicked") && !log.contains("defect"),
        "{log}"
    );
    abused.recovers();
}

#[test]
fn wrong_tokens_as_many_as_there_is_time_for() {
    const BATCH: usize = 50;
    let _alone = ALONE.lock();
    let hash = "5".repeat(64);
    let token = format!("[[auth.tokens]]\nname = 'one'\nsha256 = '{hash}'\n");
    let abused = Abused::new(50_000, &format!("[auth]\nanonymous = ['flows']\n{token}"));
    let (refused, memory) = abused.beside("wrong tokens", || {
        let (start, end) = (Instant::now(), Instant::now() + a_while());
        let guess = |seed: u64| {
            let server = abused.server.address;
            move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut tcp = TcpStream::connect(server).unwrap();
                tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut refused = 0;
                while Instant::now() < end {
                    let mut requests = String::new();
                    for _ in 0..BATCH {
                        let token: String = (0..43).map(|_| random.alphanumeric()).collect();
                        let header = format!("Authorization: Bearer flows_{token}");
                        requests +=
                            &format!("HEAD {FLOWS} HTTP/1.1\r\nHost: t\r\n{header}\r\n\r\n");
                    }
                    tcp.write_all(requests.as_bytes()).unwrap();
                    let (mut replies, mut part) = (Vec::new(), [0; 65536]);
                    let mut ended = 0;
                    while ended < BATCH {
                        let read = tcp.read(&mut part).unwrap();
                        assert!(read > 0, "hung up");
                        // An end may come in two parts.
                        let seen = replies.len().saturating_sub(3);
                        replies.extend_from_slice(&part[..read]);
                        let ends = replies[seen..].windows(4);
                        ended += ends.filter(|end| end == b"\r\n\r\n").count();
                    }
                    let replies = String::from_utf8(replies).unwrap();
                    assert_eq!(replies.matches("HTTP/1.1 401 ").count(), BATCH, "{replies}");
                    refused += BATCH;
                }
                refused
            }
        };
        let guessers: Vec<_> = (0..8).map(|seed| thread::spawn(guess(seed))).collect();
        let refused = guessers.into_iter().map(|guesser| guesser.join().unwrap());
        refused.sum::<usize>() as f64 / start.elapsed().as_secs_f64()
    });
    say(&format!("{refused:.0} wrong tokens a second"));
    assert!(memory < 100, "{memory} MiB");
    assert!(!abused.server.log().contains("flows_"));
    abused.recovers();
}

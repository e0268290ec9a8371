//! A small hub on this machine's loopback: the paths, redirects and headers of the real one, and whatever
//! mischief a test asks for. It has two addresses, as the hub has: one for questions, one for large files.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Signature that the hub puts behind the addresses of large files.
const SIGNATURE: &str = "?Signature=secret";

/// A request of the client.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// True if it came to the address of large files.
    pub at_store: bool,
}

impl Request {
    /// The first byte that is asked for.
    pub fn start(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |start| start.parse().expect("a number"))
    }

    /// True if it asks for the bytes of a file of this name.
    pub fn gets(&self, file: &str) -> bool {
        let bytes = self.at_store || self.path.starts_with("/api/resolve-cache/");
        // Behind the commit: a file of a folder may have the same name.
        let before = self.path.trim_end_matches(SIGNATURE).strip_suffix(file).and_then(|path| path.strip_suffix('/'));
        let commit = before.and_then(|path| path.rsplit('/').next());
        self.method == "GET" && bytes && commit.is_some_and(|commit| commit.len() == 40)
    }
}

/// Answer of the server, for a test to change.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Do not tell the length: the body ends with the connection.
    pub endless: bool,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Send the body slowly: wait so long after each block.
    pub wait: Duration,
    /// Bytes of a block; 16 KiB where it is 0.
    pub block: usize,
    /// Send the head byte by byte, and wait so long after each.
    pub head_wait: Duration,
    /// Send the body in chunks, and after it, for ever, trailers.
    pub trailers: bool,
}

impl Answer {
    /// Replaces a header, or adds it.
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_string()));
    }

    /// Becomes an answer without a body.
    pub fn refuse(&mut self, status: u16, reason: &str) {
        *self = Self { status, ..Self::default() };
        self.set("X-Error-Code", reason);
    }
}

/// Files of a model at a commit.
#[derive(Clone)]
pub struct Repo {
    pub name: &'static str,
    pub commit: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repo {
    pub fn new(name: &'static str, commit: char) -> Self {
        Self { name, commit: commit.to_string().repeat(40), files: BTreeMap::new() }
    }

    pub fn with(mut self, file: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(file.into(), bytes.into());
        self
    }
}

/// As the hub names files: large ones (here: weights) by SHA-256, others as git does.
pub fn etag(file: &str, bytes: &[u8]) -> String {
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if is_large(file) {
        hexadecimal(&Sha256::digest(bytes))
    } else {
        hexadecimal(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
    }
}

fn is_large(file: &str) -> bool {
    [".safetensors", ".bin", ".gguf"].iter().any(|end| file.ends_with(end))
}

type Mischief = Box<dyn FnMut(&Request, &mut Answer) + Send>;

struct State {
    /// Revision to repository.
    repos: BTreeMap<String, Repo>,
    mischief: Mischief,
    log: Vec<Request>,
    stop: AtomicBool,
}

/// Runs until it is dropped.
pub struct Server {
    state: Arc<Mutex<State>>,
    hub: SocketAddr,
    store: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves a model as its branch `main`.
    pub fn new(repo: Repo) -> Self {
        let state = State {
            repos: BTreeMap::from([("main".to_owned(), repo)]),
            mischief: Box::new(|_, _| {}),
            log: vec![],
            stop: AtomicBool::new(false),
        };
        let state = Arc::new(Mutex::new(state));
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let (hub, store) = (listen(), listen());
        let addresses = (address(&hub), address(&store));
        let threads = [(hub, false), (store, true)].map(|(listener, at_store)| {
            let state = state.clone();
            thread::spawn(move || listen_on(&listener, at_store, addresses.1, &state))
        });
        Self { state, hub: addresses.0, store: addresses.1, threads: threads.into() }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// Another revision, or another commit of one.
    pub fn publish(&self, revision: &str, repo: Repo) {
        self.state().repos.insert(revision.into(), repo);
    }

    /// From now on, answers go through this.
    pub fn mischief(&self, mischief: impl FnMut(&Request, &mut Answer) + Send + 'static) {
        self.state().mischief = Box::new(mischief);
    }

    /// Requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic in the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(state) = self.state.lock() {
            state.stop.store(true, Ordering::SeqCst);
        }
        // Wakes those that wait for connections.
        for address in [self.hub, self.store] {
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn listen_on(listener: &TcpListener, at_store: bool, store: SocketAddr, state: &Arc<Mutex<State>>) {
    for stream in listener.incoming() {
        if state.lock().map_or(true, |state| state.stop.load(Ordering::SeqCst)) {
            return;
        }
        let (Ok(stream), state) = (stream, state.clone()) else { continue };
        // A client that hangs up is no fault of the server's.
        thread::spawn(move || {
            let _ = serve(&stream, at_store, store, &state);
        });
    }
}

fn serve(mut stream: &TcpStream, at_store: bool, store: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = Request { method, path, headers, at_store };
    let answer = {
        let mut state = state.lock().expect("no panic in the server");
        let mut answer = honest(&state.repos, &request, store);
        state.log.push(request.clone());
        (state.mischief)(&request, &mut answer);
        answer
    };
    let mut head = format!("HTTP/1.1 {} So\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if answer.trailers {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if !answer.endless && !answer.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    if answer.head_wait.is_zero() {
        stream.write_all(head.as_bytes())?;
    } else {
        for byte in head.bytes() {
            stream.write_all(&[byte])?;
            thread::sleep(answer.head_wait);
        }
    }
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len()).min(answer.body.len())];
    if answer.trailers {
        stream.write_all(&[format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n"].concat())?;
        loop {
            stream.write_all(b"x: y\r\n")?;
            thread::sleep(Duration::from_millis(10));
        }
    }
    for block in body.chunks(if answer.block == 0 { 1 << 14 } else { answer.block }) {
        stream.write_all(block)?;
        thread::sleep(answer.wait);
    }
    Ok(())
}

/// Answer of the real hub.
fn honest(repos: &BTreeMap<String, Repo>, request: &Request, store: SocketAddr) -> Answer {
    let mut answer = Answer::default();
    answer.refuse(404, "EntryNotFound");
    for (revision, repo) in repos {
        let (name, commit) = (repo.name, &repo.commit);
        let listing = [revision, commit].map(|r| format!("/api/models/{name}/revision/{}", r.replace('/', "%2F")));
        if !request.at_store && listing.contains(&request.path) {
            let siblings: Vec<_> = repo.files.keys().map(|file| serde_json::json!({ "rfilename": file })).collect();
            answer = Answer { status: 200, ..Answer::default() };
            answer.body = serde_json::json!({ "id": name, "sha": commit, "siblings": siblings }).to_string().into();
        }
        for (file, bytes) in &repo.files {
            let (etag, size) = (etag(file, bytes), bytes.len());
            if !request.at_store && request.path == format!("/{name}/resolve/{commit}/{file}") {
                let large = is_large(file);
                answer = Answer { status: if large { 302 } else { 307 }, ..Answer::default() };
                answer.set("X-Repo-Commit", commit);
                if large {
                    answer.set("X-Linked-Etag", format!("\"{etag}\""));
                    answer.set("X-Linked-Size", size);
                    answer.set("Location", format!("http://{store}/{name}/{commit}/{file}{SIGNATURE}"));
                } else {
                    answer.set("Location", format!("/api/resolve-cache/models/{name}/{commit}/{file}"));
                }
            }
            let stored = if request.at_store {
                format!("/{name}/{commit}/{file}{SIGNATURE}")
            } else {
                format!("/api/resolve-cache/models/{name}/{commit}/{file}")
            };
            if request.path == stored {
                let start = request.start();
                answer = Answer { status: 200, ..Answer::default() };
                // The store of large files has tags of its own.
                answer.set("ETag", if request.at_store { "\"of-the-store\"".into() } else { format!("\"{etag}\"") });
                if start >= size && start > 0 {
                    answer.refuse(416, "");
                } else if start > 0 {
                    answer.status = 206;
                    answer.set("Content-Range", format!("bytes {start}-{}/{size}", size - 1));
                }
                if answer.status != 416 {
                    answer.body = bytes[start..].to_vec();
                }
            }
        }
    }
    answer
}

//! A server of one folder, on this machine only: enough of HTTP for a page to be looked at.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::thread;

/// Longest line of a request.
const LONGEST_LINE: u64 = 16 << 10;

/// A listener on `port` of this machine; on another one when that is taken. 0: any.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
}

/// Serves a folder for ever.
pub fn serve(listener: &TcpListener, folder: &Path) -> io::Result<()> {
    for connection in listener.incoming() {
        let (connection, folder) = (connection?, folder.to_path_buf());
        thread::spawn(move || {
            // A browser that hangs up early is no fault.
            let _ = answer(connection, &folder);
        });
    }
    Ok(())
}

/// Request of a browser.
#[derive(Debug, Default, PartialEq)]
struct Request {
    /// True if the bytes themselves are wanted.
    body: bool,
    path: String,
    /// The first byte and, if it is said, the one behind the last.
    range: Option<(u64, Option<u64>)>,
}

/// Answers one request and closes the connection.
fn answer(connection: TcpStream, folder: &Path) -> io::Result<()> {
    let request = read(&mut BufReader::new(&connection))?;
    let mut out = io::BufWriter::new(&connection);
    let Some((path, mut file)) = request.as_ref().and_then(|request| open(folder, &request.path)) else {
        write!(out, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        return out.flush();
    };
    let request = request.unwrap_or_default();
    let size = file.metadata()?.len();
    let (status, range) = match request.range.map(|(first, end)| first..end.unwrap_or(size).min(size)) {
        Some(range) if range.start < range.end => ("206 Partial Content", range),
        Some(_) => {
            let head = "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close";
            write!(out, "{head}\r\ncontent-range: bytes */{size}\r\n\r\n")?;
            return out.flush();
        }
        None => ("200 OK", 0..size),
    };
    head(&mut out, status, &path, &range, size)?;
    if request.body {
        file.seek(SeekFrom::Start(range.start))?;
        io::copy(&mut file.take(range.end - range.start), &mut out)?;
    }
    out.flush()
}

fn head(out: &mut impl Write, status: &str, path: &Path, range: &Range<u64>, size: u64) -> io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\nconnection: close\r\naccept-ranges: bytes\r\ncache-control: no-cache\r\n")?;
    write!(out, "content-type: {}\r\ncontent-length: {}\r\n", kind(path), range.end - range.start)?;
    if status.starts_with("206") {
        write!(out, "content-range: bytes {}-{}/{size}\r\n", range.start, range.end - 1)?;
    }
    write!(out, "\r\n")
}

/// Reads a request's head; `None` when it is not one of those that are answered.
fn read(lines: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = || {
        let mut line = String::new();
        lines.take(LONGEST_LINE).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    };
    let first = line()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut request = Request { body: method == "GET", path: decode(path), range: None };
    loop {
        let line = line()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("range") {
            request.range = parse_range(value.trim());
        }
    }
    Ok(matches!(method, "GET" | "HEAD").then_some(request))
}

/// `bytes=2-5` is `(2, Some(6))`.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() { None } else { Some(last.parse::<u64>().ok()?.checked_add(1)?) };
    Some((first.parse().ok()?, last))
}

/// `%20` is a space.
fn decode(path: &str) -> String {
    let mut bytes = vec![];
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The file behind a path; nothing outside of the folder.
fn open(folder: &Path, path: &str) -> Option<(PathBuf, File)> {
    let inside = Path::new(path.trim_start_matches('/'));
    if inside.components().any(|part| !matches!(part, Component::Normal(_))) {
        return None;
    }
    let mut file = folder.join(inside);
    if file.is_dir() {
        file = file.join("index.html");
    }
    if !file.is_file() {
        return None;
    }
    Some((file.clone(), File::open(file).ok()?))
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript",
        Some("css") => "text/css",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answer of the server to a request, as text.
    fn ask(folder: &Path, request: &str) -> String {
        let listener = listen(0).expect("a port");
        let address = listener.local_addr().expect("an address");
        let folder = folder.to_path_buf();
        let served = thread::spawn(move || answer(listener.accept().expect("a connection").0, &folder));
        let mut connection = TcpStream::connect(address).expect("a connection");
        connection.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        connection.read_to_string(&mut text).expect("an answer");
        served.join().expect("no panic").expect("served");
        text
    }

    #[test]
    fn files_parts_of_them_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("selvedge-serve-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a b")).expect("a folder");
        std::fs::write(folder.join("a b/index.html"), "0123456789").expect("a file");
        let whole = ask(&folder, "GET /a%20b/?x HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n0123456789"), "{whole}");
        assert!(whole.contains("content-type: text/html"), "{whole}");
        let part = ask(&folder, "GET /a%20b/index.html HTTP/1.1\r\nRange: bytes=2-4\r\n\r\n");
        assert!(part.contains("content-range: bytes 2-4/10\r\n") && part.ends_with("\r\n\r\n234"), "{part}");
        let head = ask(&folder, "HEAD /a%20b/index.html HTTP/1.1\r\n\r\n");
        assert!(head.contains("content-length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let beyond = ask(&folder, "GET /a%20b/index.html HTTP/1.1\r\nrange: bytes=10-\r\n\r\n");
        assert!(beyond.starts_with("HTTP/1.1 416"), "{beyond}");
        for path in ["/none", "/../a b/index.html", "//etc/passwd", "/a%20b/../../etc/passwd"] {
            let answer = ask(&folder, &format!("GET {path} HTTP/1.1\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

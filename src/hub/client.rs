//! What is asked of the hub over HTTP: what a model consists of, what a file is, a file's bytes from some byte on.

use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{FetchEvent, HubError, ModelName, Settings, is_commit};

/// Time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// Silence after which a connection is taken to be dead.
const SILENCE: Duration = Duration::from_secs(30);
/// Failures in a row, without a byte between them, after which the network is taken to be down.
const ATTEMPTS: u32 = 5;
/// Longest that a hub may ask to wait; its own limits count requests over five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How often an address may lead to another one.
const REDIRECTS: u32 = 5;
/// Largest list of a model's files, in bytes.
const LARGEST_LIST: u64 = 1 << 25;

/// What the hub says of a file that lies elsewhere.
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";

/// Asks a hub, and says who is asking.
pub(super) struct Client {
    /// Made when something is first asked.
    agent: OnceLock<Agent>,
    endpoint: String,
    token: Option<String>,
    pause: Duration,
}

/// What of an address is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Head,
    All,
    /// All bytes from this one on.
    From(u64),
}

/// A model at one commit.
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// What the hub promises of a file.
pub(super) struct FileInfo {
    pub name: String,
    /// Its entity tag: the SHA-256 of a large file, git's hash of a small one.
    pub etag: String,
    pub size: u64,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        Self { agent: OnceLock::new(), endpoint: settings.endpoint, token: settings.token, pause: settings.pause }
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(connect)
    }

    /// The files of a model, and the commit that its revision is now.
    pub(super) fn list(&self, model: &ModelName, events: &mut dyn FnMut(FetchEvent)) -> Result<Listing, HubError> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }

        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, model.repo(), escaped(model.revision()));
        let mut patience = self.patience();
        let text = loop {
            let text = self.ask(&url, What::All).and_then(|mut response| {
                let body = response.body_mut().with_config().limit(LARGEST_LIST).read_to_vec();
                body.map_err(|error| network(&url, error))
            });
            match text {
                Ok(text) => break text,
                Err(error) => patience.bear(error, events)?,
            }
        };
        let strange = |what: String| HubError::Answer { url: url.clone(), what };
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|e| strange(format!("the answer is not a list of files ({e})")))?;
        if !is_commit(&answer.sha) {
            return Err(strange(format!("`{}` is not a commit", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Listing { commit: answer.sha, files })
    }

    /// What the hub promises of a file.
    pub(super) fn info(&self, url: &str, name: &str, events: &mut dyn FnMut(FetchEvent)) -> Result<FileInfo, HubError> {
        let mut patience = self.patience();
        let response = loop {
            match self.ask(url, What::Head) {
                Ok(response) => break response,
                Err(error) => patience.bear(error, events)?,
            }
        };
        let headers = response.headers();
        let strange = |what: &str| HubError::Answer { url: url.into(), what: what.into() };
        let etag = text(headers, LINKED_ETAG).or_else(|| text(headers, "etag"));
        let etag = etag.ok_or_else(|| strange("the answer has no entity tag"))?;
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        // It becomes the name of a file.
        let plain = etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if etag.is_empty() || etag.len() > 128 || !plain {
            return Err(strange("the answer has an entity tag that cannot name a file"));
        }
        let size = text(headers, LINKED_SIZE).or_else(|| text(headers, "content-length"));
        let size =
            size.and_then(|size| size.parse().ok()).ok_or_else(|| strange("the answer does not tell the size"))?;
        Ok(FileInfo { name: name.into(), etag: etag.into(), size })
    }

    /// Where a file of a commit is.
    pub(super) fn address(&self, model: &ModelName, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, model.repo(), escaped(file))
    }

    /// A file's bytes from `start` on; the hub may send all of it instead.
    pub(super) fn bytes(&self, url: &str, start: u64) -> Result<Response<Body>, HubError> {
        self.ask(url, if start > 0 { What::From(start) } else { What::All })
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { failures: 0, pause: self.pause }
    }

    /// Follows redirects to the answer.
    fn ask(&self, url: &str, what: What) -> Result<Response<Body>, HubError> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let request = if what == What::Head { self.agent().head(&at) } else { self.agent().get(&at) };
            let mut request = request.header(header::ACCEPT_ENCODING, "identity");
            if let What::From(start) = what {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            if let Some(token) = self.token_for(&at) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| network(&at, error))?;
            match self.next(&at, &response)? {
                None => return self.judged(url, response),
                // Large files lie elsewhere, at addresses that say less of them than the hub does.
                Some(next) if what == What::Head && (!self.is_ours(&next) || is_promise(response.headers())) => {
                    return Ok(response);
                }
                Some(next) => at = next,
            }
        }
        Err(HubError::Answer { url: url.into(), what: "it leads from one address to the next without an end".into() })
    }

    /// Whether an address is the hub's own.
    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The token, for the hub's own eyes.
    fn token_for(&self, url: &str) -> Option<&str> {
        self.token.as_deref().filter(|_| self.is_ours(url))
    }

    /// Where an answer leads, if it leads on.
    fn next(&self, url: &str, response: &Response<Body>) -> Result<Option<String>, HubError> {
        if !response.status().is_redirection() {
            return Ok(None);
        }
        let strange = |what: String| HubError::Answer { url: url.into(), what };
        let to = text(response.headers(), "location").ok_or_else(|| strange("it leads nowhere".into()))?;
        let origin = url.match_indices('/').nth(2).map_or(url, |(at, _)| &url[..at]);
        let next = if to.starts_with('/') && !to.starts_with("//") { format!("{origin}{to}") } else { to.to_owned() };
        let safe = next.starts_with("https://") || (next.starts_with("http://") && url.starts_with("http://"));
        if safe { Ok(Some(next)) } else { Err(strange(format!("it leads to `{to}`, which is not taken for safe"))) }
    }

    /// An answer with what was asked for, or why there is none.
    fn judged(&self, url: &str, response: Response<Body>) -> Result<Response<Body>, HubError> {
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let refused = |advice: String| HubError::Refused { url: url.into(), status: status.as_u16(), advice };
        let page = url[self.endpoint.len().min(url.len())..].trim_start_matches("/api/models").trim_start_matches('/');
        let page = page.split('/').take(2).collect::<Vec<_>>().join("/");
        let page = format!("{}/{page}", self.endpoint);
        let reason = text(response.headers(), "x-error-code").unwrap_or_default();
        Err(match status.as_u16() {
            _ if reason == "GatedRepo" => {
                refused(format!("the model is gated; accept its terms at {page}, then {}", self.login()))
            }
            401 => refused(format!("there is no such model, or it is private; if it is yours, {}", self.login())),
            403 => refused(format!("this token may not read the model; see {page}, or {}", self.login())),
            404 if reason == "RevisionNotFound" => refused(format!("the model has no such revision; see {page}")),
            404 => refused("there is no such model, revision or file; is the name spelt right?".into()),
            code @ (408 | 429 | 500..=599) => {
                let after = text(response.headers(), "retry-after").and_then(|after| after.parse().ok());
                HubError::Status { url: url.into(), status: code, after: after.map(Duration::from_secs) }
            }
            _ => refused("this is not expected".into()),
        })
    }

    fn login(&self) -> &'static str {
        match self.token {
            Some(_) => "check the token (HF_TOKEN, or the file that `hf auth login` writes)",
            None => "set HF_TOKEN to a token of yours, or run `hf auth login`",
        }
    }
}

/// An agent that waits for as long as is reasonable, and trusts whom this machine trusts.
fn connect() -> Agent {
    // Networks with a certificate of their own have it in the system's store, or in SSL_CERT_FILE. A machine
    // that has none at all gets those that browsers trust, which come with the program.
    let system: Vec<_> = rustls_native_certs::load_native_certs().certs;
    let system: Vec<_> = system.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let roots = if system.is_empty() { RootCerts::WebPki } else { system.into_iter().into() };
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .user_agent(concat!("selvedge/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .http_status_as_error(false)
        // Followed here, where it is known who may see the token.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into()
}

/// Bears failures that may pass, up to a point.
pub(super) struct Patience {
    failures: u32,
    pause: Duration,
}

impl Patience {
    /// Waits for as long as another attempt should wait, or gives the error back.
    pub(super) fn bear(&mut self, error: HubError, events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let asked = match &error {
            HubError::Network { .. } => None,
            HubError::Status { after, .. } => *after,
            _ => return Err(error),
        };
        self.failures += 1;
        if self.failures >= ATTEMPTS || asked > Some(LONGEST_WAIT) {
            return Err(error);
        }
        let wait = asked.unwrap_or(self.pause * (1 << (self.failures - 1)));
        let why = match &error {
            HubError::Status { status, .. } => format!("the hub answers {status}"),
            HubError::Network { what, .. } => what.clone(),
            other => other.to_string(),
        };
        events(FetchEvent::Notice(&format!("{why}; trying again in {} s", wait.as_secs_f64())));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// What no answer came for, and whether that may pass.
fn network(url: &str, error: ureq::Error) -> HubError {
    // An address may carry a signature, which nobody needs to see.
    let url = url.split('?').next().unwrap_or_default().to_owned();
    match error {
        // What the TLS library says of a certificate.
        ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            HubError::Untrusted { url, what: error.to_string() }
        }
        ureq::Error::Io(error) => HubError::Network { url, what: format!("the network fails: {error}") },
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => HubError::Answer { url, what: error.to_string() },
        error => HubError::Network { url, what: format!("the network fails: {error}") },
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a redirect says itself what a file is.
fn is_promise(headers: &HeaderMap) -> bool {
    headers.contains_key(LINKED_ETAG) && headers.contains_key(LINKED_SIZE)
}

/// As one segment of an address.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

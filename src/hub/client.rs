//! Requests to the hub over HTTP: a model's files, a file's size and hash, a file's bytes from some byte on.

use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, Timeout};

use super::limits::{LARGEST_FILE, LARGEST_LIST};
use super::patience::Patience;
use super::redact::Shown;
use super::{FetchEvent, HubError, Limits, ModelName, Settings, is_commit};

/// Most redirects of one request.
const REDIRECTS: u32 = 5;

/// Headers in which the hub describes a file that lies elsewhere.
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";

/// HTTP client of a hub, with its access token.
pub(super) struct Client {
    /// Made when something is first asked.
    agent: OnceLock<Agent>,
    /// The hub's address, without a user and a password.
    endpoint: String,
    /// `user:password`, where the address held one. It goes where the token would go, and instead of it, as with
    /// Python's library.
    user: Option<String>,
    token: Option<String>,
    pause: Duration,
    limits: Limits,
}

/// Kind of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Head,
    /// The answer to a question.
    List,
    /// All bytes of a file.
    All,
    /// All bytes from this one on.
    From(u64),
}

/// A model at one commit.
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// Size and hash that the hub promises of a file.
pub(super) struct FileInfo {
    pub name: String,
    /// Its entity tag: the SHA-256 of a large file, git's hash of a small one.
    pub etag: String,
    pub size: u64,
}

impl Client {
    pub(super) fn new(settings: Settings, limits: Limits) -> Self {
        let (endpoint, user) = without_user(&settings.endpoint);
        Self { agent: OnceLock::new(), endpoint, user, token: settings.token, pause: settings.pause, limits }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn agent(&self) -> Result<&Agent, HubError> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        check_proxies()?;
        Ok(self.agent.get_or_init(|| connect(&self.limits)))
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
            let text = self.ask(&url, What::List).and_then(|mut response| {
                let body = response.body_mut().with_config().limit(LARGEST_LIST).read_to_vec();
                body.map_err(|error| self.network(&url, error))
            });
            match text {
                Ok(text) => break text,
                Err(error) => patience.bear(error, events)?,
            }
        };
        let answer: Answer = serde_json::from_slice(&text)
            .map_err(|e| HubError::answer(&url, &format!("the answer is not a list of files ({e})")))?;
        if !is_commit(&answer.sha) {
            return Err(HubError::answer(&url, &format!("`{}` is not a commit", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Listing { commit: answer.sha, files })
    }

    /// Size and hash that the hub promises of a file.
    pub(super) fn info(&self, url: &str, name: &str, events: &mut dyn FnMut(FetchEvent)) -> Result<FileInfo, HubError> {
        let mut patience = self.patience();
        let response = loop {
            match self.ask(url, What::Head) {
                Ok(response) => break response,
                Err(error) => patience.bear(error, events)?,
            }
        };
        let headers = response.headers();
        let strange = |what: &str| HubError::answer(url, what);
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
        if size > LARGEST_FILE {
            return Err(strange(&format!("the answer promises {size} bytes, and no file can be that large")));
        }
        Ok(FileInfo { name: name.into(), etag: etag.into(), size })
    }

    /// Address of a commit's file.
    pub(super) fn address(&self, model: &ModelName, commit: &str, file: &str) -> String {
        let file = file.split('/').map(escaped).collect::<Vec<_>>().join("/");
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, model.repo())
    }

    /// A file's bytes from `start` on; the hub may send all of it instead.
    pub(super) fn bytes(&self, url: &str, start: u64) -> Result<Response<Body>, HubError> {
        self.ask(url, if start > 0 { What::From(start) } else { What::All })
    }

    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.pause)
    }

    /// Follows redirects to the answer. An answer to a question has one deadline for all that is on the way to
    /// its last byte; of a file's bytes, the headers have it.
    fn ask(&self, url: &str, what: What) -> Result<Response<Body>, HubError> {
        let deadline = Instant::now() + self.limits.answer;
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HubError::network(url, &self.no_answer()));
            }
            let ours = self.is_ours(&at);
            let address = self.user.as_deref().filter(|_| ours).map_or_else(|| at.clone(), |user| with_user(&at, user));
            let agent = self.agent()?;
            let request = if what == What::Head { agent.head(&address) } else { agent.get(&address) };
            let mut request = request.header(header::ACCEPT_ENCODING, "identity");
            if let What::From(start) = what {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            if let Some(token) = self.token.as_deref().filter(|_| ours && self.user.is_none()) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let limits = request.config().timeout_recv_response(Some(left));
            let limits = match what {
                What::Head | What::List => limits.timeout_global(Some(left)),
                What::All | What::From(_) => limits.timeout_recv_body(Some(self.limits.body)),
            };
            let response = limits.build().call().map_err(|error| self.network(&at, error))?;
            match next(&at, &response)? {
                None => return self.judged(url, &at, response),
                // Large files lie elsewhere, at addresses that say less of them than the hub does.
                Some(next) if what == What::Head && (!self.is_ours(&next) || is_promise(response.headers())) => {
                    return Ok(response);
                }
                Some(next) => at = next,
            }
        }
        Err(HubError::answer(url, "it leads from one address to the next without an end"))
    }

    /// True for an address of the hub's own.
    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
    }

    /// An answer with what was asked for, or why there is none. `at`: where redirects have led.
    fn judged(&self, url: &str, at: &str, response: Response<Body>) -> Result<Response<Body>, HubError> {
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        if let code @ (408 | 429 | 500..=599) = status.as_u16() {
            let after = text(response.headers(), "retry-after").and_then(|after| after.trim().parse().ok());
            return Err(HubError::Status {
                url: Shown::address(url),
                status: code,
                after: after.map(Duration::from_secs),
            });
        }
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED || !self.is_ours(at) {
            return Err(refused_elsewhere(url, at, status));
        }
        let refused = |advice: String| HubError::Refused { url: Shown::address(url), status: status.as_u16(), advice };
        let page = url[self.endpoint.len().min(url.len())..].trim_start_matches("/api/models").trim_start_matches('/');
        let page = page.split('/').take(2).collect::<Vec<_>>().join("/");
        let page = Shown::address(&format!("{}/{page}", self.endpoint));
        let reason = text(response.headers(), "x-error-code").unwrap_or_default();
        Err(match status.as_u16() {
            _ if reason == "GatedRepo" => {
                refused(format!("the model is gated; accept its terms at {page}, then {}", self.login()))
            }
            401 => refused(format!("there is no such model, or it is private; if it is yours, {}", self.login())),
            403 if self.user.is_none() && self.token.is_none() => {
                refused(format!("it may not be read by everybody; see {page}, or {}", self.login()))
            }
            403 => refused(format!("this token may not read the model; see {page}, or {}", self.login())),
            404 if reason == "RevisionNotFound" => refused(format!("the model has no such revision; see {page}")),
            404 => refused("there is no such model, revision or file; is the name spelt right?".into()),
            _ => refused("this is not expected".into()),
        })
    }

    fn login(&self) -> &'static str {
        match self.token {
            _ if self.user.is_some() => "check the user and the password in HF_ENDPOINT",
            Some(_) => "check the token (HF_TOKEN, or the file that `hf auth login` writes)",
            None => "set HF_TOKEN to a token of yours, or run `hf auth login`",
        }
    }

    fn no_answer(&self) -> String {
        format!("no whole answer comes within {} s", self.limits.answer.as_secs_f64())
    }

    /// The error of a request without an answer.
    fn network(&self, url: &str, error: ureq::Error) -> HubError {
        match error {
            // What the TLS library says of a certificate.
            ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                HubError::Untrusted { url: Shown::address(url), what: Shown::new(&error.to_string()) }
            }
            ureq::Error::Io(error) => HubError::network(url, &format!("the network fails: {error}")),
            ureq::Error::Timeout(Timeout::Global | Timeout::RecvResponse) => HubError::network(url, &self.no_answer()),
            ureq::Error::Http(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::BodyExceedsLimit(_)
            | ureq::Error::LargeResponseHeader(..) => HubError::answer(url, &error.to_string()),
            ureq::Error::ConnectProxyFailed(what) => HubError::network(
                url,
                &format!("the proxy lets nobody through: {what}; HTTPS_PROXY may hold user:password@ before its host"),
            ),
            error => HubError::network(url, &format!("the network fails: {error}")),
        }
    }
}

/// An agent that waits for as long as is reasonable, and trusts whom this machine trusts.
fn connect(limits: &Limits) -> Agent {
    // Networks with a certificate of their own have it in the system's store, or in SSL_CERT_FILE. A machine
    // that has none at all gets those that browsers trust, which come with the program.
    let system: Vec<_> = rustls_native_certs::load_native_certs().certs;
    let system: Vec<_> = system.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let roots = if system.is_empty() { RootCerts::WebPki } else { system.into_iter().into() };
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .user_agent(concat!("selvedge/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.window))
        .timeout_per_read(Some(limits.window))
        .timeout_per_write(Some(limits.window))
        .http_status_as_error(false)
        // Followed here, where it is known who may see the token.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into()
}

/// The variables that name a proxy are ones that do: a connection past the proxy is not what was asked for.
fn check_proxies() -> Result<(), HubError> {
    for variable in ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        match std::env::var(variable) {
            Ok(proxy) if !proxy.trim().is_empty() && Proxy::new(&proxy).is_err() => {
                return Err(HubError::Proxy { variable });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Target of a redirect; `None` for another answer.
fn next(url: &str, response: &Response<Body>) -> Result<Option<String>, HubError> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let to = text(response.headers(), "location").ok_or_else(|| HubError::answer(url, "it leads nowhere"))?;
    let origin = url.match_indices('/').nth(2).map_or(url, |(at, _)| &url[..at]);
    let next = if to.starts_with('/') && !to.starts_with("//") { format!("{origin}{to}") } else { to.to_owned() };
    let safe = next.starts_with("https://") || (next.starts_with("http://") && url.starts_with("http://"));
    let unsafe_ =
        || HubError::answer(url, &format!("it leads to `{}`, which is not taken for safe", Shown::address(to)));
    if safe { Ok(Some(next)) } else { Err(unsafe_()) }
}

/// A refusal by a server that did not get the token, and so tells nothing about it.
fn refused_elsewhere(url: &str, at: &str, status: StatusCode) -> HubError {
    let (url, at) = (Shown::address(url), Shown::address(at).to_string());
    let host = at.split('/').nth(2).unwrap_or(&at);
    let (who, advice) = match status.as_u16() {
        407 => (
            "the proxy".to_owned(),
            "it asks for a user and a password, which HTTPS_PROXY may hold as http://user:password@host:port",
        ),
        401 | 403 => (
            format!("{host}, to which the hub leads,"),
            "the hub's permission to read there has run out, or a firewall or a proxy forbids it; the same command \
             asks for a new one. The token has no part in this",
        ),
        404 | 410 => (format!("{host}, to which the hub leads,"), "it does not have the file that the hub promised"),
        _ => (format!("{host}, to which the hub leads,"), "this is not expected"),
    };
    HubError::RefusedElsewhere { url, who: Shown::new(&who), status: status.as_u16(), advice }
}

/// An address, and the user and password that it held.
fn without_user(url: &str) -> (String, Option<String>) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    match url[start..end].rsplit_once('@') {
        Some((user, host)) => (format!("{}{host}{}", &url[..start], &url[end..]), Some(user.to_owned())),
        None => (url.to_owned(), None),
    }
}

fn with_user(url: &str, user: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    format!("{}{user}@{}", &url[..start], &url[start..])
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// True for a redirect that describes the file itself.
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

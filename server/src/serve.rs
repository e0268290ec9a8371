//! Listening, and draining when the program is asked to end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use selvedge::state::{Snapshot, SnapshotError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;

use crate::http::{Api, router};
use crate::models::Models;

/// Time between two looks at what is still under way.
const LOOK: Duration = Duration::from_millis(20);

/// How a server is run.
pub struct ServeOptions {
    /// Where it listens; port 0: any that is free.
    pub address: SocketAddr,
    /// Key that clients must send; none: everybody may come.
    pub api_key: Option<String>,
    /// Origins of pages that may ask; `*`: all. None by default: browsers keep pages from asking.
    pub origins: Vec<String>,
    /// Most bytes of a request.
    pub body_bytes: usize,
    /// Time for a client to send its request, and to take what is sent to it.
    pub client: Duration,
    /// Files for what is read in slots; none: it cannot be saved.
    pub slot_files: Option<Arc<dyn SlotFiles>>,
    /// Time for replies under way when the program is asked to end.
    pub drain: Duration,
    /// Told the address, once requests are taken.
    pub listening: Box<dyn Fn(SocketAddr) + Send + Sync>,
    /// Told a line of JSON for each request, without its text.
    pub log: Box<dyn Fn(&str) + Send + Sync>,
}

/// Files that slots are saved in and restored from.
pub trait SlotFiles: Send + Sync {
    /// Writes a file of a name that is no path. Gives its bytes.
    fn write(&self, name: &str, snapshot: &Snapshot) -> Result<u64, SlotFileError>;

    /// Reads one, and gives its bytes too.
    fn read(&self, name: &str) -> Result<(Snapshot, u64), SlotFileError>;
}

/// Why a file of a slot is not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SlotFileError {
    /// It is no saved state.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The system's error.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// The system gives no threads, or no signals.
    #[error("the server cannot run: {0}")]
    System(#[from] std::io::Error),
}

/// Serves models until the program is asked to end (Ctrl-C, SIGTERM). Then `/health` fails, no request is taken, and the
/// replies under way have [`ServeOptions::drain`]; a second signal ends them at once.
pub fn serve(models: Models, options: ServeOptions) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(run(models, options));
    // Connections that are still open are nobody's any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(models: Models, options: ServeOptions) -> Result<(), ServeError> {
    let (address, drain, client) = (options.address, options.drain, options.client);
    let listen = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    (options.listening)(listener.local_addr().map_err(listen)?);
    let api = Api::new(models, options);
    let (ending, mut end) = watch::channel(false);
    let mut signals = Signals::listen()?;
    let draining = api.clone();
    let watch = tokio::spawn(async move {
        signals.next().await;
        draining.drain();
        let deadline = Instant::now() + drain;
        let quiet = async {
            while !draining.is_idle() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Meanwhile whoever asks hears that the server is about to end.
        let cut = tokio::select! {
            () = quiet => false,
            () = signals.next() => true,
            () = tokio::time::sleep_until(deadline) => true,
        };
        let _ = ending.send(true);
        if !cut {
            // The last bytes are on their way.
            tokio::select! {
                () = signals.next() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    });
    let ended = async move {
        // An error is the end too.
        let _ = end.wait_for(|ending| *ending).await;
    };
    tokio::select! {
        () = accept(listener, router(api), client, ended) => {}
        _ = watch => {}
    }
    Ok(())
}

/// Takes connections until the end, then waits for those that are open.
async fn accept(mut listener: TcpListener, router: Router, client: Duration, ended: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    tokio::pin!(ended);
    loop {
        // Waits and tries again where the system has no room for another connection.
        let (stream, _) = tokio::select! {
            taken = Listener::accept(&mut listener) => taken,
            () = &mut ended => break,
        };
        // Events of a stream are small, and each is to be there at once.
        let _ = stream.set_nodelay(true);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(client);
        let service = TowerToHyperService::new(router.clone());
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(client));
        let connection = connections.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
        // A connection that fails is its client's affair.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The signals that ask a program to end.
struct Signals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            term: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.term.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

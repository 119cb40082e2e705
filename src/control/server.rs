//! The sockets of the administration interface, and HTTP on them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::AdminConfig;

use super::access::Door;
use super::{ControlError, State, api};

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long to rest when descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Who may open the Unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// The sockets, which listen.
#[derive(Debug, Default)]
pub struct BoundDoors {
    address: Option<TcpListener>,
    socket: Option<(UnixListener, PathBuf)>,
}

impl BoundDoors {
    /// Whether the interface is not configured.
    pub fn is_empty(&self) -> bool {
        self.address.is_none() && self.socket.is_none()
    }

    /// Where they listen, for people.
    pub fn places(&self) -> Vec<String> {
        let address = self
            .address
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .map(|address| format!("http://{address}"));
        let socket = self.socket.iter();
        let socket = socket.map(|(_, path)| format!("unix:{}", path.display()));
        address.chain(socket).collect()
    }
}

/// Listens where the configuration says.
///
/// # Errors
/// What cannot be listened on.
pub fn bind(admin: &AdminConfig) -> Result<BoundDoors, ControlError> {
    let failed = |address: &dyn std::fmt::Display, cause| ControlError::Listen {
        address: address.to_string(),
        cause,
    };
    let mut doors = BoundDoors::default();
    if let Some(address) = admin.address {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        doors.address = Some(bound.map_err(|cause| failed(&address, cause))?);
    }
    if let Some(path) = &admin.socket {
        let bound = bind_socket(path).map_err(|cause| failed(&path.display(), cause))?;
        doors.socket = Some((bound, path.clone()));
    }
    Ok(doors)
}

/// Takes the place of a socket that nobody listens on any more.
fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the process ends.
pub(super) async fn serve(doors: BoundDoors, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let address = doors.address.and_then(|listener| {
        let listener = tokio::net::TcpListener::from_std(listener);
        listener
            .inspect_err(|error| tracing::error!(%error, "the administration address"))
            .ok()
    });
    let socket = doors.socket.and_then(|(listener, _)| {
        let listener = tokio::net::UnixListener::from_std(listener);
        listener
            .inspect_err(|error| tracing::error!(%error, "the administration socket"))
            .ok()
    });
    let by_address = async {
        let Some(listener) = address else { return };
        let router = api::router(Arc::clone(&state), Door::Address);
        loop {
            let slot = slot(&slots).await;
            match listener.accept().await {
                Ok((stream, _)) => spawn(stream, router.clone(), slot),
                Err(error) => rest(&error).await,
            }
        }
    };
    let by_socket = async {
        let Some(listener) = socket else { return };
        let router = api::router(Arc::clone(&state), Door::Socket);
        loop {
            let slot = slot(&slots).await;
            match listener.accept().await {
                Ok((stream, _)) => spawn(stream, router.clone(), slot),
                Err(error) => rest(&error).await,
            }
        }
    };
    tokio::join!(by_address, by_socket);
}

async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // It is never closed.
    Arc::clone(slots).acquire_owned().await.ok()
}

async fn rest(error: &std::io::Error) {
    tracing::warn!(%error, "the administration interface cannot accept");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

fn spawn<S>(stream: S, router: Router, slot: Option<OwnedSemaphorePermit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an administration connection ended");
        }
        drop(slot);
    });
}

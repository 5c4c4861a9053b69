//! Connections: accepted, limited, served, and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower::ServiceExt;
use tracing::warn;

use chatterbox_speech::listener::Listener;

use crate::auth::Peer;
use crate::routes;
use crate::stall::MonitoredStream;
use crate::state::{App, Shared};

/// Headers of a request, and what is buffered of an answer, in bytes: a `GET` may carry a text of the greatest length.
const CONNECTION_BUFFER: usize = 128 * 1024;

/// Accepts connections until the listener fails.
pub async fn accept(listener: TcpListener, app: Shared, max_connections: usize) -> std::io::Error {
    let router = routes::router(&app);
    let connections = Arc::new(Semaphore::new(max_connections));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return std::io::Error::other("the connection limit was closed");
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, or a client that hung up first: neither ends the server.
                warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (app, router) = (app.clone(), router.clone());
        tokio::spawn(async move {
            run_connection(stream, peer, router, &app).await;
            drop(permit);
        });
    }
}

async fn run_connection(stream: TcpStream, peer: SocketAddr, router: Router, app: &App) {
    // A chunk of audio that waits for the next one is late.
    let _ = stream.set_nodelay(true);
    let (listener, stall_timeout) = (Listener::default(), app.speech.options.limits.stall_timeout);
    let stream = MonitoredStream::new(stream, stall_timeout, listener.clone());
    let requested = Arc::new(AtomicBool::new(false));
    let requesting = Arc::clone(&requested);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        requesting.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().oneshot(request.map(Body::new));
        listener.scope(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits.header_timeout)
        .max_buf_size(CONNECTION_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = if app.speech.drain.is_cancelled() {
        // Probes are still answered, on connections that the drain does not wait for.
        connection.await
    } else {
        let waited_for = app.speech.tasks.token();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = app.speech.drain.cancelled() => {
                if requested.load(Ordering::Relaxed) {
                    connection.as_mut().graceful_shutdown();
                } else {
                    // Its first question may be on the way: that is answered too.
                    drop(waited_for);
                }
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke");
    }
}

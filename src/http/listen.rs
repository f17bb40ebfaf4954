//! Connections: a bounded number at a time, each with a time to ask in.
//!
//! A caller that opens a connection and says nothing, or one letter a second, holds it for [`HttpSettings::head`] and no longer,
//! so that it cannot take the descriptors that the daemon needs for Kafka and its database. More than
//! [`HttpSettings::connections`] wait with the operating system until one ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::HttpSettings;
use crate::telemetry::facts::NotAccepted;
use crate::telemetry::record;

/// How long nothing is accepted after an error that is not the caller's, such as too many open files.
const REST: Duration = Duration::from_secs(1);

/// Serves until told to stop, then finishes the requests under way, for [`HttpSettings::drain`] at most.
pub async fn listen(listener: TcpListener, router: Router, settings: HttpSettings, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.head);
    let places = Arc::new(Semaphore::new(settings.connections));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, socket) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(socket), service));
        open.spawn(async move {
            // How a connection ends is its caller's business: every request that was read has been answered and measured.
            let _ended = connection.await;
            drop(place);
        });
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    // What is still under way afterwards is cut off as the set of connections goes.
    let _in_time = tokio::time::timeout(settings.drain, graceful.shutdown()).await;
}

/// The next connection. Errors of one connection are skipped, others told and waited out.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Small answers go out at once; a socket that cannot be told is served all the same.
                let _told = socket.set_nodelay(true);
                return socket;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                record(&NotAccepted { error: &error });
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

//! A server of the bench's own, in the place of one of AWS's services.

use std::net::SocketAddr;

use anyhow::Result;
use http::Request;
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::runtime::server::{self, Answer};

/// The region of what is made here.
pub(super) const REGION: &str = "eu-north-1";

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers requests on a free port.
pub(super) async fn serve<H, F>(answer: H) -> Result<Endpoint>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    // Nobody asks it to stop: it ends with its owner.
    let (_, stopped) = watch::channel(false);
    let task = tokio::spawn(server::serve(listener, move |request, _| answer(request), stopped));
    Ok(Endpoint { address, task })
}

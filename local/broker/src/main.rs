//! The log of a machine without a Kafka cluster: tansu with memory storage, in a process of its own, so that its heavy
//! build is linked once and its dependencies stay out of everything else.
//!
//! It prints `ready <port>` on its standard output once it answers, and ends when its standard input does: so it cannot
//! outlive the `local` that started it, however that one ended.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tansu_broker::{broker::Broker, coordinator::group::administrator::Controller};
use tansu_storage::StorageContainer;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tracing_subscriber::EnvFilter;
use url::Url;
use uuid::Uuid;

/// How often another free port is tried when one was taken between finding and binding it.
const ATTEMPTS: usize = 5;
/// How long tansu may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")))
        .init();
    let wanted: u16 = match std::env::args().nth(1) {
        Some(port) => port.parse().with_context(|| format!("{port} is not a port"))?,
        None => 0,
    };
    let attempts = if wanted == 0 { ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        let port = free_port(wanted).await?;
        let mut broker = tokio::spawn(serve(port));
        tokio::select! {
            ended = &mut broker => match ended? {
                Ok(()) => return Ok(()),
                Err(error) if attempt == attempts => return Err(error),
                Err(_taken_meanwhile) => continue,
            },
            reachable = wait_until_reachable(port) => reachable?,
        }
        announce(port)?;
        tokio::select! {
            ended = broker => return ended?,
            () = input_ends() => return Ok(()),
        }
    }
    Ok(())
}

/// tansu binds the port itself, and must know beforehand what to advertise: hence a port that was free just now.
async fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .await
        .with_context(|| format!("port {wanted} of 127.0.0.1 cannot be had"))?;
    Ok(listener.local_addr()?.port())
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let address = Url::parse(&format!("tcp://127.0.0.1:{port}"))?;
    let mut broker = Broker::<Controller<StorageContainer>, StorageContainer>::builder()
        .node_id(tansu_broker::NODE_ID)
        .cluster_id("tocsin")
        .incarnation_id(Uuid::new_v4())
        .advertised_listener(address.clone())
        .listener(address)
        .storage(Url::parse("memory://tocsin/")?)
        .silent(true)
        .build()
        .await?;
    broker.serve(Instant::now()).await?;
    Ok(())
}

async fn wait_until_reachable(port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let started = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if started.elapsed() > PATIENCE {
            bail!("the broker does not listen on {address} after {PATIENCE:?}");
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn announce(port: u16) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready {port}")?;
    out.flush()?;
    Ok(())
}

async fn input_ends() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 256];
    while matches!(input.read(&mut ignored).await, Ok(n) if n > 0) {}
}

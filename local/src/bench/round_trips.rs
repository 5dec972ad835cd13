//! Round trips, counted by what they cost: behind a proxy that delays everything by some time, work takes longer by that
//! time, to and fro, for each time that it waits for an answer before it goes on. What is sent together, however much and in
//! however many packets, waits once.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::sleep_until,
};

/// A proxy in front of a server. Dropping it takes no more connections.
#[derive(Debug)]
pub(super) struct FarAway {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// How far, in either direction: longer than work differs from one time to the next, so that a count is no guess; and there
/// and back within the time that a client of ours gives a connection.
const DELAY: Duration = Duration::from_millis(100);

impl FarAway {
    /// Stands in front of the server at this address.
    pub(super) async fn from(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if let Ok(far) = TcpStream::connect(server).await {
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::spawn(forward(near_in, far_out));
                    tokio::spawn(forward(far_in, near_out));
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where it stands.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many round trips there are in what took so long from far away, and so long from nearby.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
    pub(super) fn trips(far: Duration, near: Duration) -> usize {
        (far.saturating_sub(near).as_secs_f64() / (2.0 * DELAY.as_secs_f64())).round() as usize
    }
}

impl Drop for FarAway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes on what is read, each part when its time has come.
async fn forward(mut from: impl AsyncRead + Unpin + Send + 'static, mut to: impl AsyncWrite + Unpin) {
    let (send, mut read) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let part = buffer.get(..count).unwrap_or_default().to_vec();
            if send.send((Instant::now() + DELAY, part)).is_err() {
                return;
            }
        }
    });
    while let Some((due, part)) = read.recv().await {
        sleep_until(due.into()).await;
        if to.write_all(&part).await.is_err() {
            break;
        }
    }
    reading.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trips_are_counted_and_not_packets() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            }
        });
        let far = FarAway::from(server).await.unwrap();
        let mut stream = TcpStream::connect(far.address()).await.unwrap();
        let (mut answers, mut questions) = stream.split();
        for (waits, bytes) in [(1, 300_000), (2, 10), (1, 1)] {
            let began = Instant::now();
            for _ in 0..waits {
                let (question, mut answer) = (vec![1; bytes], vec![0; bytes]);
                tokio::try_join!(questions.write_all(&question), async {
                    answers.read_exact(&mut answer).await.map(drop)
                })
                .unwrap();
            }
            assert_eq!(FarAway::trips(began.elapsed(), Duration::ZERO), waits);
        }
    }
}

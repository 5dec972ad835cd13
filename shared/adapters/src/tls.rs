//! The cryptography of TLS, said once.
//!
//! rustls finds out by itself as long as one is built in, and panics at the first connection where there are two: a
//! dependency's new feature is enough for that. The AWS clients are told theirs where they are made ([`crate::aws`]).

use rustls::crypto::ring;

/// Makes `ring` what every client of this process uses that does not say.
pub fn use_ring() {
    // An error is that it is decided already, by an earlier call.
    let _ = ring::default_provider().install_default();
}

/// Somebody who listens, and does not know what TLS is; answers where.
#[cfg(test)]
pub(crate) async fn no_tls() -> std::net::SocketAddr {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(b"-ERR no TLS here\r\n").await;
        }
    });
    address
}

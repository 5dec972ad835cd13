//! A provider of the tests' own: a server on this machine, which answers as it is told, and also as no good one would.
//!
//! It writes HTTP/1.1 by itself, since a library that does it well cannot break off within a body.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use url::Url;

/// How much is written at once.
const PIECE: usize = 16 * 1024;

/// The provider. Dropping it ends it.
#[derive(Debug)]
pub struct Provider {
    port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: HashMap<String, Requests>,
    connections: usize,
    open: usize,
}

/// What was asked for at a path.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// How often.
    pub count: usize,
    /// What the last request said of itself.
    pub last_headers: HeaderMap,
    /// How many bytes of bodies could be sent, in all.
    pub bytes_sent: u64,
}

impl Provider {
    /// A new one, which has nothing, and answers 404.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::default();
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { port, state, task }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address of a path, which may have a query.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }

    /// From now on a path answers so.
    pub fn serve(&self, path: &str, answer: Answer) {
        locked(&self.state).answers.insert(path.to_owned(), answer);
    }

    /// What was asked for at a path.
    #[must_use]
    pub fn requests(&self, path: &str) -> Requests {
        locked(&self.state).requests.get(path).cloned().unwrap_or_default()
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        locked(&self.state).connections
    }

    /// Waits until nobody is connected to it.
    pub async fn deserted(&self) {
        while locked(&self.state).open > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a path answers: a document, unless it is told otherwise.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    times: usize,
    framing: Framing,
    fault: Option<Fault>,
}

/// How it is told where a body ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunks,
    /// Nothing tells.
    Close,
}

/// What an answer lacks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// All of it.
    Silence,
    /// Its last byte, and what says that there is no more.
    End,
    /// Haste: this long passes after each byte of the body.
    Haste(Duration),
}

impl Answer {
    /// A document. Who has seen the version that its `etag` or `last-modified` says gets 304.
    #[must_use]
    pub fn document(body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.into(),
            times: 1,
            framing: Framing::Length,
            fault: None,
        }
    }

    /// Another status, and no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), ..Self::document("") }
    }

    /// A redirect to an address, or a path.
    #[must_use]
    pub fn redirect(to: impl AsRef<str>) -> Self {
        Self::status(302).header("location", to)
    }

    /// None: the request is heard, and that is all.
    #[must_use]
    pub fn silence() -> Self {
        Self { fault: Some(Fault::Silence), ..Self::document("") }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_str(value.as_ref()).unwrap());
        self
    }

    /// Compressed, once more if it is.
    #[must_use]
    pub fn gzipped(self) -> Self {
        Self { body: gzip(&self.body).into(), ..self }.header("content-encoding", "gzip")
    }

    /// With its body so many times over.
    #[must_use]
    pub const fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// In chunks, of a length that is not told ahead.
    #[must_use]
    pub const fn chunked(mut self) -> Self {
        self.framing = Framing::Chunks;
        self
    }

    /// Until the connection closes.
    #[must_use]
    pub const fn until_closed(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// Without its last byte, and without what says that there is no more.
    #[must_use]
    pub const fn cut_off(mut self) -> Self {
        self.fault = Some(Fault::End);
        self
    }

    /// With a pause after each byte of the body.
    #[must_use]
    pub const fn dripping(mut self, pause: Duration) -> Self {
        self.fault = Some(Fault::Haste(pause));
        self
    }

    /// The answer to a request: itself, or that it is still what was seen (RFC 9110, 13.2.2).
    fn to(self, request: &HeaderMap) -> Self {
        let is_seen = |condition: HeaderName, validator: HeaderName| {
            let seen = request.get(condition);
            seen.is_some() && seen == self.headers.get(validator)
        };
        let is_unchanged = if request.contains_key(header::IF_NONE_MATCH) {
            is_seen(header::IF_NONE_MATCH, header::ETAG)
        } else {
            is_seen(header::IF_MODIFIED_SINCE, header::LAST_MODIFIED)
        };
        if is_unchanged && self.status == StatusCode::OK { Self::status(304) } else { self }
    }

    fn length(&self) -> usize {
        self.body.len() * self.times
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", self.status).into_bytes();
        match self.framing {
            Framing::Length => head.extend(format!("content-length: {}\r\n", self.length()).bytes()),
            Framing::Chunks => head.extend(b"transfer-encoding: chunked\r\n"),
            Framing::Close => {}
        }
        for (name, value) in &self.headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        head
    }

    /// Writes it, and tells of each piece of its body that could be.
    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), mut sent: impl FnMut(usize)) -> io::Result<()> {
        let (piece, pause, missing) = match self.fault {
            Some(Fault::Silence) => return std::future::pending().await,
            Some(Fault::End) => (PIECE, None, 1),
            Some(Fault::Haste(pause)) => (1, Some(pause), 0),
            None => (PIECE, None, 0),
        };
        to.write_all(&self.head()).await?;
        let mut left = self.length() - missing;
        for piece in (0..self.times).flat_map(|_| self.body.chunks(piece)) {
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            left -= piece.len();
            if let Framing::Chunks = self.framing {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                to.write_all(&chunk).await?;
            } else {
                to.write_all(piece).await?;
            }
            sent(piece.len());
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        if matches!(self.framing, Framing::Chunks) && missing == 0 {
            to.write_all(b"0\r\n\r\n").await?;
        }
        to.shutdown().await
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // With this task they end.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut locked_state = locked(&state);
        locked_state.connections += 1;
        locked_state.open += 1;
        drop(locked_state);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // Who hangs up has heard enough.
            let _ = answer(stream, &state).await;
            locked(&state).open -= 1;
        });
    }
}

/// Answers the one request of a connection, and stays until the other side hangs up: a connection that is closed with
/// something unread in it is reset, and what was sent over it may be lost.
async fn answer(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let (path, headers) = read_head(&mut reader).await?;
    let answer = {
        let mut state = locked(state);
        let requests = state.requests.entry(path.clone()).or_default();
        requests.count += 1;
        requests.last_headers.clone_from(&headers);
        state.answers.get(&path).cloned().unwrap_or_else(|| Answer::status(404)).to(&headers)
    };
    let answered = async {
        let count = |bytes| {
            let mut state = locked(state);
            state.requests.entry(path.clone()).or_default().bytes_sent += bytes as u64;
        };
        answer.write(&mut writer, count).await?;
        std::future::pending().await
    };
    let mut unread = tokio::io::sink();
    tokio::select! {
        failed = answered => failed,
        hung_up = tokio::io::copy_buf(&mut reader, &mut unread) => hung_up.map(drop),
    }
}

/// The path that is asked for, and the headers.
async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<(String, HeaderMap)> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let path = line.split(' ').nth(1).ok_or(io::ErrorKind::InvalidData)?.to_owned();
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        from.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok((path, headers)) };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        headers.append(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
    }
}

/// Compresses.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many MiB of zeros, compressed: about 1 KB for each. They are one block over and over, so that it is done at once.
#[must_use]
pub fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let zeros = vec![0; 1024 * 1024];
    let mut crc = Crc::new();
    crc.update(&zeros);
    let compressed = |flush| {
        let mut block = Vec::with_capacity(64 * 1024);
        Compress::new(Compression::best(), false).compress_vec(&zeros, &mut block, flush).unwrap();
        block
    };
    // After a full flush nothing refers to what was before.
    let (block, last) = (compressed(FlushCompress::Full), compressed(FlushCompress::Finish));
    let mut whole_crc = Crc::new();
    // The header of one without a name or a time (RFC 1952, 2.3).
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for _ in 1..mebibytes {
        bomb.extend(&block);
        whole_crc.combine(&crc);
    }
    bomb.extend(last);
    whole_crc.combine(&crc);
    bomb.extend(whole_crc.sum().to_le_bytes());
    bomb.extend(whole_crc.amount().to_le_bytes());
    bomb
}

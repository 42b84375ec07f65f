//! Calls to a gRPC server on a Unix socket: one request, one answer, a connection of its own each. That is all CRI needs,
//! and it goes on working when the server is killed and comes back.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use prost::Message;

/// The longest any call may take; the slowest, a stop with its grace period, takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer that is none: gRPC's status, or what went wrong on the way (code 14, "unavailable", as gRPC has it).
#[derive(Clone, Debug)]
pub struct Status {
    pub code: u32,
    pub message: String,
}

impl Status {
    fn unavailable(cause: impl fmt::Display) -> Self {
        Self { code: 14, message: cause.to_string() }
    }

    /// Status and message of the trailers, or of the headers where there was nothing else.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let code = text("grpc-status")?.parse().unwrap_or(2);
        Some(Self { code, message: unescaped(text("grpc-message").unwrap_or_default()) })
    }
}

/// gRPC escapes what is no printable ASCII as `%XX`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A server's socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Calls `method` (`/runtime.v1.RuntimeService/Version`) and waits for the answer.
    pub fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A, Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Status::unavailable)?;
        let answer = runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, self.talk(method, framed(request))).await {
                Ok(answer) => answer,
                Err(_) => Err(Status::unavailable(format!("no answer to {method} in {PATIENCE:?}"))),
            }
        })?;
        A::decode(answer.as_slice()).map_err(Status::unavailable)
    }

    async fn talk(&self, method: &str, request: Bytes) -> Result<Vec<u8>, Status> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(Status::unavailable)?;
        let (client, connection) = h2::client::handshake(stream).await.map_err(Status::unavailable)?;
        let connection = tokio::spawn(connection);
        let answer = ask(client, method, request).await;
        connection.abort();
        answer
    }
}

async fn ask(client: h2::client::SendRequest<Bytes>, method: &str, body: Bytes) -> Result<Vec<u8>, Status> {
    let head = Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(Status::unavailable)?;
    let mut client = client.ready().await.map_err(Status::unavailable)?;
    let (answer, mut stream) = client.send_request(head, false).map_err(Status::unavailable)?;
    stream.send_data(body, true).map_err(Status::unavailable)?;

    let (head, mut body) = answer.await.map_err(Status::unavailable)?.into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(Status::unavailable)?;
        // Without this the server may send no more than the first 64 KiB.
        body.flow_control().release_capacity(chunk.len()).map_err(Status::unavailable)?;
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(Status::unavailable)?;
    let status = trailers.as_ref().and_then(Status::of).or_else(|| Status::of(&head.headers));
    match status {
        Some(status) if status.code != 0 => Err(status),
        Some(_) => unframed(&bytes),
        None => Err(Status::unavailable(format!("{} and no gRPC status", head.status))),
    }
}

/// One byte "not compressed", four of length, the message.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), &message].concat().into()
}

fn unframed(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    match bytes {
        [0, length @ ..] if length.len() >= 4 => {
            let (length, message) = length.split_at(4);
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            message.get(..length).map(<[u8]>::to_vec)
        }
        _ => None,
    }
    .ok_or_else(|| Status::unavailable(io::Error::from(io::ErrorKind::UnexpectedEof)))
}

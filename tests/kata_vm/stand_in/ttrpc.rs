//! ttrpc, containerd's protocol to its shims: frames of ten bytes' head and a message, many calls on one connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use prost::Message;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// The codes of gRPC that are used here.
pub const UNKNOWN: i32 = 2;
pub const NOT_FOUND: i32 = 5;
pub const UNIMPLEMENTED: i32 = 12;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Failure {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(UNKNOWN, message)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Failure>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

/// What answers a method's message.
pub trait Service: Send + Sync + 'static {
    fn call(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, Failure>;

    /// What is to be done when the answer is out.
    fn answered(&self, method: &str);
}

/// Answers what comes on a connection, each call in a thread of its own, until its end.
pub fn serve(mut stream: UnixStream, service: &Arc<impl Service>) -> io::Result<()> {
    let answers = Arc::new(Mutex::new(stream.try_clone()?));
    loop {
        let mut head = [0; 10];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if head[4 + 4] != REQUEST {
            return Err(io::Error::other(format!("a frame of type {}", head[8])));
        }
        let request = Request::decode(body.as_slice()).map_err(io::Error::other)?;
        let (service, answers) = (Arc::clone(service), Arc::clone(&answers));
        thread::spawn(move || {
            let answer = match service.call(&request.method, &request.payload) {
                Ok(payload) => Response { status: None, payload },
                Err(failure) => Response { status: Some(failure), payload: Vec::new() },
            };
            let body = answer.encode_to_vec();
            let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
            let frame = [&length, &head[4..8], &[RESPONSE, 0], &body].concat();
            // Whoever asked may be gone.
            let _ = answers.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame);
            service.answered(&request.method);
        });
    }
}

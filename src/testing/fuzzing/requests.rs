//! Targets about requests.

use super::{cut, in_pieces};
use crate::config::Config;
use crate::push::journal::Journaled;
use crate::send::socket_knobs::SocketKnobs;
use crate::send::transport::Transport;
use crate::server::{Door, Platform, Server};
use crate::wire::head::{self, BodyLength, HeadLimits, Method, Version};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

/// A head is read alike however much of it and of what follows it has come, and one that is
/// accepted cannot be read in two ways.
pub fn request_head(input: &[u8]) {
    let input = &input[..input.len().min(512)];
    let limits = HeadLimits { head_bytes_max: 256, target_bytes_max: 64, ..HeadLimits::default() };
    let whole = head::parse(input, &limits);
    for len in 0..input.len() {
        match head::parse(&input[..len], &limits) {
            Ok(None) => {}
            // What is accepted or refused early is so for good.
            Ok(Some(early)) => assert_eq!(whole, Ok(Some(early)), "after {len} bytes"),
            Err(_) => assert!(whole.is_err(), "refused after {len} bytes"),
        }
    }
    if let Ok(Some((head, head_bytes))) = whole {
        assert!(input[..head_bytes].ends_with(b"\r\n\r\n"));
        check_framing(&input[..head_bytes], &head);
    }
}

/// What RFC 9112 §3.2, §5.1, §6.1 and §6.3 forbid, looked for in the bytes themselves.
fn check_framing(bytes: &[u8], head: &head::Head<'_>) {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{text:?}");
    let fields = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    let (lengths, codings) = (fields("content-length:"), fields("transfer-encoding:"));
    assert!(lengths + codings <= 1, "{text:?}");
    assert!(fields("host:") <= 1 && (head.version == Version::Http10 || fields("host:") == 1));
    assert_eq!(head.body == BodyLength::Chunked, codings == 1, "{text:?}");
    let has_body = matches!(head.method, Method::Post | Method::Patch);
    assert!(head.version == Version::Http11 || !has_body || lengths == 1, "{text:?}");
    let folded = text.lines().skip(1).any(|line| line.starts_with([' ', '\t']));
    assert!(!folded, "{text:?}");
    let names = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    names.for_each(|(name, _)| assert!(!name.ends_with([' ', '\t']), "{text:?}"));
}

/// However the requests of a connection are cut, the same is published and answered. Two things
/// may differ: of several faults of one head, the one that is named may be the one that came first;
/// and a fault in a head that never ends may not have been looked for when its client leaves.
pub fn request_body(input: &[u8]) {
    let (bytes, pieces) = cut(input);
    let whole = serve(&[bytes]);
    let cut = serve(&in_pieces(bytes, &pieces));
    assert_eq!(cut.published, whole.published, "cut into {pieces:?}");
    if cut.answers == whole.answers {
        return;
    }
    let (cut, whole) = (Answers::of(&cut.answers), Answers::of(&whole.answers));
    assert!(whole.end_in_refusal, "cut into {pieces:?}: {cut:?} {whole:?}");
    assert_eq!(cut.before, whole.before, "cut into {pieces:?}");
}

/// Answers without the refusal that may be the last of them.
#[derive(Debug)]
struct Answers {
    before: String,
    end_in_refusal: bool,
}

impl Answers {
    fn of(bytes: &[u8]) -> Answers {
        let text = String::from_utf8_lossy(bytes);
        let (before, last) = text.split_at(text.rfind("HTTP/1.1 ").unwrap_or(0));
        let refuses = last.starts_with("HTTP/1.1 4") || last.starts_with("HTTP/1.1 5");
        let end_in_refusal = refuses && last.contains("Connection: close\r\n");
        Answers { before: if end_in_refusal { before } else { &*text }.into(), end_in_refusal }
    }
}

/// What has come of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Served {
    published: Vec<Journaled>,
    answers: Vec<u8>,
}

/// Serves one connection whose client sends these pieces, one a turn, and then closes its side.
fn serve(pieces: &[&[u8]]) -> Served {
    let config = Config { admin: None, ..Config::default() };
    let mut server = Server::new(config, StandingClock, 200, 0);
    server.keep_journal();
    let answers = Rc::new(RefCell::new(Vec::new()));
    let socket = Scripted { input: VecDeque::new(), closed: false, answers: Rc::clone(&answers) };
    server.begin_turn();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let token = server.open(socket, peer, Door::Public).expect("there is room");
    for piece in pieces.iter().copied().map(Some).chain([None]) {
        if let Some(socket) = server.socket_mut(token) {
            socket.input.extend(piece.unwrap_or_default());
            socket.closed = piece.is_none();
        }
        server.begin_turn();
        server.readable(token, piece.is_none());
        server.end_turn();
        server.check_invariants();
    }
    let published = server.hub().journal().to_vec();
    Served { published, answers: answers.take() }
}

struct StandingClock;

impl Platform for StandingClock {
    type Socket = Scripted;

    fn now_ns(&self) -> u64 {
        0
    }

    fn unix_s(&self) -> u64 {
        0
    }
}

/// A socket that takes everything.
struct Scripted {
    input: VecDeque<u8>,
    closed: bool,
    answers: Rc<RefCell<Vec<u8>>>,
}

impl Scripted {
    fn take(&self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return if self.closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(self.input.len());
        buffer.iter_mut().zip(self.input.drain(..count)).for_each(|(slot, byte)| *slot = byte);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        buffers.iter().try_fold(0, |sum, buffer| Ok(sum + self.take(buffer)?))
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes)
    }

    fn set_cork(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn apply(&mut self, _: &SocketKnobs, _: Option<&SocketKnobs>) -> io::Result<()> {
        Ok(())
    }
}

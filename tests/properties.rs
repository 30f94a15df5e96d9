//! What holds for any input whatever: properties, tried on generated ones.

#![allow(clippy::unwrap_used)] // a test may panic

use proptest::collection::vec;
use proptest::prelude::*;
use pushv::config::Config;
use pushv::send::socket_knobs::SocketKnobs;
use pushv::send::transport::Transport;
use pushv::server::{Door, Platform, Server};
use pushv::wire::chunk;
use pushv::wire::decode::{Decoder, Item};
use pushv::wire::event::{self, Encoder, Event};
use pushv::wire::head::{self, HeadLimits};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

/// The events in `bytes`, which come in the pieces between `cuts`: name, data, position.
fn events(bytes: &[u8], cuts: &[usize]) -> Vec<(String, String, String)> {
    let mut decoder = Decoder::new(1 << 20);
    let mut seen = Vec::new();
    for mut piece in pieces(bytes, cuts) {
        while let Some(item) = decoder.next(&mut piece).unwrap() {
            let Item::Message(message) = item else { continue };
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            seen.push((text(message.name), text(message.data), text(message.last_id)));
        }
    }
    seen
}

fn pieces<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Bytes of which much is structure.
fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("data".into()),
        Just("data: ".into()),
        Just("id:".into()),
        Just("event: ".into()),
        Just("retry: 7".into()),
        Just(":".into()),
        Just("\r".into()),
        Just("\n".into()),
        Just("\r\n".into()),
        Just("\u{feff}".into()),
        Just("\0".into()),
        "[a-z0-9 :]{0,5}",
    ];
    vec(token, 0..40).prop_map(|tokens: Vec<String>| tokens.concat().into_bytes())
}

fn request_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"GET /events/a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        4 => Just(b"POST /events/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        2 => Just(b"POST /events/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        2 => Just(b"Content-Type: text/event-stream\r\n".to_vec()),
        2 => Just(b"3\r\nabc\r\n".to_vec()),
        1 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"Last-Event-ID: aaaaaaaa-1\r\n".to_vec()),
        1 => Just(b"OPTIONS * HTTP/1.0\r\n".to_vec()),
        1 => Just(b"POST /events/a?retry=0 HTTP/1.0\r\n".to_vec()),
        1 => Just(b"Content-Encoding: gzip\r\n".to_vec()),
        1 => Just(b"Access-Control-Request-Private-Network: true\r\n".to_vec()),
        1 => Just(b"GET /events/a?lastEventId=%zz&Last-Event-ID=%ff HTTP/1.1\r\n".to_vec()),
        1 => Just(b"HEAD /events?topic=a&topic=%62&last_event_id=earliest HTTP/1.1\r\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        2 => vec(any::<u8>(), 0..12),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn the_same_events_come_out_for_every_way_of_cutting(
        bytes in stream_bytes(), cuts in vec(any::<usize>(), 0..8)
    ) {
        prop_assert_eq!(events(&bytes, &cuts), events(&bytes, &[]));
    }

    #[test]
    fn what_is_encoded_is_decoded(
        data in "[a-z :\u{e9}\u{1f600}\r\n]{0,60}",
        name in "([a-z]{1,8}| x)?",
        id in "[!-~]{1,20}",
        cuts in vec(any::<usize>(), 0..6),
    ) {
        prop_assume!(event::check_id(&id).is_ok());
        let name = Some(&*name).filter(|name| event::check_name(name).is_ok() && !name.is_empty());
        let mut encoder = Encoder::default();
        let event = Event { name, data: &data, ..Event::default() };
        let frame = encoder.encode(&id, &event).bytes.to_vec();
        let mut chunks = chunk::Decoder::default();
        let mut body = Vec::new();
        for mut piece in pieces(&frame, &cuts) {
            while !piece.is_empty() {
                let part = chunks.decode(piece).unwrap();
                body.extend_from_slice(part.data);
                piece = &piece[part.consumed..];
            }
        }
        // A reader cannot tell one kind of line end from another.
        let expected = data.replace("\r\n", "\n").replace('\r', "\n");
        let name = name.unwrap_or_default().to_string();
        prop_assert_eq!(events(&body, &cuts), [(name, expected, id)]);
    }

    #[test]
    fn chunk_sizes_are_read_alike_however_they_are_cut(
        bytes in "[0-9a-f;\r\nx \t]{0,30}", cuts in vec(any::<usize>(), 0..6)
    ) {
        let decode = |cuts: &[usize]| {
            let mut decoder = chunk::Decoder::default();
            let mut body = Vec::new();
            for mut piece in pieces(bytes.as_bytes(), cuts) {
                while !piece.is_empty() {
                    let part = decoder.decode(piece)?;
                    body.extend_from_slice(part.data);
                    if part.done {
                        return Ok((body, true));
                    }
                    piece = &piece[part.consumed..];
                }
            }
            Ok::<_, chunk::ChunkError>((body, false))
        };
        prop_assert_eq!(decode(&cuts), decode(&[]));
    }

    /// A head that is complete is read the same whatever follows it, and one that is refused was
    /// not accepted half-way.
    #[test]
    fn heads_do_not_depend_on_what_follows(bytes in request_bytes(), more in vec(any::<u8>(), 0..8)) {
        let limits = HeadLimits::default();
        let longer = [&bytes[..], &more[..]].concat();
        if let Ok(Some((head, head_bytes))) = head::parse(&bytes, &limits) {
            prop_assert!(head_bytes <= bytes.len());
            prop_assert_eq!(head::parse(&longer, &limits), Ok(Some((head, head_bytes))));
        }
    }

    /// Whatever a client sends, in whatever pieces: the server goes on, and serves the next one.
    #[test]
    fn no_input_ends_the_server(
        bytes in request_bytes(), cuts in vec(any::<usize>(), 0..8), closes in any::<bool>()
    ) {
        let config = Config { admin: None, ..Config::default() };
        let mut server = Server::new(config, StandingClock, 10, 0);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        server.begin_turn();
        let mut inputs: VecDeque<Vec<u8>> =
            pieces(&bytes, &cuts).into_iter().filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect();
        let turns = inputs.len() + 2;
        if closes {
            inputs.push_back(Vec::new());
        }
        let token = server.open(Scripted { inputs }, peer, Door::Public).unwrap();
        for _ in 0..turns {
            server.begin_turn();
            server.readable(token, false);
            server.end_turn();
        }
        let request = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        let before = server.counters().requests;
        let next = server.open(Scripted { inputs: [request].into() }, peer, Door::Public).unwrap();
        server.begin_turn();
        server.readable(next, false);
        server.end_turn();
        prop_assert_eq!(server.counters().requests, before + 1);
    }
}

/// A head that comes byte by byte is not parsed anew for each byte: one that is four times as long
/// takes as long as four, and not four times that.
#[test]
fn a_trickling_head_costs_its_length() {
    let cpu_s = |heads: usize, value_bytes: usize| {
        let head =
            format!("GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(value_bytes));
        let bytes: VecDeque<Vec<u8>> = head.repeat(heads).bytes().map(|byte| vec![byte]).collect();
        let config = Config { admin: None, ..Config::default() };
        let mut server = Server::new(config, StandingClock, 1_000, 0);
        let (reads, peer) = (bytes.len(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let token = server.open(Scripted { inputs: bytes }, peer, Door::Public).unwrap();
        let before = pushv::sys::thread_cpu_time().unwrap();
        for _ in 0..reads {
            server.begin_turn();
            server.readable(token, false);
        }
        let took = pushv::sys::thread_cpu_time().unwrap() - before;
        assert_eq!(server.counters().requests, heads as u64);
        took.as_secs_f64()
    };
    let (four_short, one_long) = (cpu_s(4, 4_000), cpu_s(1, 16_000));
    assert!(one_long < 2.5 * four_short, "{one_long} s for one, {four_short} s for four quarters");
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

/// A socket whose client sends these pieces, one a read, an empty one being its end; it takes
/// everything.
struct Scripted {
    inputs: VecDeque<Vec<u8>>,
}

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(input) = self.inputs.pop_front() else { return Err(ErrorKind::WouldBlock.into()) };
        buffer[..input.len()].copy_from_slice(&input);
        Ok(input.len())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
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

//! The floor: an epoll loop that sends prebuilt bytes. It has no queue, no limits and no recovery,
//! so no server can do less; what a server costs above it is what it costs.
//!
//! The first byte that a connection sends says what it is: `G` (the start of a GET) a subscriber,
//! `P` (the start of a POST) the publisher. A published event is a request of fixed length. Its
//! frame is encoded by the same code as pushv's, so that both send the same bytes.

use crate::plan::DATA_BYTES;
use crate::probe::REQUEST_BYTES;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use pushv::wire::event::{Encoder, Event};
use std::io::{ErrorKind, Read, Write};

pub fn serve(kind: &str) {
    pushv::sys::set_descriptor_limit(u64::MAX).expect("the limit on descriptors");
    pushv::sys::bind_to_cpu(0).unwrap_or_else(|error| eprintln!("processor 0: {error}"));
    let mut floor = Floor::new(kind == "batched");
    loop {
        floor.turn();
    }
}

struct Floor {
    batched: bool,
    poll: Poll,
    events: Events,
    listener: TcpListener,
    connections: Vec<TcpStream>,
    subscribers: Vec<usize>,
    /// What the publisher has sent of a request that is not complete.
    input: Vec<u8>,
    /// What is to be sent.
    output: Vec<u8>,
    published: u64,
    encoder: Encoder,
}

const LISTENER: Token = Token(usize::MAX);

impl Floor {
    fn new(batched: bool) -> Floor {
        let poll = Poll::new().expect("epoll");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener = TcpListener::bind(address).expect("bound");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
        println!("listening http://{}", listener.local_addr().expect("an address"));
        Floor {
            batched,
            poll,
            events: Events::with_capacity(1024),
            listener,
            connections: Vec::new(),
            subscribers: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            published: 0,
            encoder: Encoder::default(),
        }
    }

    fn turn(&mut self) {
        self.poll.poll(&mut self.events, None).expect("polled");
        let ready: Vec<Token> = self
            .events
            .iter()
            .filter(|event| event.is_readable())
            .map(mio::event::Event::token)
            .collect();
        for token in ready {
            match token {
                LISTENER => self.accept(),
                Token(nth) => self.read(nth),
            }
        }
        self.send();
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            socket.set_nodelay(true).expect("set");
            let congestion = crate::servers::CONGESTION.as_bytes();
            socket2::SockRef::from(&socket).set_tcp_congestion(congestion).expect("set");
            let token = Token(self.connections.len());
            self.poll
                .registry()
                .register(&mut socket, token, Interest::READABLE)
                .expect("registered");
            self.connections.push(socket);
        }
    }

    fn read(&mut self, nth: usize) {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.connections[nth].read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if buffer[0] == b'G' && count < REQUEST_BYTES => self.subscribe(nth),
                Ok(count) => self.publish(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return,
            }
        }
    }

    fn subscribe(&mut self, nth: usize) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                    15\r\nretry: 2000\n: floor\n\n\r\n";
        self.connections[nth].write_all(head.as_bytes()).expect("sent");
        self.subscribers.push(nth);
    }

    fn publish(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let whole = self.input.len() / REQUEST_BYTES * REQUEST_BYTES;
        let requests: Vec<u8> = self.input.drain(..whole).collect();
        for request in requests.chunks(REQUEST_BYTES) {
            let data = std::str::from_utf8(&request[REQUEST_BYTES - DATA_BYTES..]).expect("text");
            self.published += 1;
            let id = format!("floorflo-{}", self.published);
            let frame = self.encoder.encode(&id, &Event { data, ..Event::default() });
            self.output.extend_from_slice(frame.bytes);
            if !self.batched {
                self.send();
            }
        }
    }

    fn send(&mut self) {
        if self.output.is_empty() {
            return;
        }
        for &nth in &self.subscribers {
            match self.connections[nth].write(&self.output) {
                Ok(sent) => assert_eq!(sent, self.output.len(), "the send buffer has room"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the send buffer has room")
                }
                Err(_) => {} // The probe has seen enough, and is gone.
            }
        }
        self.output.clear();
    }
}

//! A subscriber that checks every byte, and comes back at once when its stream breaks.

use super::server::PATIENCE;
use pushv::client::stream::{self, Item, Limits, Stream, StreamEnd};
use pushv::client::url::Url;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A subscription over as many connections as it takes.
pub struct Reader {
    url: Url,
    address: SocketAddr,
    connection: Option<Connection>,
    last_event_id: Vec<u8>,
    /// Connections that ended other than in order.
    pub broken: usize,
    /// The longest that it waited for an event.
    pub longest_wait: Duration,
    /// Header fields that it sends.
    fields: Vec<(String, String)>,
    /// `SO_RCVBUF`, unless it is left to the kernel.
    rcvbuf_bytes: Option<usize>,
}

struct Connection {
    socket: TcpStream,
    stream: Stream,
    buffer: Vec<u8>,
    /// What of the buffer was not looked at.
    unread: std::ops::Range<usize>,
}

/// What a stream gives next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Opened,
    Event {
        name: String,
        data: Vec<u8>,
        id: String,
    },
    /// The stream has ended in order.
    Ended,
    /// The connection has ended, and the stream was not over.
    Broken(String),
}

impl Reader {
    /// A subscriber of `/events/` and what follows that. It connects when something is asked of it.
    pub fn new(address: SocketAddr, path: &str) -> Reader {
        Reader {
            url: Url::parse(&format!("http://{address}/events/{path}")).unwrap(),
            address,
            connection: None,
            last_event_id: Vec::new(),
            broken: 0,
            longest_wait: Duration::ZERO,
            fields: Vec::new(),
            rcvbuf_bytes: None,
        }
    }

    /// The same with a receive buffer as small as the kernel permits.
    pub fn narrow(address: SocketAddr, path: &str) -> Reader {
        Reader { rcvbuf_bytes: Some(1), ..Reader::new(address, path) }
    }

    /// Subscribes, and waits until the server has said so.
    ///
    /// # Errors
    /// That the stream is malformed, or cannot be had.
    pub fn open(&mut self) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            match self.next()? {
                Next::Opened => return Ok(()),
                Next::Broken(_) => {}
                other => return Err(format!("{other:?} before a stream was opened")),
            }
        }
        Err(format!("no stream in {ATTEMPTS} attempts"))
    }

    /// Reads up to the next event, and demands that its data be `data`.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub fn expect(&mut self, data: &[u8]) -> Result<(), String> {
        let begun = Instant::now();
        for _ in 0..2 * ATTEMPTS {
            match self.next()? {
                Next::Event { name, data: found, .. } => {
                    self.longest_wait = self.longest_wait.max(begun.elapsed());
                    if name != "message" || found != data {
                        let (found, data) = (shown(&found), shown(data));
                        return Err(format!("the event {name} {found} instead of {data}"));
                    }
                    return Ok(());
                }
                Next::Opened | Next::Broken(_) => {}
                Next::Ended => self.broken += 1,
            }
        }
        Err(format!("no event in {ATTEMPTS} attempts"))
    }

    /// Reads what has come, and no more; gives how many events that were.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub fn take_what_is_there(&mut self) -> Result<usize, String> {
        let set = |reader: &Reader, on| reader.socket().map(|socket| socket.set_nonblocking(on));
        set(self, true);
        let mut events = 0;
        loop {
            match self.next() {
                Ok(Next::Event { .. }) => events += 1,
                Err(why) if why.starts_with("silence") => break,
                other => return Err(format!("{other:?}")),
            }
        }
        set(self, false);
        Ok(events)
    }

    /// Reads to the end of the stream, in which no event may come.
    ///
    /// # Errors
    /// What comes instead.
    pub fn expect_end(&mut self) -> Result<(), String> {
        match self.next()? {
            // If it broke in the meantime, there is nobody to come back to.
            Next::Ended | Next::Broken(_) => Ok(()),
            other => Err(format!("{other:?} instead of the end of the stream")),
        }
    }

    /// Leaves, to come back when something is asked of it.
    pub fn leave(&mut self) {
        self.connection = None;
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The socket, if it is connected.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.connection.as_ref().map(|connection| &connection.socket)
    }

    /// What comes next.
    ///
    /// # Errors
    /// What no server may do: say nothing, or something malformed.
    pub fn next(&mut self) -> Result<Next, String> {
        if self.connection.is_none() {
            match self.connect() {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => return Ok(self.end(StreamEnd::NoAnswer, &error.to_string())),
            }
        }
        loop {
            let connection = self.connection.as_mut().expect("just made");
            let mut unread = &connection.buffer[connection.unread.clone()];
            let before = unread.len();
            let item = connection.stream.next(&mut unread);
            connection.unread.start += before - unread.len();
            match item.map_err(|failure| format!("a malformed stream: {failure}"))? {
                Some(Item::Opened) => return Ok(Next::Opened),
                Some(Item::Retry(_)) => continue,
                Some(Item::Message(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let name =
                        if message.name.is_empty() { "message".into() } else { text(message.name) };
                    let (data, id) = (message.data.to_vec(), text(message.last_id));
                    self.last_event_id = message.last_id.to_vec();
                    return Ok(Next::Event { name, data, id });
                }
                Some(Item::Ended) => return Ok(self.end(StreamEnd::Clean, "")),
                None => {}
            }
            match connection.socket.read(&mut connection.buffer) {
                Ok(0) => {
                    let end = connection.stream.end();
                    return Ok(self.end(end, "the connection was closed"));
                }
                Ok(count) => connection.unread = 0..count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(format!("silence for {} s", PATIENCE.as_secs()));
                }
                Err(error) => return Ok(self.end(StreamEnd::Cut, &error.to_string())),
            }
        }
    }

    fn connect(&self) -> std::io::Result<Connection> {
        let domain = socket2::Domain::for_address(self.address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if let Some(bytes) = self.rcvbuf_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&self.address.into(), PATIENCE)?;
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut request = Vec::new();
        stream::request(&mut request, &self.url, &self.last_event_id, &self.fields);
        socket.write_all(&request)?;
        let limits = Limits { event_bytes_max: 4 << 20, ..Limits::default() };
        let stream = Stream::new(limits, &self.last_event_id);
        Ok(Connection { socket, stream, buffer: vec![0; BUFFER_BYTES], unread: 0..0 })
    }

    fn end(&mut self, end: StreamEnd, why: &str) -> Next {
        self.connection = None;
        if end == StreamEnd::Clean {
            return Next::Ended;
        }
        self.broken += 1;
        Next::Broken(why.into())
    }
}

/// The front of some data, for a message.
fn shown(data: &[u8]) -> String {
    let front = &data[..data.len().min(40)];
    format!("{:?} ({} bytes)", front.escape_ascii().to_string(), data.len())
}

const ATTEMPTS: usize = 5;
const BUFFER_BYTES: usize = 16 << 10;

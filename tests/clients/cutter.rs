//! A proxy that cuts event streams in the middle, as a network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A proxy that cuts the first [`CUTS`] event streams, each at another byte, half of them by a
/// reset.
#[derive(Clone)]
pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    /// What clients have sent, in the order in which it came.
    sent: Arc<Mutex<Vec<u8>>>,
}

/// How many streams are cut.
pub const CUTS: usize = 8;

impl Cutter {
    /// Begins to listen. Its threads end with the process.
    pub fn start(upstream: SocketAddr) -> Cutter {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let address = listener.local_addr().expect("bound");
        let cutter = Cutter { address, cuts: Arc::default(), sent: Arc::default() };
        let shared = cutter.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.carry(client, upstream));
            }
        });
        cutter
    }

    pub fn has_cut_all(&self) -> bool {
        self.cuts.load(Ordering::SeqCst) >= CUTS
    }

    /// Everything that clients have sent so far.
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().expect("no panic")).into_owned()
    }

    /// Carries one connection, until either side ends it or it is cut. A side that ends may come
    /// as any error, and means nothing to a proxy but the end.
    fn carry(&self, client: TcpStream, upstream: SocketAddr) {
        let Ok(server) = TcpStream::connect(upstream) else { return };
        let (from_client, to_server) = (client.try_clone(), server.try_clone());
        if let (Ok(mut from), Ok(mut to)) = (from_client, to_server) {
            let sent = Arc::clone(&self.sent);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    sent.lock().expect("no panic").extend_from_slice(&buffer[..count]);
                    if to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _gone = to.shutdown(Shutdown::Both);
            });
        }
        let _cut = self.carry_back(server, client);
    }

    fn carry_back(&self, mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
        // What is carried, and at which byte of it the connection is cut.
        let (mut carried, mut end) = (Vec::new(), None);
        let mut buffer = [0; 4096];
        loop {
            let count = server.read(&mut buffer)?;
            if count == 0 {
                return client.shutdown(Shutdown::Both);
            }
            let before = carried.len();
            carried.extend_from_slice(&buffer[..count]);
            end = end.or_else(|| self.place_of_next_cut(&carried));
            let Some(end) = end.filter(|end| *end <= carried.len()) else {
                client.write_all(&carried[before..])?;
                continue;
            };
            let end = behind_the_blank_line(&carried, end);
            client.write_all(&carried[before..end.max(before)])?;
            return self.cut(&client, &server);
        }
    }

    /// Behind the first event stream's head, at another place each time.
    fn place_of_next_cut(&self, carried: &[u8]) -> Option<usize> {
        let is_stream = carried.windows(17).any(|part| part == b"text/event-stream");
        let behind_head = carried.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
        let nth = self.cuts.load(Ordering::SeqCst);
        // A multiple of what has no factor in common with the length of a frame.
        (is_stream && nth < CUTS).then_some(behind_head + 90 + nth * 31)
    }

    fn cut(&self, client: &TcpStream, server: &TcpStream) -> std::io::Result<()> {
        let nth = self.cuts.fetch_add(1, Ordering::SeqCst);
        if nth.is_multiple_of(2) {
            // What was written must arrive: a reset takes back what its receiver has not read.
            std::thread::sleep(Duration::from_millis(20)); // the pace
            socket2::SockRef::from(client).set_linger(Some(Duration::ZERO))?;
            // Has the thread that reads let go of its descriptor: the last one to go resets.
            client.shutdown(Shutdown::Read)?;
        } else {
            client.shutdown(Shutdown::Both)?;
        }
        server.shutdown(Shutdown::Both)
    }
}

/// Some clients keep an id as soon as its line ends, and not with the blank line that ends its
/// event. They lose an event if they are cut exactly between the two, and no server can help them.
fn behind_the_blank_line(carried: &[u8], end: usize) -> usize {
    let between = carried[..end].ends_with(b"\n") && carried[end..].starts_with(b"\n\r\n");
    if between { end + 1 } else { end }
}

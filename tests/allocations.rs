//! Memory: what an event, a subscriber, a delivery and its reader allocate. A file of its own, because the
//! allocator is the whole process's.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use pushv::client::exchange;
use pushv::client::stream::{Item, Limits, Stream};
use pushv::client::url::Url;
use pushv::reactor::{Command, Reactor};
use pushv::sys::allocator;
use support::{Client, Subscriber};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// The reactor's allocations while `events` are published one by one to `subscribers`.
fn allocations(path: &str, subscribers: usize, events: usize) -> u64 {
    let reactor = Reactor::bind(support::config(&[("write_path", path)])).unwrap();
    let (address, handle) = (reactor.public_addresses()[0], reactor.handle());
    let admin =
        Url::parse(&format!("http://{}/metrics", reactor.admin_address().unwrap())).unwrap();
    let thread = std::thread::spawn(move || reactor.run());
    // Asking allocates as well, as much each time.
    let counted = || -> u64 {
        let metrics = exchange::get(&admin).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("pushv_allocations_total "));
        line.unwrap().parse().unwrap()
    };
    let mut readers: Vec<Subscriber> =
        (0..subscribers).map(|_| Subscriber::new(Client::connect(address), "/a", &[])).collect();
    let mut publisher = Client::connect(address);
    let mut publish = |count: usize| {
        for nth in 0..count {
            assert_eq!(
                publisher.request("POST", "/events/a", &[], nth.to_string().as_bytes()).status,
                200
            );
            readers.iter_mut().for_each(|reader| assert_eq!(reader.data(), nth.to_string()));
        }
    };
    publish(50); // every buffer that is kept has found its size
    let before = counted();
    publish(events);
    let allocations = counted() - before;
    handle.send(Command::Stop).unwrap();
    thread.join().unwrap().unwrap();
    allocations
}

/// In steady state an event costs some allocations, for the request that publishes it; that it is
/// delivered to a subscriber costs none, on any write path.
#[test]
fn a_delivery_allocates_nothing() {
    for path in ["split", "write", "writev", "copy", "more", "cork", "span", "auto"] {
        let (few, many) = (allocations(path, 1, 200), allocations(path, 60, 200));
        let deliveries = 200 * 59;
        // The log's index and ring double now and then, whoever listens, and so do lists of a loop
        // that is late. One allocation for each event would be 200 of them.
        assert!(
            many < few + 50,
            "{path}: {} allocations for {deliveries} more deliveries",
            many - few
        );
        assert!(few > 0 && few < 200 * 30, "{path}: {few} allocations for 200 events");
    }
}

/// Nor does reading an event, in one piece or in two, once the buffers have found their size.
#[test]
fn reading_an_event_allocates_nothing() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = b"26\r\nid: k3v9x2ab-17\nevent: x\ndata: 12345\n\n\r\n";
    let mut stream = Stream::new(Limits::default(), b"");
    assert_eq!(stream.next(&mut head.as_bytes()), Ok(Some(Item::Opened)));
    let mut read = |mut input: &[u8]| {
        let mut events = 0;
        while let Some(item) = stream.next(&mut input).unwrap() {
            assert!(matches!(item, Item::Message(message) if message.data == b"12345"));
            events += 1;
        }
        events
    };
    let mut read_all = || {
        let mut events = 0;
        for cut in 0..=chunk.len() {
            events += read(&chunk[..cut]) + read(&chunk[cut..]);
        }
        assert_eq!(events, chunk.len() + 1);
    };
    read_all();
    let before = allocator::allocations();
    read_all();
    assert_eq!(allocator::allocations() - before, 0);
}

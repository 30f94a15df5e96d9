//! The reading side: what a subscriber of an event stream has to know of HTTP and of time.
//!
//! It exists so that the server can be measured and tested by a reader that keeps to the letter,
//! and it stands on [`wire`](crate::wire) alone: any other server will do. As on the other side,
//! what can be a function of its input is one. In reading order:
//!
//! * [`url`]: where to, and where a `Location` leads from there.
//! * [`response`]: the head of an answer, and with it where its body ends.
//! * [`stream`]: the bytes of one answer become events.
//! * [`policy`]: what follows from the end of an answer.
//! * [`exchange`]: one request and its whole answer, for what is no stream.
//! * [`event_source`]: all of that around a socket, in a thread that blocks.
//!
//! Somebody with many thousands of streams takes a [`stream::Stream`] for each and brings a loop
//! of their own; somebody with one takes an [`event_source::EventSource`]:
//!
//! ```
//! use pushv::client::event_source::{Ended, EventSource, Options};
//! use pushv::client::url::Url;
//! use pushv::config::Config;
//! use pushv::reactor::{Command, Reactor};
//! use pushv::server::OwnedEvent;
//!
//! let reactor = Reactor::bind(Config {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     admin: None,
//!     ..Config::default()
//! })?;
//! let (address, handle) = (reactor.public_addresses()[0], reactor.handle());
//! let server = std::thread::spawn(move || reactor.run());
//!
//! let news = OwnedEvent { topic: "news".into(), data: "hello".into(), ..OwnedEvent::default() };
//! handle.publish(news).expect("it runs");
//! let url = Url::parse(&format!("http://{address}/events/news?last_event_id=earliest"))?;
//! let mut source = EventSource::new(url, Options::default());
//! assert_eq!(source.next_event()?.data, "hello");
//!
//! source.closer().close();
//! assert_eq!(source.next_event(), Err(Ended::Closed));
//! handle.send(Command::Stop).expect("it runs");
//! server.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod event_source;
pub mod exchange;
pub mod policy;
pub mod response;
pub mod stream;
pub mod url;

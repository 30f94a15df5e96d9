//! A load generator for event streams: many subscribers, one publisher, every event checked.
//!
//! It works against any server that speaks Server-Sent Events over HTTP/1.1. What it publishes
//! proves itself: each event carries a sequence number, the moment at which it was meant to be
//! published, and a checksum, so that every subscriber can tell what is missing, repeated, out of
//! order or altered.
//!
//! Latency is counted from the *intended* moment. A generator that counts from the moment it got
//! round to sending stops its clock while the server is slow, and reports best where it is worst
//! (coordinated omission).
//!
//! One process coordinates, and shows progress; one or more others hold the connections, each with
//! one thread and one `epoll` instance. They share nothing but the machine's monotonic clock and a
//! socket on which they exchange [lines of JSON](message). In reading order:
//!
//! * [`plan`]: what is to be done.
//! * [`payload`]: an event that proves itself.
//! * [`notice`]: what a server says that is lost.
//! * [`checker`]: what one subscriber has seen, and what is wrong with it.
//! * [`tally`]: what is counted, and how the tallies of several processes are added up.
//! * `subscriber`, `publisher`: the two kinds of connections. `crowd`: all subscribers of a
//!   process. `pipeline`: the publisher's requests.
//! * [`worker`]: the loop that holds them. [`message`]: what it hears and says.
//! * [`server_side`]: what the load costs the server, if it can be asked.
//! * [`coordinator`]: begins, watches and ends a run. [`report`]: what came of it;
//!   `human`: the same as people read it.

mod answers;
pub mod checker;
mod control;
pub mod coordinator;
mod crowd;
mod human;
pub mod message;
pub mod notice;
pub mod payload;
mod pipeline;
pub mod plan;
mod publisher;
pub mod report;
pub mod server_side;
mod subscriber;
pub mod tally;
pub mod worker;

//! What is measured: a real server and real subscribers, in processes of their own.
//!
//! The server is `pushv serve` on a processor of its own, its knobs turned through its admin
//! listener while connections are live. All subscribers and the publisher are one other process,
//! the *probe*, on another processor. In reading order:
//!
//! * [`child`]: a process that takes orders.
//! * [`server`]: the server's process: its knobs, counters and processor time.
//! * [`stream`]: how every byte of every subscriber is checked.
//! * [`probe`]: the subscribers' process; [`orders`]: what it is told and answers.
//! * [`block`]: one block: knobs turned, counters read before and after, and the figures that
//!   follow.

pub mod block;
pub mod child;
mod connect;
pub mod orders;
pub mod probe;
pub mod server;
pub mod stream;

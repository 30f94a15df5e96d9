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

pub mod policy;
pub mod response;
pub mod stream;
pub mod url;

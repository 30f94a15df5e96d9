//! Stand-ins for the world outside: built for tests only.
//!
//! * [`script`]: a socket that takes what its script says and records every call.

pub mod script;

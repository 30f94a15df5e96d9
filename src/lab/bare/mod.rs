//! The bare system call, without a server around it.

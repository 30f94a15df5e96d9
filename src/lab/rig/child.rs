//! A process that measures, and answers orders: one line of JSON each way, over a socket pair.
//!
//! It sleeps between orders, and so does its parent while an order is carried out: whatever is
//! measured has the machine to itself.

use crate::sys;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// A process that takes orders `O` and gives answers `A`. Dropped, it is ended; it also ends with the
/// thread that has started it.
#[derive(Debug)]
pub struct Child<O, A> {
    process: std::process::Child,
    socket: BufReader<UnixStream>,
    speaks: PhantomData<fn(O) -> A>,
}

impl<O: Serialize, A: DeserializeOwned> Child<O, A> {
    /// Starts `program`, which is to call [`serve`] with its standard input.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn spawn(mut program: Command) -> Result<Child<O, A>, String> {
        let text = |error: std::io::Error| format!("a process could not be started: {error}");
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        ours.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        // In a group of its own, so that Ctrl-C reaches the parent alone.
        program.stdin(OwnedFd::from(theirs)).process_group(0);
        sys::process::end_with_parent(&mut program);
        let process = program.spawn().map_err(text)?;
        Ok(Child { process, socket: BufReader::new(ours), speaks: PhantomData })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Gives an order and waits for the answer.
    ///
    /// # Errors
    /// What the process says went wrong, or that it says nothing.
    pub fn ask(&mut self, order: &O) -> Result<A, String> {
        self.tell(order)?;
        self.hear()
    }

    /// Gives an order, and does not wait. The answer has to be [heard](Child::hear) before the next.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn tell(&mut self, order: &O) -> Result<(), String> {
        let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.socket.get_mut().write_all(&line).map_err(gone)
    }

    /// Waits for the answer to the order that was given.
    ///
    /// # Errors
    /// As [`Child::ask`].
    pub fn hear(&mut self) -> Result<A, String> {
        let mut line = Vec::new();
        if self.socket.read_until(b'\n', &mut line).map_err(gone)? == 0 {
            return Err(gone(ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice::<Result<A, String>>(&line).map_err(|error| error.to_string())?
    }
}

fn gone(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => format!("no answer within {} s", PATIENCE.as_secs()),
        _ => format!("a process that measures has ended: {error}"),
    }
}

impl<O, A> Drop for Child<O, A> {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// The process's side: carries out orders until nobody gives any more.
///
/// # Errors
/// If the socket fails, or an order is not understood.
pub fn serve<O: DeserializeOwned, A: Serialize>(
    socket: UnixStream,
    mut carry_out: impl FnMut(O) -> Result<A, String>,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut answers = socket.try_clone().map_err(text)?;
    for line in BufReader::new(socket).lines() {
        let order =
            serde_json::from_str(&line.map_err(text)?).map_err(|error| error.to_string())?;
        let mut answer =
            serde_json::to_vec(&carry_out(order)).map_err(|error| error.to_string())?;
        answer.push(b'\n');
        answers.write_all(&answer).map_err(text)?;
    }
    Ok(())
}

/// An order is a block, or the opening of thousands of connections.
const PATIENCE: Duration = Duration::from_secs(120);

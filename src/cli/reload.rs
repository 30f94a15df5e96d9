//! SIGHUP: reads the configuration again, in a thread, because reading files and resolving names takes
//! time that the loop does not have.

use super::service;
use super::settings::Sources;
use pushv::reactor::{Command, Gone, Handle};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// At most one thread that reads the configuration.
///
/// A file that never ends (a FIFO, a file system that hangs) would otherwise hold one more thread for
/// each SIGHUP; and of two threads the one that has read the older text could be the last to hand it
/// over.
#[derive(Debug, Clone, Default)]
pub struct Reloads {
    state: Arc<AtomicU8>,
}

impl Reloads {
    /// Has `read` called in a thread. If that is under way already, it is called once more after that,
    /// however often it is asked for: what was changed before the last request is read.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn request(&self, read: impl Fn() + Send + 'static) -> io::Result<()> {
        if self.state.swap(REQUESTED, Ordering::AcqRel) != IDLE {
            return Ok(());
        }
        let state = Arc::clone(&self.state);
        let reading = move || {
            while state.swap(READING, Ordering::AcqRel) == REQUESTED {
                read();
                let ended =
                    state.compare_exchange(READING, IDLE, Ordering::AcqRel, Ordering::Acquire);
                if ended.is_ok() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("reload".into()).spawn(reading);
        if thread.is_err() {
            self.state.store(IDLE, Ordering::Release);
        }
        thread.map(drop)
    }
}

/// Reads the configuration and hands it over. If it is wrong, everything stays as it is.
pub fn reload(hub: &Handle, sources: &Sources) {
    service::notify_reloading();
    match sources.read() {
        Ok(config) => {
            log::info!("the configuration is read again");
            if hub.send(Command::Reconfigure(Box::new(config))) == Err(Gone) {
                log::debug!("the server has ended and adopts nothing");
            }
        }
        Err(why) => log::error!("the configuration stays as it is: {why}"),
    }
    service::notify("READY=1");
}

const IDLE: u8 = 0;
/// A thread reads, and nothing was asked for after it began.
const READING: u8 = 1;
/// A thread is to read, or to read once more.
const REQUESTED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn requests_during_a_reading_make_one_more() {
        let reloads = Reloads::default();
        let (begun, beginnings) = mpsc::channel();
        let (ends, end) = mpsc::channel::<()>();
        let end = std::sync::Mutex::new(end);
        reloads
            .request(move || {
                begun.send(()).unwrap();
                end.lock().unwrap().recv().unwrap();
            })
            .unwrap();
        beginnings.recv().unwrap();
        for _ in 0..100 {
            reloads.request(|| unreachable!("the thread that reads goes on")).unwrap();
        }
        assert!(beginnings.try_recv().is_err(), "one at a time");
        ends.send(()).unwrap();
        beginnings.recv().unwrap();
        ends.send(()).unwrap();
        // The thread ends, and a request starts another one.
        let (again, started) = mpsc::channel();
        while reloads.state.load(Ordering::Acquire) != IDLE {
            thread::yield_now();
        }
        assert!(beginnings.try_recv().is_err(), "a hundred requests make one more");
        reloads.request(move || again.send(()).unwrap()).unwrap();
        started.recv().unwrap();
    }
}

//! A client that asks for next to nothing, all the time, and notes how long it waits.

use crate::support::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The waits of the client, as they end.
pub struct Probe {
    waits: Receiver<Wait>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    began: Instant,
    ended: Instant,
}

impl Probe {
    /// A probe of the public listener at `address`.
    pub fn start(address: SocketAddr) -> Probe {
        let (sender, waits) = channel();
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = ends.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(address);
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(client.request("GET", "/healthz", &[], b"").status, 200);
                if sender.send(Wait { began, ended: Instant::now() }).is_err() {
                    return;
                }
            }
        });
        Probe { waits, ends, thread: Some(thread) }
    }

    /// The longest wait of those that overlap with `work`.
    pub fn longest_during(&self, work: impl FnOnce()) -> Duration {
        let begin = Instant::now();
        work();
        let end = Instant::now();
        let mut longest = Duration::ZERO;
        loop {
            let wait = self.waits.recv().expect("the probe goes on");
            if wait.began >= end {
                return longest;
            }
            if wait.ended >= begin {
                longest = longest.max(wait.ended - wait.began);
            }
        }
    }
}

impl Drop for Probe {
    /// Ends while the server is still there.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

//! A hub on axum and tokio's single-threaded runtime, as one writes it with care: an event's bytes
//! are made once and shared by all subscribers' bodies, all that is ready when a subscriber's turn
//! comes goes out as one piece, and whoever falls behind is closed.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::ListenerExt;
use futures_util::stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many events a subscriber may be behind.
const BACKLOG_MAX: usize = 4096;
/// How much goes out as one piece.
const PIECE_BYTES_MAX: usize = 64 << 10;

struct Topic {
    published: u64,
    frames: broadcast::Sender<Bytes>,
}

struct Hub {
    stream_id: String,
    topics: Mutex<HashMap<String, Topic>>,
}

impl Hub {
    fn with_topic<T>(&self, name: String, act: impl FnOnce(&mut Topic) -> T) -> T {
        let mut topics = self.topics.lock().expect("nobody panics with it");
        let topic = topics
            .entry(name)
            .or_insert_with(|| Topic { published: 0, frames: broadcast::channel(BACKLOG_MAX).0 });
        act(topic)
    }
}

async fn publish(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    data: String,
) -> StatusCode {
    hub.with_topic(name, |topic| {
        topic.published += 1;
        let mut frame = String::with_capacity(data.len() + 40);
        writeln!(frame, "id: {}-{}", hub.stream_id, topic.published).expect("a string takes all");
        for line in data.split('\n') {
            frame.push_str("data: ");
            frame.push_str(line);
            frame.push('\n');
        }
        frame.push('\n');
        // An error says that there is no subscriber.
        let _subscribers = topic.frames.send(frame.into());
    });
    StatusCode::NO_CONTENT
}

async fn subscribe(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> impl IntoResponse {
    let frames = hub.with_topic(name, |topic| topic.frames.subscribe());
    let start = Some(Bytes::from_static(b"retry: 2000\n\n"));
    let body = stream::unfold((start, frames), |(start, mut frames)| async {
        let piece = match start {
            Some(start) => start,
            None => next_piece(&mut frames).await?,
        };
        Some((Ok::<Bytes, Infallible>(piece), (None, frames)))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body))
}

/// Waits for the next event and takes what is ready behind it. `None` ends the stream: the
/// subscriber fell behind, and its client will come back.
async fn next_piece(frames: &mut broadcast::Receiver<Bytes>) -> Option<Bytes> {
    let first = match frames.recv().await {
        Ok(frame) => frame,
        Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
    };
    if frames.is_empty() {
        return Some(first); // the usual case, without a copy
    }
    let mut piece = first.to_vec();
    while piece.len() < PIECE_BYTES_MAX {
        let Ok(frame) = frames.try_recv() else { break };
        piece.extend_from_slice(&frame);
    }
    Some(piece.into())
}

/// Serves what `listener` accepts, until the process is ended.
pub fn serve(listener: std::net::TcpListener) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let stream_id = format!("{:08x}", now.as_millis() as u32);
    let hub = Arc::new(Hub { stream_id, topics: Mutex::default() });
    let routes =
        Router::new().route("/events/{topic}", get(subscribe).post(publish)).with_state(hub);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.expect("a runtime").block_on(async {
        listener.set_nonblocking(true).expect("set");
        let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("set"));
        axum::serve(listener, routes).await.expect("serves");
    });
}

//! Clients for browsers, in Chromium, on a page of another origin that sends its cookies along.

use crate::browser::Browser;
use crate::drive::Scene;
use crate::support::skip;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Has a page read what is published. `begin` is the text of a module that calls `open()`, `error()`
/// and `message(data, id)`, with the address to subscribe to in `url`.
fn drives(needs: &[&str], begin: &str, resumes_by: &str) {
    let missing = needs.iter().find(|package| !modules().join(package).exists());
    if let Some(package) = missing {
        return skip(&format!("not installed: {package} (.ci/run says how)"));
    }
    let Some(mut browser) = Browser::start() else { return };
    let pages = serve_modules();
    let scene = Scene::start(&format!("http://{pages}"));
    browser.open(&format!("http://{pages}/"));
    let url = scene.url();
    browser.evaluate(&format!(
        "window.lines = [];
         window.report = (...line) => lines.push(line.join(' '));
         window.begin = async () => {{
           const url = '{url}';
           const open = () => report('open'), error = () => report('error');
           const message = (data, id) =>
             report('message', JSON.stringify(data), JSON.stringify(id));
           {begin}
         }};
         document.cookie = 'session=1';
         begin().catch(why => report(String(why)));"
    ));
    let mut read = VecDeque::new();
    scene.drive(|| {
        while read.is_empty() {
            browser.wait_until("lines.length");
            let lines = browser.evaluate("lines.splice(0)");
            read.extend(lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().into()));
        }
        read.pop_front().unwrap()
    });
    let sent = scene.cutter.sent().to_ascii_lowercase();
    assert!(sent.contains(resumes_by), "{sent}");
    assert!(sent.contains("\r\ncookie: session=1\r\n"), "{sent}");
}

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules")
}

/// Serves an empty page and the files of npm's packages, until the process ends.
fn serve_modules() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(&client).lines().map_while(Result::ok);
            let line = head.next().unwrap_or_default();
            let _rest = head.take_while(|line| !line.is_empty()).count();
            let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            // TypeScript leaves the endings of its imports to a bundler.
            let file = [path.to_owned(), format!("{path}.js")]
                .into_iter()
                .map(|path| modules().join(path))
                .find(|file| file.is_file());
            let (media_type, body) = match (path, file) {
                ("", _) => ("text/html", b"<!doctype html><title>page</title>".to_vec()),
                (_, Some(file)) => ("text/javascript", std::fs::read(file).unwrap_or_default()),
                (_, None) => ("text/plain", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            );
            let _gone = client.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

const HEADER: &str = "\r\nlast-event-id: ";

#[test]
fn event_source() {
    let begin = "
      const source = new EventSource(url, { withCredentials: true });
      source.onopen = open;
      source.onerror = error;
      source.onmessage = event => message(event.data, event.lastEventId);";
    drives(&[], begin, HEADER);
}

#[test]
fn event_source_polyfill() {
    let begin = "
      await import('/event-source-polyfill/src/eventsource.js');
      const source = new EventSourcePolyfill(url + '?last_event_id=earliest', { withCredentials: true });
      source.onopen = open;
      source.onerror = error;
      source.onmessage = event => message(event.data, event.lastEventId);";
    drives(&["event-source-polyfill"], begin, "&lasteventid=");
}

#[test]
fn reconnecting_event_source() {
    let begin = "
      await import('/reconnecting-eventsource/dist/ReconnectingEventSource.min.js');
      const source = new ReconnectingEventSource(url, { withCredentials: true, max_retry_time: 100 });
      source.onopen = open;
      source.onerror = error;
      source.onmessage = event => message(event.data, event.lastEventId);";
    drives(&["reconnecting-eventsource"], begin, HEADER);
}

/// It ends with the stream, unless its `onclose` throws.
#[test]
fn fetch_event_source() {
    let begin = "
      const { fetchEventSource } = await import('/@microsoft/fetch-event-source/lib/esm/index.js');
      await fetchEventSource(url, {
        credentials: 'include',
        openWhenHidden: true,
        headers: { 'Cache-Control': 'no-cache' },
        async onopen() { open(); },
        onclose() { throw new Error('the stream has ended'); },
        onerror() { error(); },
        onmessage(event) { if (event.event === '') message(event.data, event.id); },
      });";
    drives(&["@microsoft/fetch-event-source"], begin, HEADER);
}

#[test]
fn sse_js() {
    let begin = "
      const { SSE } = await import('/sse.js/lib/sse.js');
      const source = new SSE(url, { withCredentials: true, autoReconnect: true, useLastEventId: true });
      source.addEventListener('open', open);
      source.addEventListener('error', error);
      source.addEventListener('message', event => message(event.data, event.lastEventId));
      source.stream();";
    drives(&["sse.js"], begin, HEADER);
}

//! The live page in a browser, fed by real servers: it shows what is, what it flips is flipped, and
//! it outlives the server.
//!
//! Without Chromium only what the server says about the page is tested.

#![allow(clippy::unwrap_used)] // a test may panic

mod browser;
mod support;

use browser::Browser;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use support::{Client, Server, Subscriber};

/// Someone publishes bursts, and some read them, until it is dropped. Each burst is one request,
/// so all of it is queued before it is flushed.
struct Load {
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(server: &Server, subscribers: usize, burst: usize) -> Load {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..subscribers {
            let (mut subscriber, stop) = (server.subscribe("/a"), stop.clone());
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && subscriber.next().is_some() {}
            }));
        }
        let (public, stopped) = (server.public, stop.clone());
        threads.push(std::thread::spawn(move || publish_bursts(public, burst, &stopped)));
        Load { stop, threads }
    }
}

/// Once more after it is to stop, since the readers look only when something comes.
fn publish_bursts(public: SocketAddr, burst: usize, stop: &AtomicBool) {
    let mut publisher = Client::connect(public);
    let body = "data: something of a usual length\n\n".repeat(burst);
    let stream = [("Content-Type", "text/event-stream")];
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let answer = publisher.request("POST", "/events/a", &stream, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        std::thread::sleep(Duration::from_millis(20)); // the pace
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the load failed");
        }
    }
}

fn address(server: &Server) -> String {
    format!("http://{}/", server.admin)
}

#[test]
fn the_page_loads_nothing_else_and_may_not() {
    let server = Server::start(&[]);
    let answer = server.admin_get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
    let policy = answer.field("Content-Security-Policy").unwrap();
    for directive in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(directive), "{policy}");
    }
    let page = answer.text();
    for outside in ["src=", "href=\"http", "@import", "url(", "import("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let head = Client::connect(server.admin).request("HEAD", "/", &[], b"");
    assert_eq!(head.field("Content-Length"), answer.field("Content-Length"));
    let post = Client::connect(server.admin).request("POST", "/", &[], b"x");
    assert_eq!((post.status, post.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    let mut stranger = Client::connect(server.admin);
    stranger.send("GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n");
    assert_eq!(stranger.answer().status, 403);
    // Not on the public listener.
    assert_eq!(server.connect().request("GET", "/", &[], b"").status, 404);
}

#[test]
fn a_flip_changes_the_calls_per_event() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let _load = Load::start(&server, 4, 32);
    browser.open(&address(&server));
    browser.wait_until("document.body.dataset.feed === 'live'");
    browser.wait_until("parseFloat(at('published').textContent) > 0");
    browser.wait_until("parseFloat(at('deliveries').textContent) > 0");
    browser
        .wait_until("at('verdict-flowing') && at('population').textContent.includes('4 streams')");
    // One call carries the whole burst; now and then it comes in two reads.
    browser.wait_until("Number(at('calls_per_event').textContent) < 0.1");
    browser.wait_until("Number(at('frames_per_call').textContent) > 10");

    let pressed = |value: &str| {
        format!("document.querySelector('[data-value={value}]').ariaPressed === 'true'")
    };
    browser.wait_until(&pressed("span"));
    browser.click("[data-value=write]");
    browser.wait_until(&pressed("write"));
    assert_eq!(server.admin_get("/knobs").json("write_path"), "write");
    browser.wait_until("at('calls_per_event').textContent === '1'");
    browser.wait_until("at('flips').textContent.includes('write_path: span → write')");
    let marks = "[...document.querySelectorAll('.mark-text')].filter(text => text.textContent === 'write_path → write')";
    browser.wait_until(&format!("{marks}.length === 4"));

    // Somebody else flips.
    server.patch_knobs("", r#"{"write_path":"split"}"#);
    browser.wait_until(&pressed("split"));
    browser.wait_until("at('calls_per_event').textContent === '3'");
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn a_refused_value_is_explained_where_it_was_typed() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    browser.open(&address(&server));
    let input = "document.querySelector('input[aria-label=flush_policy]')";
    browser.wait_until(input);
    browser.evaluate(&format!("{input}.select(), {input}.focus()"));
    browser.type_text("sometimes");
    browser.press("Enter", "\r");
    let why = server.patch_knobs("", r#"{"flush_policy":"sometimes"}"#).json("error");
    browser.wait_until(&format!("at('error-flush_policy').textContent === {why:?}"));
    assert_eq!(browser.evaluate(&format!("{input}.value")), "sometimes");
    browser.press("Escape", "");
    assert_eq!(browser.evaluate(&format!("{input}.value")), "turn");
    assert_eq!(browser.text("#error-flush_policy"), "");

    browser.evaluate(&format!("{input}.select()"));
    browser.type_text("linger:7ms");
    browser.press("Enter", "\r");
    browser.wait_until("at('flips').textContent.includes('flush_policy: turn → linger:7ms')");
    assert_eq!(server.admin_get("/knobs").json("flush_policy"), "linger:7ms");
    assert_eq!(browser.complaints, [""; 0]);
}

/// A subscriber that has the head of its stream, and reads no more; enough is published to fill
/// every buffer on the way.
fn stopped_reader(server: &Server) -> Subscriber {
    let stopped = Subscriber::new(Client::connect_narrow(server.public), "/stopped", &[]);
    for _ in 0..40 {
        server.publish("stopped", &"x".repeat(10_000));
    }
    stopped
}

#[test]
fn a_reader_that_has_stopped_is_told_from_the_others() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(&[("so_sndbuf_bytes", "8192"), ("observe_ms", "100")]);
    let _prompt = server.subscribe("/other");
    let stopped = stopped_reader(&server);
    let peer = stopped.client.socket.local_addr().unwrap();
    browser.open(&address(&server));
    let row = "document.querySelector('#worst > li')";
    browser.wait_until(&format!("{row}?.querySelector('.peer').textContent === '{peer}'"));
    browser.wait_until(&format!("{row}.querySelector('.verdict.not_reading')"));
    assert_eq!(browser.text("#worst > li .verdict"), "not reading");
    browser.wait_until("at('verdict-not_reading').textContent === '1 not reading'");
    assert_ne!(browser.text("#worst > li .why"), "");
    let events = browser.text("#worst > li .stage.behind .events");
    assert!(events.ends_with(" ev.") && !events.starts_with('0'), "{events}");

    // By keyboard.
    browser.evaluate(&format!("{row}.querySelector('summary').focus()"));
    browser.press("Enter", "\r");
    browser.wait_until(&format!("{row}.querySelector('.more').textContent.includes('round trip')"));
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn a_pause_holds_the_picture_but_not_the_knobs() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    browser.open(&address(&server));
    browser.wait_until("document.body.dataset.feed === 'live'");
    browser.wait_until("document.querySelector('#totals dd')?.textContent === '0'");
    browser.click("#pause");
    browser.wait_until("document.body.dataset.feed === 'paused'");
    server.publish("a", "something");
    server.patch_knobs("", r#"{"write_path":"copy"}"#);
    browser.wait_until("document.querySelector('[data-value=copy]').ariaPressed === 'true'");
    browser.wait_until("heard.latest.counters.published === 1");
    assert_eq!(browser.text("#totals dd"), "0");
    browser.click("#pause");
    browser.wait_until("document.querySelector('#totals dd').textContent === '1'");
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn the_page_outlives_the_server() {
    let Some(mut browser) = Browser::start() else { return };
    // Other tests bind to 127.0.0.1, and connections begin there: these addresses stay free when the
    // server goes.
    let server = Server::start(&[("listen", "127.0.0.4:0"), ("admin", "127.0.0.4:0")]);
    browser.open(&address(&server));
    browser.wait_until("document.body.dataset.feed === 'live' && heard.samples.length > 2");
    let (public, admin) = (server.public, server.admin);
    let epoch = browser.evaluate("heard.epoch");
    drop(server);
    browser.wait_until("document.body.dataset.feed === 'interrupted'");
    assert!(browser.text("#status").contains("interrupted"));
    // What was last known stays.
    assert_eq!(browser.text("#published"), "0/s");
    browser.click("[data-value=write]");
    browser.wait_until("at('error-write_path').textContent.startsWith('not changed: ')");

    let (public, admin) = (public.to_string(), admin.to_string());
    let _server = Server::start(&[("listen", &public), ("admin", &admin)]);
    browser.wait_until("document.body.dataset.feed === 'live'");
    assert_ne!(browser.evaluate("heard.epoch"), epoch);
    browser.wait_until("document.querySelector('.mark-text')?.textContent === 'restarted'");
    browser.wait_until("at('flips').textContent.includes('restarted')");
    // Nothing of the old epoch is in the charts.
    let fresh = "heard.samples.every(sample => sample.at_ms >= heard.restarted_ms)";
    browser.wait_until(&format!("heard.latest.epoch === heard.epoch && {fresh}"));
    assert_eq!(browser.complaints, [""; 0]);
}

/// The smallest ratio of contrast between a text of the page and the paper behind it (WCAG 2.2,
/// 1.4.3), with the text that has it.
const CONTRAST: &str = r#"(() => {
    const light = colour => {
        const channel = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.match(/[\d.]+/g).map(value => channel(value / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (colour.startsWith("rgb(")) return colour;
        }
    };
    const seen = [...document.querySelectorAll("body *")].filter(element =>
        element.checkVisibility() && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const ratios = seen.map(element => {
        const style = getComputedStyle(element);
        const ink = element instanceof SVGElement ? style.fill : style.color;
        const [low, high] = [light(ink), light(paper(element))].sort((a, b) => a - b);
        return [(high + 0.05) / (low + 0.05), element.textContent];
    });
    return ratios.reduce((least, one) => one[0] < least[0] ? one : least);
})()"#;

#[test]
fn it_fits_a_phone_and_can_be_read_in_both_schemes() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Server::start(&[("so_sndbuf_bytes", "8192"), ("observe_ms", "100")]);
    let _stopped = stopped_reader(&server);
    browser.open(&address(&server));
    browser.wait_until("document.querySelector('#worst summary')");
    browser.click("#worst summary");
    browser.click("[data-value=more]");
    browser.evaluate("flip(knobs.get('flush_policy'), 'a_word_that_is_much_too_long_for_such_a_small_screen_and_no_policy')");
    browser
        .wait_until("at('error-flush_policy').textContent && document.querySelector('.mark-text')");
    browser.wait_until("document.querySelector('#worst .facts')");
    let mut papers = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for width in [360, 800, 1280] {
            browser.resize(width, 740);
            browser.wait_until(&format!("innerWidth === {width} && CHARTS[0].svg.viewBox.baseVal.width === CHARTS[0].svg.clientWidth"));
            let needed = browser.evaluate("document.documentElement.scrollWidth");
            assert!(needed.as_u64().unwrap() <= width.into(), "{needed} at {width}");
            let least = browser.evaluate(CONTRAST);
            assert!(least[0].as_f64().unwrap() >= 4.5, "{scheme}: {least}");
        }
        papers.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(papers[0], papers[1]);
    assert_eq!(browser.complaints, [""; 0]);
}

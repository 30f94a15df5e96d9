//! Networks that lose, crawl, and end without a word.
//!
//! The server has a network namespace of its own, and two links to the one of its clients, of
//! which one stays good. This program starts itself again within a new namespace: the machine's
//! network is not touched.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::{self, PATIENCE, Server, until};
use super::table::Row;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The argument with which this program plays the case within a namespace.
pub const INSIDE: &str = "--inside-a-namespace";

pub fn run(scale: Scale) -> Vec<Row> {
    let program = std::env::current_exe().unwrap();
    let scale = scale.of("--quick", "--full");
    let arguments = ["--net", "--", program.to_str().unwrap(), INSIDE, scale];
    match server::run("unshare", &arguments) {
        Err(why) => vec![Row::new("a network namespace", 1, Err(why))],
        Ok(text) => text.lines().filter_map(decode).collect(),
    }
}

/// The case itself; its rows go to standard output.
pub fn inside(scale: Scale) {
    let outcome = Links::new().map(|links| {
        [
            ("a link goes down without a word", scale.of(5, 50), vanish as fn(&_, _) -> _),
            ("packets of some are dropped, one way", scale.of(5, 50), dropped),
            ("2 % of packets lost, 256 kbit/s", scale.of(3, 10), lossy),
        ]
        .map(|(fault, count, act)| Row::new(fault, count, act(&links, count)))
    });
    let rows = outcome.unwrap_or_else(|why| {
        [why.clone(), why.clone(), why].map(|why| Row::new("links between namespaces", 1, Err(why)))
    });
    rows.iter().for_each(|row| println!("{}", encode(row)));
}

fn encode(row: &Row) -> String {
    let (verdict, text) = match &row.result {
        Ok(text) => ("ok", text),
        Err(why) => ("wrong", why),
    };
    format!("{}\t{}\t{verdict}\t{}", row.fault, row.times, text.replace(['\n', '\t'], " "))
}

fn decode(line: &str) -> Option<Row> {
    let parts: Vec<&str> = line.splitn(4, '\t').collect();
    let [fault, times, verdict, text] = parts[..] else { return None };
    let result = if verdict == "ok" { Ok(text.to_owned()) } else { Err(text.to_owned()) };
    Some(Row::new(fault, times.parse().ok()?, result))
}

/// Two links to another namespace, `good` and `bad`, and somebody who keeps it.
struct Links {
    keeper: Child,
}

impl Links {
    fn new() -> Result<Links, String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let keeper = command.spawn().map_err(|error| error.to_string())?;
        let links = Links { keeper };
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = links.pid();
        until(PATIENCE, || namespace(&pid) != namespace("self")).map_err(|()| "no namespace")?;
        server::run("ip", &["link", "set", "lo", "up"])?;
        links.there("ip", &["link", "set", "lo", "up"])?;
        for (name, net) in [("good", 77), ("bad", 78)] {
            let there = format!("{name}-s");
            let (ours, theirs) = (format!("10.{net}.0.1/24"), format!("10.{net}.0.2/24"));
            let veth = ["link", "add", name, "type", "veth", "peer", "name", &there, "netns", &pid];
            server::run("ip", &veth)?;
            server::run("ip", &["addr", "add", &ours, "dev", name])?;
            server::run("ip", &["link", "set", name, "up"])?;
            links.there("ip", &["addr", "add", &theirs, "dev", &there])?;
            links.there("ip", &["link", "set", &there, "up"])?;
        }
        Ok(links)
    }

    fn pid(&self) -> String {
        self.keeper.id().to_string()
    }

    /// Runs a program in the server's namespace.
    fn there(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let pid = self.pid();
        server::run("nsenter", &[&["-t", &pid, "-n", "--", program][..], arguments].concat())
    }

    /// A server over there, with subscribers over the good link and over the bad one.
    fn serve(&self, count: usize, user_timeout_ms: u32) -> Result<Scene, String> {
        let pid = self.pid();
        let token = format!("PUSHV_PUBLISH_TOKEN={TOKEN}");
        let wrapper = ["nsenter", "-t", &pid, "-n", "--", "env", &token];
        let arguments = [
            ("--listen", "0.0.0.0:0"),
            ("--heartbeat-ms", "200"),
            ("--tcp-user-timeout-ms", &*user_timeout_ms.to_string()),
            ("--stall-timeout-ms", "10000"),
        ];
        let arguments: Vec<&str> =
            arguments.iter().flat_map(|(flag, value)| [*flag, value]).collect();
        let started = Server::start_under(&wrapper, &arguments);
        let server = started.map_err(|refused| format!("{refused:?}"))?;
        let port = server.public.port();
        let at = |net| SocketAddr::from(([10, net, 0, 2], port));
        let mut publisher = Publisher::new(at(77));
        publisher.token = Some(TOKEN);
        publisher.publish("t", "first", b"first")?;
        let readers =
            |net| -> Vec<Reader> { (0..count).map(|_| Reader::new(at(net), "t")).collect() };
        let mut scene = Scene { server, publisher, good: readers(77), bad: readers(78) };
        scene.good.iter_mut().chain(&mut scene.bad).try_for_each(Reader::open)?;
        Ok(scene)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let _ended = self.keeper.kill();
        let _status = self.keeper.wait();
    }
}

struct Scene {
    server: Server,
    publisher: Publisher,
    good: Vec<Reader>,
    bad: Vec<Reader>,
}

impl Scene {
    /// Publishes events and has those on the good link read them at once.
    fn publish(&mut self, events: std::ops::Range<usize>) -> Result<(), String> {
        for nth in events {
            self.publisher.publish("t", &nth.to_string(), &data(nth))?;
            self.good.iter_mut().try_for_each(|reader| reader.expect(&data(nth)))?;
        }
        Ok(())
    }

    fn catch_up(&mut self, events: std::ops::Range<usize>) -> Result<(), String> {
        let read =
            |reader: &mut Reader| events.clone().try_for_each(|nth| reader.expect(&data(nth)));
        self.bad.iter_mut().try_for_each(read)
    }

    /// The server's descriptors when those on the bad link are gone.
    fn without_the_bad(&self) -> usize {
        self.server.descriptors() - self.bad.len()
    }

    /// Waits until the server has given up those on the bad link, and only `staying` descriptors are
    /// open; gives how long that took.
    fn lose(&mut self, staying: usize) -> Result<Duration, String> {
        let begun = Instant::now();
        let gone = until(PATIENCE, || self.server.descriptors() <= staying);
        gone.map_err(|()| format!("{} are still open", self.server.descriptors() - staying))?;
        Ok(begun.elapsed())
    }

    /// The network is whole again: the lost ones come back, and have missed nothing.
    fn resume(mut self, events: std::ops::Range<usize>) -> Result<(), String> {
        self.bad.iter_mut().for_each(Reader::leave);
        self.catch_up(events)?;
        match self.good.iter().all(|reader| reader.broken == 0) {
            true => self.server.drain(),
            false => Err("a stream on the good link was broken off".into()),
        }
    }
}

fn vanish(links: &Links, count: usize) -> Result<String, String> {
    let mut scene = links.serve(count, 1500)?;
    scene.publish(0..5)?;
    scene.catch_up(0..5)?;
    let staying = scene.without_the_bad();
    server::run("ip", &["link", "set", "bad", "down"])?;
    scene.publish(5..25)?;
    let took = scene.lose(staying);
    server::run("ip", &["link", "set", "bad", "up"])?;
    let took = took?;
    scene.resume(5..25)?;
    Ok(closed_after(took))
}

fn dropped(links: &Links, count: usize) -> Result<String, String> {
    let mut scene = links.serve(count, 1500)?;
    scene.publish(0..5)?;
    scene.catch_up(0..5)?;
    // What they send arrives, which is acknowledgements and no more.
    let rule = |action| ["-t", "filter", action, "OUTPUT", "-o", "bad-s", "-j", "DROP"];
    let staying = scene.without_the_bad();
    links.there("iptables", &rule("-A"))?;
    // Nothing is published: it is the heartbeat that finds out.
    let took = scene.lose(staying);
    links.there("iptables", &rule("-D"))?;
    let took = took?;
    scene.publish(5..25)?;
    scene.resume(5..25)?;
    Ok(closed_after(took))
}

fn closed_after(took: Duration) -> String {
    let took_s = took.as_secs_f64();
    format!(
        "closed after {took_s:.1} s (TCP_USER_TIMEOUT 1.5 s); they resume, and have missed nothing"
    )
}

fn lossy(links: &Links, count: usize) -> Result<String, String> {
    const EVENTS: usize = 40;
    let random = ["-m", "statistic", "--mode", "random", "--probability", "0.02", "-j", "DROP"];
    let rule = |action| [&[action, "INPUT", "-i", "bad"][..], &random].concat();
    if let Err(why) = server::run("iptables", &rule("-A")) {
        return Ok(format!("not tried: {why}"));
    }
    let limit = "root tbf rate 256kbit burst 4kb latency 400ms";
    let limit: Vec<&str> =
        ["qdisc", "add", "dev", "bad-s"].into_iter().chain(limit.split(' ')).collect();
    links.there("tc", &limit)?;
    let mut scene = links.serve(count, 60_000)?;
    let begun = Instant::now();
    scene.publish(0..EVENTS)?;
    let good = begun.elapsed();
    scene.catch_up(0..EVENTS)?;
    let bad = begun.elapsed();
    let broken: usize = scene.bad.iter().map(|reader| reader.broken).sum();
    server::run("iptables", &rule("-D"))?;
    links.there("tc", &["qdisc", "del", "dev", "bad-s", "root"])?;
    if scene.good.iter().any(|reader| reader.broken > 0) {
        return Err("a stream on the good link was broken off".into());
    }
    scene.server.drain()?;
    Ok(format!(
        "everybody gets everything in order: those on the good link within {:.1} s, the others \
         within {:.1} s, with {broken} connections given up and resumed",
        good.as_secs_f64(),
        bad.as_secs_f64()
    ))
}

fn data(nth: usize) -> Vec<u8> {
    format!("{nth} {}", "y".repeat(200)).into_bytes()
}

const TOKEN: &str = "faults";

//! A ceiling on memory, as a container has it: what is published must not kill the server.

use super::Scale;
use super::publisher::Publisher;
use super::reader::Reader;
use super::server::Server;
use super::table::Row;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn run(scale: Scale) -> Vec<Row> {
    let (publishes, topics) = (scale.of(150, 1000), scale.of(2_000, 20_000));
    let row = |fault: String, times, result: Result<String, String>| Row::new(fault, times, result);
    vec![
        row(format!("{CEILING_MIB} MiB: publishes of 1 MiB"), publishes, flood(publishes)),
        row(format!("{CEILING_MIB} MiB: as many topics as there are"), topics, many_topics(topics)),
    ]
}

/// Far more is published than there is memory for. The oldest goes; a reader that keeps up with
/// its own topic gets everything.
fn flood(publishes: usize) -> Result<String, String> {
    let mut server = serve(&["--log-bytes-max", "8000000", "--event-bytes-max", "1048576"]);
    let Some(ceiling) = Ceiling::over(&server) else { return Ok(NOT_TRIED.into()) };
    let mut reader = Reader::new(server.public, "small");
    reader.open()?;
    let mut publisher = Publisher::new(server.public);
    let (mut taken, mut refused) = (0, 0);
    for nth in 0..publishes {
        let target = format!("/events/large-{}", nth % 24);
        match publisher.post(&target, "text/plain", &[b'a' + (nth % 26) as u8; 1 << 20])? {
            200 => taken += 1,
            503 => refused += 1,
            status => return Err(format!("a publish is answered with {status}")),
        }
        let data = nth.to_string();
        publisher.publish("small", &data, data.as_bytes())?;
        reader.expect(data.as_bytes())?;
    }
    ceiling.check(&mut server)?;
    let seen = ceiling.peak_mib();
    server.drain()?;
    Ok(format!(
        "{taken} taken, {refused} refused with 503; at most {seen} MiB; a small stream is exact"
    ))
}

fn many_topics(topics: usize) -> Result<String, String> {
    let mut server = serve(&[]);
    let Some(ceiling) = Ceiling::over(&server) else { return Ok(NOT_TRIED.into()) };
    let before = server.status("VmRSS");
    let mut publisher = Publisher::new(server.public);
    let name = |nth: usize| format!("topic-{nth}");
    let (mut taken, mut refused) = (Vec::new(), 0);
    for nth in 0..topics {
        match publisher.post(
            &format!("/events/{}", name(nth)),
            "text/plain",
            name(nth).as_bytes(),
        )? {
            200 => taken.push(nth),
            503 => refused += 1,
            status => return Err(format!("a publish is answered with {status}")),
        }
    }
    ceiling.check(&mut server)?;
    let each_bytes = (server.status("VmRSS") - before) * 1024 / topics as u64;
    // What was acknowledged is there.
    for nth in taken.iter().step_by(97) {
        let mut reader =
            Reader::new(server.public, &format!("{}?last_event_id=earliest", name(*nth)));
        reader.expect(name(*nth).as_bytes())?;
    }
    server.drain()?;
    let taken = taken.len();
    Ok(format!(
        "{taken} taken, {refused} refused with 503; {each_bytes} bytes per topic; what was acknowledged is there"
    ))
}

fn serve(arguments: &[&str]) -> Server {
    Server::start(&[&["--logs-bytes-max", "33554432"], arguments].concat())
}

/// A memory cgroup with one process in it.
struct Ceiling {
    folder: PathBuf,
    /// The files of version 2 and version 1 differ.
    v2: bool,
}

impl Ceiling {
    /// A ceiling over `server`, if that is possible here.
    fn over(server: &Server) -> Option<Ceiling> {
        let name = format!("pushv-faults-{}", server.pid());
        let v2 = !Path::new("/sys/fs/cgroup/memory").is_dir();
        let root = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let ceiling = Ceiling { folder: Path::new(root).join(name), v2 };
        fs::create_dir(&ceiling.folder).ok()?;
        let limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
        ceiling.write(limit, &(CEILING_MIB << 20).to_string())?;
        ceiling.write("cgroup.procs", &server.pid().to_string())?;
        Some(ceiling)
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.folder.join(file), text).ok()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    fn peak_mib(&self) -> u64 {
        let file = if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        self.read(file).trim().parse::<u64>().unwrap_or(0) >> 20
    }

    /// Demands that nobody was killed.
    fn check(&self, server: &mut Server) -> Result<(), String> {
        let text = self.read(if self.v2 { "memory.events" } else { "memory.oom_control" });
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        match server.lives() && kills.is_none_or(|kills| kills == "0") {
            true => Ok(()),
            false => Err(format!("it was killed: {text}")),
        }
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // The process may have to end first.
        let gone = || fs::remove_dir(&self.folder).is_ok();
        let _remains = super::server::until(Duration::from_secs(10), gone);
    }
}

const CEILING_MIB: u64 = 96;
const NOT_TRIED: &str = "not tried: no memory cgroup can be made here";

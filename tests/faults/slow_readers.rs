//! Many that never read, beside some that do: what it costs those, the process and the kernel.

use super::Scale;
use super::server::{self, PATIENCE, Server};
use super::table::Row;
use std::process::{Child, Command, Stdio};

pub fn run(scale: Scale) -> Vec<Row> {
    let count = scale.of(200, 1000);
    vec![Row::new("subscribers that never read, beside 50 that do", count, crowd(count, scale))]
}

fn crowd(count: usize, scale: Scale) -> Result<String, String> {
    let seconds = scale.of("2s", "10s");
    let server = Server::start(&["--stall-timeout-ms", "0", "--so-sndbuf-bytes", "16384"]);
    let alone = good_readers(&server, seconds)?;
    let before_kib = server.status("VmRSS");
    let _crowd = Crowd::start(&server, count)?;
    server.wait_for("streams", count as u64, PATIENCE)?;
    let beside = good_readers(&server, seconds)?;
    server.wait_for("connections_blocked", count as u64, PATIENCE)?;
    // Once more, when all of them stand still.
    let beside = beside.max(good_readers(&server, seconds)?);
    let process_bytes = server.status("VmRSS").saturating_sub(before_kib) * 1024 / count as u64;
    let kernel_bytes = queued_bytes(&server)? / count as u64;
    if process_bytes > 4096 || kernel_bytes > 256 << 10 {
        return Err(format!("each costs {process_bytes} bytes and {kernel_bytes} in the kernel"));
    }
    let ms = |ns: u64| ns as f64 / 1e6;
    Ok(format!(
        "the 50 get every event, p99 {:.2} ms without and {:.2} ms with them; each costs the \
         process {process_bytes} bytes, the kernel {kernel_bytes} (send buffer)",
        ms(alone),
        ms(beside)
    ))
}

/// The p99 of fifty readers, each of whose events is checked, in nanoseconds.
fn good_readers(server: &Server, seconds: &str) -> Result<u64, String> {
    let url = format!("http://{}/events/t", server.public);
    let arguments = "--publish self --rate 200 --size 400 --warmup 200ms --json -n 50 --duration";
    let arguments: Vec<&str> =
        ["load", &url].into_iter().chain(arguments.split(' ')).chain([seconds]).collect();
    let json = server::run(env!("CARGO_BIN_EXE_pushv"), &arguments)?;
    let report: serde_json::Value =
        serde_json::from_str(&json).map_err(|error| error.to_string())?;
    report["latency_ns"]["p99"].as_u64().ok_or_else(|| format!("no p99 in {json}"))
}

/// A process that holds subscribers which never read.
struct Crowd(Child);

impl Crowd {
    fn start(server: &Server, count: usize) -> Result<Crowd, String> {
        let url = format!("http://{}/events/t", server.public);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushv"));
        command.args(["load", &url, "-n", &count.to_string(), "--reader", "never"]);
        command.args(["--duration", "600s", "--rcvbuf", "2304"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Crowd).map_err(|error| error.to_string())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What the kernel holds in the send buffers of the server's connections (`ss -m`: `w`).
fn queued_bytes(server: &Server) -> Result<u64, String> {
    let filter = format!("sport = :{}", server.public.port());
    let text = server::run("ss", &["-tmnH", &filter])?;
    let held = text.split("skmem:(").skip(1).filter_map(|memory| {
        memory.split(',').find_map(|field| field.strip_prefix('w')?.parse::<u64>().ok())
    });
    Ok(held.sum())
}

//! `pushv lab`: the smallest size of every experiment, what it records, and what becomes of that.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::lab::experiments;
use pushv::lab::method::record::{Block, Doubt, Kind, Record};
use pushv::lab::method::store;
use pushv::sys::process;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pushv-lab-{}-{name}", std::process::id()));
        let _nothing = fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn records(&self) -> Vec<Record> {
        let contents = store::read(&self.0).unwrap();
        assert_eq!(contents.warning, None);
        contents.records
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn pushv() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pushv"))
}

fn lab(arguments: &[&str]) -> Output {
    pushv().arg("lab").args(arguments).output().unwrap()
}

/// How long something may take that is a matter of moments on a machine without other work.
const PATIENCE: Duration = Duration::from_secs(120);

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = lab(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn fails(arguments: &[&str], status: i32, expected: &str) {
    let output = lab(arguments);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(status) && said.contains(expected), "{said}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Carries out an experiment, and gives its own records.
#[track_caller]
fn carried_out(experiment: &str, out: &Scratch) -> Vec<Record> {
    let summary = succeeds(&["run", experiment, "--smallest", "--out", out.path(), "--seed", "7"]);
    let title = experiments::find(experiment).unwrap().title();
    assert!(summary.contains(title), "{summary}");
    let records = out.records();
    for record in &records {
        check(record);
    }
    assert!(records.iter().any(|record| record.experiment == "aa"), "the rig is checked");
    records.into_iter().filter(|record| record.experiment == experiment).collect()
}

/// What must hold of every record.
#[track_caller]
fn check(record: &Record) {
    let name = format!("{}: {}", record.experiment, record.cell);
    assert!(!record.environment.kernel.is_empty() && !record.command.is_empty(), "{name}");
    assert_eq!(record.method.seed, 7);
    assert_eq!(record.environment.commit.as_deref(), pushv::COMMIT, "that of the program");
    for variant in 0..record.variants.len() {
        let measured = record.blocks.iter().any(|block| block.variant == variant);
        // Who may not count at the kernel's tracepoints says so instead.
        let refused = record.doubts.iter().any(|doubt| matches!(doubt, Doubt::Unaudited(_)));
        assert!(measured || refused, "{name}: {:?}", record.doubts);
    }
    for block in &record.blocks {
        assert_eq!(block.values.len(), record.metrics.len(), "{name}");
        assert!(block.work.bytes > 0 || block.work.events > 0, "{name}: {block:?}");
        let same_round =
            |other: &&Block| (other.restart, other.round) == (block.restart, block.round);
        let others = record.blocks.iter().filter(same_round);
        let work = |block: &Block| (block.work.events, block.work.bytes);
        assert!(others.clone().all(|other| work(other) == work(block)), "{name}");
        assert_eq!(others.count(), record.variants.len(), "{name}: every variant in every round");
    }
    for audit in &record.audits {
        assert_eq!(audit.ours, audit.theirs, "{name}: {audit:?}");
    }
}

/// The value of a count, which is the same in all blocks of a variant.
#[track_caller]
fn count(record: &Record, variant: &str, metric: &str) -> f64 {
    let column = record.metric(metric).unwrap();
    assert_eq!(record.metrics[column].kind, Kind::Count);
    let place = record.variants.iter().position(|one| one.name == variant).unwrap();
    let of_it = record.blocks.iter().filter(|block| block.variant == place);
    let mut values = of_it.map(|block| block.values[column].unwrap());
    let first = values.next().unwrap();
    assert!(values.all(|value| value == first), "{variant}, {metric}");
    first
}

#[test]
fn write_vs_writev() {
    let out = Scratch::new("write-vs-writev");
    let records = carried_out("write-vs-writev", &out);
    assert_eq!(records.len(), 2);
    let burst = &records[1];
    assert_eq!(burst.cell, "subscribers 2, burst 3");
    let calls = |path| count(burst, path, "calls_per_event");
    assert_eq!([calls("split"), calls("write"), calls("more")], [3.0, 1.0, 1.0]);
    let once = ["writev", "copy", "span", "auto"].map(calls);
    assert!(once.iter().all(|calls| (calls - 1.0 / 3.0).abs() < 1e-6), "{once:?}");
    assert_eq!(calls("cork"), 1.666_67);
    assert_eq!(count(burst, "writev", "frames_per_call"), 3.0);
    assert_eq!(count(burst, "writev", "iovecs_per_event"), 1.0);
    assert_eq!(count(burst, "copy", "copied_per_event"), 131.0);
}

#[test]
fn socket_knobs() {
    let out = Scratch::new("socket-knobs");
    let records = carried_out("socket-knobs", &out);
    let calls: Vec<f64> =
        records[..4].iter().map(|record| count(record, "NODELAY", "calls_per_event")).collect();
    assert_eq!(calls, [1.0, 1.0, 3.0, 3.0]);
    let pile = &records[4];
    for block in &pile.blocks {
        let waiting: f64 = block.values.iter().flatten().sum();
        assert_eq!(waiting, 3800.0 * 131.0, "every byte waits somewhere");
    }
    // How far the kernel lets an unfixed buffer grow differs from run to run, by a factor of six; at
    // its smallest it holds 60 kB. With a low-water mark of 16 KiB it never takes half of that.
    for nodelay in ["NODELAY", "Nagle"] {
        let in_kernel =
            |options: &str| count(pile, &format!("{nodelay}{options}"), "in_send_queue_bytes");
        let (free, lowat) = (in_kernel(""), in_kernel(" + LOWAT"));
        assert!(lowat < 30_000.0 && free > 40_000.0, "options take effect: {lowat} and {free}");
    }
}

/// Each way of looking on does what it says, and nothing else.
#[test]
fn observer_cost() {
    let out = Scratch::new("observer-cost");
    let records = carried_out("observer-cost", &out);
    let [record] = &records[..] else { panic!("one cell: {}", records.len()) };
    let value = |variant: &str, metric: &str| count(record, variant, metric);
    for variant in &record.variants {
        let name = variant.name.as_str();
        let set = |knob: &str| variant.settings[knob] != "0";
        assert!(set("observe_ms") || value(name, "looks_per_s") == 0.0, "{name}");
        assert!(set("timestamp_one_in") || value(name, "stamps_per_event") == 0.0, "{name}");
        let asked = variant.settings.contains_key("asked for");
        assert_eq!(value(name, "answers_per_s") > 0.0, asked, "{name}");
    }
    assert!(value("looks 20 ms", "looks_per_s") > 0.0);
    assert!(
        value("stamps 1/1", "stamps_per_event") > 5.0 * value("stamps 1/16", "stamps_per_event")
    );
    let audited: Vec<&str> = record.audits.iter().map(|audit| audit.what.as_str()).collect();
    let refused = record.doubts.iter().any(|doubt| matches!(doubt, Doubt::Unaudited(_)));
    assert!(audited == ["ioctl", "sendmsg", "sendmsg"] || refused, "{audited:?}");
    assert!(refused || (record.audits[0].theirs > 0 && record.audits[2].theirs > 0));
}

/// Every experiment, so that the lab cannot rot.
#[test]
fn everything_at_once() {
    let out = Scratch::new("everything");
    let arguments = ["all", "--smallest", "--out", out.path(), "--seed", "7", "--json"];
    let report: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).unwrap();
    let records = out.records();
    records.iter().for_each(check);
    assert_eq!(report["records"], records.len());
    for experiment in experiments::ALL.iter().filter(|one| one.unavailable().is_none()) {
        let of_it = |record: &&Record| record.experiment == experiment.name();
        assert!(records.iter().any(|record| of_it(&record)), "{}", experiment.name());
        let chapters = report["experiments"].as_array().unwrap();
        let chapter = chapters.iter().find(|one| one["name"] == experiment.name()).unwrap();
        assert!(!chapter["judgements"].as_array().unwrap().is_empty(), "{}", experiment.name());
    }
    let page = fs::read_to_string(out.0.join("report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http-equiv") && !page.contains("src="));
}

/// A run that has been carried out is not carried out again, and its report is the same again.
#[test]
fn records_are_all_there_is() {
    let out = Scratch::new("again");
    carried_out("write-vs-writev", &out);
    let file = |name: &str| fs::read(out.0.join(name)).unwrap();
    let (records, page, summary) = (file("records.jsonl"), file("report.html"), file("report.md"));
    succeeds(&["run", "write-vs-writev", "--smallest", "--out", out.path()]);
    assert_eq!(file("records.jsonl"), records, "there was nothing left to do");
    fs::remove_file(out.0.join("report.html")).unwrap();
    let printed = succeeds(&["report", out.path()]);
    assert_eq!((file("report.html"), file("report.md")), (page, summary.clone()));
    assert_eq!(printed.into_bytes(), summary);

    // A run that ended before its time goes on with the group that it was in.
    let lines: Vec<&str> = std::str::from_utf8(&records).unwrap().split_inclusive('\n').collect();
    let cut = [lines[0], &lines[1][..100]].concat();
    fs::write(out.0.join("records.jsonl"), cut).unwrap();
    succeeds(&["run", "write-vs-writev", "--smallest", "--out", out.path()]);
    let cells = |records: Vec<Record>| -> Vec<String> {
        records.into_iter().map(|record| record.cell).collect()
    };
    let again = cells(store::read(&out.0).unwrap().records);
    assert_eq!(again.len(), lines.len(), "{again:?}");
}

/// A run that has begun to measure.
struct Begun {
    child: Child,
    out: Scratch,
    /// The server that it has started.
    servers: Vec<Process>,
}

impl Begun {
    fn run(command: &mut Command, size: &str, name: &str) -> Begun {
        let out = Scratch::new(name);
        command.args(["lab", "run", "write-vs-writev", size, "--out", out.path()]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        loop {
            let servers = Process::servers_of(child.id());
            if !servers.is_empty() {
                return Begun { child, out, servers };
            }
            assert_eq!(child.try_wait().unwrap(), None, "it has not ended by itself");
            std::thread::sleep(Duration::from_millis(1)); // between two looks
        }
    }

    /// Waits for the end, and gives the status and what was said.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    fn signal(&self, signal: &str) {
        let arguments = [signal, &self.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().unwrap().success());
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A process, by its number and the time at which it began, which no other one shares.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    pid: String,
    parent: u32,
    began: String,
}

impl Process {
    /// The servers that a process has started and that have not ended.
    fn servers_of(parent: u32) -> Vec<Process> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| Process::read(entry.file_name().to_str()?));
        let serves = |process: &Process| {
            let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            line.split(|&byte| byte == 0).nth(1) == Some(b"serve")
        };
        all.filter(|process| process.parent == parent && serves(process)).collect()
    }

    /// From `/proc/PID/stat` (`proc_pid_stat(5)`); nothing if it has ended.
    fn read(pid: &str) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // State, parent and beginning are the fields 3, 4 and 22; the second one ends in a bracket.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let (pid, parent) = (pid.into(), fields[1].parse().ok()?);
        (fields[0] != "Z").then(|| Process { pid, parent, began: fields[19].into() })
    }

    #[track_caller]
    fn await_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while Process::read(&self.pid).is_some_and(|now| now.began == self.began) {
            assert!(Instant::now() < deadline, "{self:?} goes on");
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_has() {
    let mut begun = Begun::run(&mut pushv(), "--quick", "interrupted");
    while !begun.out.0.join("records.jsonl").exists() {
        assert_eq!(begun.child.try_wait().unwrap(), None, "it has not ended by itself");
        std::thread::sleep(Duration::from_millis(10)); // between two looks
    }
    begun.signal("-INT");
    let (status, said) = begun.end();
    assert!(status == Some(130) && said.contains("goes on"), "{status:?}: {said}");
    assert_eq!(begun.out.records().len(), 1, "the first group is kept");
}

#[test]
fn a_run_that_loses_its_terminal_leaves_nothing_running() {
    if process::ignores(libc::SIGHUP).unwrap() {
        return writeln!(std::io::stderr(), "SKIPPED: SIGHUP is ignored here").unwrap();
    }
    let mut begun = Begun::run(&mut pushv(), "--quick", "hangup");
    begun.signal("-HUP");
    let (status, said) = begun.end();
    assert!(status == Some(130) && said.contains("goes on"), "{status:?}: {said}");
    begun.servers.iter().for_each(Process::await_end);
}

/// A run that is killed cannot end its server and its subscribers. The kernel does.
#[test]
fn a_run_that_is_killed_leaves_nothing_running() {
    let begun = Begun::run(&mut pushv(), "--quick", "killed");
    begun.signal("-KILL");
    begun.servers.iter().for_each(Process::await_end);
}

/// nohup(1) has a program ignore SIGHUP, so that it survives the terminal.
#[test]
fn a_run_that_ignores_its_terminal_goes_on() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pushv")]);
    let mut begun = Begun::run(&mut command, "--smallest", "nohup");
    begun.signal("-HUP");
    let (status, said) = begun.end();
    assert_eq!(status, Some(0), "{said}");
}

/// Two runs that fill one directory would both measure, and write, every cell.
#[test]
fn a_directory_has_one_run_at_a_time() {
    let begun = Begun::run(&mut pushv(), "--quick", "twice");
    let again = ["run", "write-vs-writev", "--quick", "--out", begun.out.path()];
    fails(&again, 1, "another run is writing its records there");
}

/// The limit is looked at before anything is measured, and what is left besides is enough.
#[test]
fn too_few_descriptors_are_told_at_once() {
    let out = Scratch::new("descriptors");
    let run = |limit: u32| {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pushv"), "lab", "run"]);
        command.args(["write-vs-writev", "--smallest", "--out", out.path()]).output().unwrap()
    };
    for limit in [64, 162] {
        let output = run(limit);
        let said = text(&output.stderr);
        let named = format!("(RLIMIT_NOFILE) may not be raised above {limit}, and ");
        assert!(output.status.code() == Some(1) && said.contains(&named), "{said}");
        assert!(said.contains(" needs 163: 3 for connections"), "{said}");
        assert!(!out.0.join("records.jsonl").exists());
    }
    let output = run(163);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// Neither the environment nor the name of a file need be text.
#[test]
fn bytes_that_are_no_text_do_no_harm() {
    let strange = |text: &str| OsString::from_vec([text.as_bytes(), b"\xe9"].concat());
    let scratch = Scratch::new("bytes");
    fs::create_dir_all(&scratch.0).unwrap();
    let out = scratch.0.join(strange("out"));
    let mut command = pushv();
    command.args(["lab", "run", "write-vs-writev", "--smallest", "--out"]).arg(&out);
    let output = command.env("LEGACY", strange("")).env(strange("PUSHV_"), "x").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let records = store::read(&out).unwrap().records;
    assert!(records[0].command.last().unwrap().ends_with("out\u{fffd}"), "{records:?}");
    for arguments in [["lab", "list"], ["lab", "report"], ["load", "--publish"], ["top", "--admin"]]
    {
        let output = pushv().args(arguments).arg(strange("")).output().unwrap();
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn records_are_compared() {
    let out = Scratch::new("compared");
    let records = carried_out("write-vs-writev", &out);
    succeeds(&["compare", out.path(), out.path()]);

    // The same with twice the calls everywhere.
    let worse = Scratch::new("worse");
    fs::create_dir_all(&worse.0).unwrap();
    for mut record in records {
        let column = record.metric("calls_per_event").unwrap();
        for block in &mut record.blocks {
            block.values[column] = block.values[column].map(|calls| calls * 2.0);
        }
        store::append(&worse.0, &record).unwrap();
    }
    let output = lab(&["compare", out.path(), worse.path()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("calls_per_event"));
    succeeds(&["compare", worse.path(), out.path()]);
    let json = lab(&["compare", out.path(), worse.path(), "--json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok());

    // Nothing in common is not "nothing is worse".
    let empty = Scratch::new("empty");
    fs::create_dir_all(&empty.0).unwrap();
    fails(&["compare", out.path(), empty.path()], 2, "records.jsonl");
    fs::write(empty.0.join(store::FILE_NAME), "").unwrap();
    for pair in [[&out, &empty], [&empty, &out], [&empty, &empty]] {
        let [before, after] = pair.map(Scratch::path);
        fails(&["compare", before, after], 2, "in common");
        fails(&["compare", before, after, "--json"], 2, "in common");
    }
}

#[test]
fn what_cannot_be_done_is_explained() {
    fails(&["run", "no-such"], 2, "write-vs-writev");
    fails(&["report", "/no/such/directory"], 1, "/no/such/directory");
    fails(&["run"], 2, "required");
    let out = Scratch::new("other-size");
    carried_out("write-vs-writev", &out);
    fails(&["run", "write-vs-writev", "--quick", "--out", out.path()], 2, "another --out");
}

/// A path on the command line of a script is relative to its caller's directory, not to the root of
/// the source. The script runs in a copy of the tree in which cargo, git and pushv do nothing.
#[test]
fn scripts_write_where_their_caller_stands() {
    for script in ["record.sh", "write_vs_writev.sh"] {
        let scratch = Scratch::new(script);
        let root = scratch.0.join("root");
        let program = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let source = format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
        let copy = root.join("scripts").join(script);
        program(copy.clone(), &fs::read_to_string(source).unwrap());
        for name in ["cargo", "git"] {
            program(root.join("bin").join(name), "#!/bin/sh\n");
        }
        // It makes the directory that it is told to write to.
        let lab = "#!/bin/sh\nfor last; do :; done\nmkdir -p \"$last\"\n";
        program(root.join("target/release/pushv"), lab);
        let elsewhere = scratch.0.join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(copy);
        command.args(["--out", "here"]).current_dir(&elsewhere).env("PATH", path);
        let output = command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output().unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        assert!(elsewhere.join("here").is_dir() && !root.join("here").exists(), "{script}");
    }
}

#[test]
fn experiments_are_listed() {
    let listed = succeeds(&["list"]);
    for experiment in experiments::ALL {
        assert!(listed.contains(&format!("{}: ", experiment.name())), "{listed}");
    }
    assert!(listed.lines().all(|line| line.chars().count() <= 100), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&succeeds(&["list", "--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), experiments::ALL.len());
}

//! Servers of other projects: whether they are here, and how they are started.
//!
//! Their sources are in `benches/peers/`. Nothing is installed: a peer that is missing is left out
//! of the table, by name.

use crate::contestant::{Contestant, Launch};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
/// Where peers are built and have their files.
const BUILT: &str = env!("CARGO_TARGET_TMPDIR");
/// Where nginx packages put their modules.
const NCHAN_MODULES: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/share/nginx/modules/ngx_nchan_module.so",
];

/// What is needed for a peer, as Debian calls it.
pub fn package(peer: Contestant) -> &'static str {
    match peer {
        Contestant::NetHttp => "golang-go",
        Contestant::Node => "nodejs",
        Contestant::Nchan => "nginx-light libnginx-mod-nchan",
        _ => "none",
    }
}

/// Makes sure that a peer can be started, and gives the version of what it stands on.
///
/// # Errors
/// Why it cannot, in words.
pub fn prepare(peer: Contestant) -> Result<String, String> {
    match peer {
        Contestant::NetHttp => {
            let version = said_by("go", &["version"])?;
            build_net_http()?;
            Ok(word(&version, 2).trim_start_matches("go").to_owned())
        }
        Contestant::Node => Ok(said_by("node", &["--version"])?.trim_start_matches('v').to_owned()),
        Contestant::Nchan => {
            let version = said_by("nginx", &["-v"])?;
            nchan_module().ok_or("nginx has no nchan module")?;
            Ok(word(&version, 2).replace("nginx/", "in nginx "))
        }
        Contestant::Axum => Ok(locked_version("axum")),
        Contestant::Floor | Contestant::FloorBatched | Contestant::Pushv => {
            Ok(env!("CARGO_PKG_VERSION").to_owned())
        }
    }
}

/// The first line that a command says, on whichever channel.
fn said_by(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|_| format!("{program} is not installed"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(str::to_owned).ok_or(format!("{program} does not say its version"))
}

fn word(text: &str, nth: usize) -> &str {
    text.split_whitespace().nth(nth).unwrap_or(text)
}

fn locked_version(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let version = lock.split(&format!("name = \"{package}\"\nversion = \"")).nth(1);
    version.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

fn net_http_program() -> PathBuf {
    PathBuf::from(BUILT).join("nethttp")
}

fn build_net_http() -> Result<(), String> {
    let mut build = Command::new("go");
    build.current_dir(format!("{SOURCES}/nethttp")).args(["build", "-o"]).arg(net_http_program());
    let output = build.arg(".").output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("go build: {}", said.trim())) }
}

/// A command that runs on processor 0, as do the servers that bind themselves.
fn on_processor_0(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program);
    command
}

pub fn net_http() -> Launch {
    let mut command = on_processor_0(net_http_program());
    command.env("GOMAXPROCS", "1");
    Launch { command, address: None }
}

pub fn node() -> Launch {
    let mut command = on_processor_0("node");
    command.arg(format!("{SOURCES}/node.mjs"));
    Launch { command, address: None }
}

fn nchan_module() -> Option<&'static str> {
    NCHAN_MODULES.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// nginx cannot choose a port by itself: it is told one that was free a moment ago.
pub fn nchan() -> Launch {
    let address = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let directory = PathBuf::from(BUILT).join("nchan");
    std::fs::create_dir_all(&directory).expect("a directory for nginx");
    let configuration = std::fs::read_to_string(format!("{SOURCES}/nchan.conf"))
        .expect("nchan.conf")
        .replace("@MODULE@", nchan_module().expect("prepare() has found it"))
        .replace("@PORT@", &address.port().to_string());
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).expect("written");
    let mut command = on_processor_0("nginx");
    command.arg("-p").arg(&directory).arg("-c").arg(&file).args(["-e", "stderr"]);
    Launch { command, address: Some(address) }
}

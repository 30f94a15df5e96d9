//! Sockets that a service manager has opened before the server starts, and what it is told.
//!
//! The manager is played by Perl, which every Debian has: it opens the sockets, puts them where the
//! protocol wants them (`sd_listen_fds(3)`), and becomes the server. Where systemd is installed, its own
//! `systemd-socket-activate` plays it as well.

#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::process::{Process, Scratch, pushv};
use support::{Client, PATIENCE, installed};

/// Opens a socket for each name, listens, and becomes the command. Perl has descriptors above `$^F`
/// closed by that.
const MANAGER: &str = r#"
use strict; use Socket; use POSIX ();
$^F = 100;
my @names = split /:/, shift;
my @sockets;
for my $nth (0 .. $#names) {
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die;
    bind($socket, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($socket, 16) or die;
    push @sockets, $socket;
}
# Out of the way first, so that none is closed to make room for another.
POSIX::dup2(fileno($sockets[$_]), 50 + $_) for 0 .. $#sockets;
close $_ for @sockets;
for (0 .. $#names) { POSIX::dup2(50 + $_, 3 + $_); POSIX::close(50 + $_); }
$ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = @names; $ENV{LISTEN_FDNAMES} = join ":", @names;
exec @ARGV or die;
"#;

/// `pushv serve` with these arguments, started by the manager with sockets of these names.
fn activated(names: &str, arguments: &[&str]) -> Option<Command> {
    installed(&["perl"])?;
    let server = pushv(&[&["serve", "--listen", "127.0.0.1:1"], arguments].concat());
    let mut manager = Command::new("perl");
    manager.args(["-e", MANAGER, names]).arg(server.get_program()).args(server.get_args());
    // Without the environment's settings, as the other.
    for (name, _) in server.get_envs() {
        manager.env_remove(name);
    }
    Some(manager)
}

#[test]
fn the_sockets_that_are_handed_over_are_used() {
    let Some(mut command) = activated("public:admin", &["--admin", "127.0.0.1:2"]) else { return };
    let process = Process::spawn(&mut command);
    let admin = process.admin.unwrap();
    assert!(process.public.port() > 2 && admin.port() > 2, "{} {admin}", process.public);
    let mut stream = process.subscribe("/a");
    let answer = Client::connect(process.public).request("POST", "/events/a", &[], b"x");
    assert_eq!((answer.status, stream.data()), (200, "x".into()));
    assert_eq!(process.knob("listen"), process.public.to_string());

    // Read again, the file does not want another address.
    process.signal("-HUP");
    process.expect_log("the configuration is read again");
    assert_eq!(process.knob("admin"), admin.to_string());
    assert!(process.log.try_iter().all(|line| !line.contains("until a restart")));
}

/// A socket without a name, or with another one, is for the public; the admin listener is then
/// the configuration's.
#[test]
fn one_socket_alone_is_for_the_public() {
    let Some(mut command) = activated("pushv.socket", &["--admin", "127.0.0.1:0"]) else { return };
    let process = Process::spawn(&mut command);
    assert!(process.public.port() > 2 && process.admin.unwrap().port() > 2);
    assert_eq!(Client::connect(process.public).request("GET", "/healthz", &[], b"").status, 200);
}

/// The rules for addresses hold for sockets that are handed over, and so do those for variables.
#[test]
fn what_cannot_be_used_is_explained() {
    let Some(mut command) = activated("admin:admin", &[]) else { return };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("two sockets named admin"));

    // This very test is told to have handed over what it has as number 3, which is no socket.
    let mut command = Command::new("sh");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3</dev/null";
    let output = command.args(["-c", script, env!("CARGO_BIN_EXE_pushv")]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("descriptor 3") && error.contains("no listening TCP socket"), "{error}");
}

/// What comes while nobody runs waits in the queue of the socket.
#[test]
fn a_start_refuses_nobody() {
    let Some(activate) = installed(&["systemd-socket-activate"]) else { return };
    // It cannot choose a port by itself, and one that is free now may be taken in a moment.
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(activate);
    command.arg("--listen").arg(address.to_string()).arg(env!("CARGO_BIN_EXE_pushv"));
    command.args(["serve", "--admin", "off"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = support::Running::spawn(&mut command);
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(std::time::Instant::now() < deadline, "it does not listen");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
    // The first connection starts the server, and is answered by it.
    assert_eq!(Client::connect(address).request("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let path = Scratch::new("notify", "");
    fs::remove_file(&path.0).unwrap();
    let manager = UnixDatagram::bind(&path.0).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).expect("told");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut command = pushv(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", path.path());
    let mut process = Process::spawn(&mut command);
    assert_eq!(told(), "READY=1");
    process.signal("-HUP");
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    process.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(process.wait(), Some(0));

    // A manager that is gone is no reason not to serve.
    drop(manager);
    let mut process = Process::spawn(&mut command);
    process.expect_log("the service manager cannot be told");
    process.signal("-TERM");
    assert_eq!(process.wait(), Some(0));
}

//! What a delivery costs: pushv beside the least that any server can cost, and beside others.
//!
//! ```text
//! cargo bench --bench fanout               # the whole table, about five minutes
//! cargo bench --bench fanout -- --quick    # the same at a tenth of the size
//! cargo bench --bench fanout -- --scene round
//! cargo bench --bench fanout -- --peers    # with the servers of benches/peers that are here
//! cargo bench --bench fanout -- --json fanout.json
//! ```
//!
//! Each server runs in a process of its own, bound to processor 0; the probe runs here, bound to
//! processor 1, holds all subscribers, and checks every byte that each of them receives. The
//! servers are asked in turns, and the ratios are made within a turn: absolute figures move with
//! the machine, ratios much less. `docs/PERFORMANCE.md` says how to read them, and
//! `scripts/marks.sh` makes the table with everybody in it.

#[path = "../peers/axum.rs"]
mod axum_peer;
mod contestant;
mod environment;
mod failure;
mod figures;
mod floor;
mod json;
mod peers;
mod plan;
mod probe;
mod process;
mod scene;
mod servers;
mod stream;
mod table;

use contestant::Contestant;
use plan::{Scene, Sizes};
use scene::Entry;
use table::Report;

fn main() {
    let mut arguments = std::env::args_os()
        .skip(1)
        .map(|one| one.to_string_lossy().into_owned())
        .filter(|argument| argument != "--bench");
    let mut options = Options { sizes: Sizes::FULL, scene: None, peers: false, json: None };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--serve" => return serve(&arguments.next().unwrap_or_default()),
            "--quick" => options.sizes = Sizes::QUICK,
            "--peers" => options.peers = true,
            "--json" => options.json = Some(arguments.next().unwrap_or_else(|| usage())),
            "--scene" => {
                let name = arguments.next().unwrap_or_default();
                let scene = Scene::ALL.into_iter().find(|scene| scene.name() == name);
                options.scene = Some(scene.unwrap_or_else(|| usage()));
            }
            _ => usage(),
        }
    }
    compare(&options);
}

struct Options {
    sizes: Sizes,
    /// One scene alone.
    scene: Option<Scene>,
    peers: bool,
    /// Where the machine-readable report goes.
    json: Option<String>,
}

fn usage() -> ! {
    let scenes = Scene::ALL.map(Scene::name).join("|");
    eprintln!(
        "usage: cargo bench --bench fanout -- [--quick] [--scene {scenes}] [--peers] [--json FILE]"
    );
    std::process::exit(2);
}

/// The program is also the contestants that are written in Rust.
fn serve(kind: &str) {
    match kind {
        "axum" => serve_axum(),
        kind => floor::serve(kind),
    }
}

fn serve_axum() {
    pushv::sys::set_descriptor_limit(u64::MAX).expect("the limit on descriptors");
    pushv::sys::bind_to_cpu(0).unwrap_or_else(|error| eprintln!("processor 0: {error}"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    // What a listener accepts has its congestion control.
    socket2::SockRef::from(&listener)
        .set_tcp_congestion(servers::CONGESTION.as_bytes())
        .unwrap_or_else(|error| eprintln!("congestion control: {error}"));
    println!("listening http://{}", listener.local_addr().expect("an address"));
    axum_peer::serve(listener);
}

fn compare(options: &Options) {
    pushv::sys::set_descriptor_limit(u64::MAX).expect("the limit on descriptors");
    pushv::sys::bind_to_cpu(1).unwrap_or_else(|error| eprintln!("processor 1: {error}"));
    let mut entries: Vec<Entry> =
        Contestant::OWN.map(|own| Entry::new(own, own.name().into())).into();
    let mut missing = Vec::new();
    let mut sizes = options.sizes;
    if options.peers {
        sizes = sizes.with_peers();
        invite(&mut entries, &mut missing);
    }
    let scenes = match &options.scene {
        Some(scene) => std::slice::from_ref(scene),
        None => &Scene::ALL[..],
    };
    scene::run(&sizes, scenes, &mut entries);
    let report = Report { sizes: &sizes, entries: &entries, missing: &missing };
    report.print();
    if let Some(path) = &options.json {
        json::write(&report, path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    if entries.iter().any(Entry::is_broken) {
        std::process::exit(1);
    }
}

/// Adds the peers that can be started.
fn invite(entries: &mut Vec<Entry>, missing: &mut Vec<(Contestant, String)>) {
    for peer in Contestant::PEERS {
        match peers::prepare(peer) {
            Ok(version) => entries.push(Entry::new(peer, format!("{} {version}", peer.name()))),
            Err(reason) => {
                eprintln!("without {}: {reason} (Debian: {})", peer.name(), peers::package(peer));
                missing.push((peer, reason));
            }
        }
    }
}

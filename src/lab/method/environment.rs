//! Where something is measured: what a reader must know of the machine in order to expect the same
//! figures of his own.

use super::record::{Environment, Network};
use crate::sys;
use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;

/// Asks the kernel, in whose network namespace the caller is; of that, `network` is known.
pub fn describe(network: Network) -> Environment {
    let cpuinfo = text("/proc/cpuinfo");
    let kernel = ["osrelease", "version"].map(|name| text(&format!("/proc/sys/kernel/{name}")));
    Environment {
        commit: crate::COMMIT.map(ToOwned::to_owned),
        version: env!("CARGO_PKG_VERSION").to_string(),
        kernel: kernel.join(" ").trim().to_string(),
        cpu: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_string(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(&text("/proc/meminfo")),
        hypervisor: has_hypervisor(&cpuinfo),
        clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_ns: clock_ns(),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|name| name.trim().to_string()),
        mitigations: mitigations(),
        sysctls: sysctls(),
        network,
        descriptors: sys::descriptor_limits().map_or(0, |(now, _)| now),
    }
}

/// Whether times of single calls can be believed.
///
/// # Errors
/// Why not: with these sources of time, to read the clock is a system call, which costs as much as
/// what is timed.
pub fn usable_clock(environment: &Environment) -> Result<(), String> {
    let name = environment.clock_source.as_str();
    if !["hpet", "acpi_pm", "xen", "jiffies", "refined-jiffies"].contains(&name) {
        return Ok(());
    }
    Err(format!(
        "the clock source is {name}: to read the clock takes a system call ({:.0} ns here), which \
         would be part of everything that is timed; see \
         /sys/devices/system/clocksource/clocksource0/available_clocksource",
        environment.clock_ns
    ))
}

/// Settings of the kernel that change what is measured here. Those of `net` belong to the network
/// namespace; some are not shown in a private one, where nobody can change them either.
const SYSCTLS: &[&str] = &[
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_autocorking",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_pingpong_thresh",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_wmem",
];

fn sysctls() -> BTreeMap<String, String> {
    let known = SYSCTLS.iter().filter_map(|name| {
        let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        // Several values are separated by tabs.
        Some((name.to_string(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    let huge_pages = text("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge_pages = chosen(&huge_pages).map(|value| ("transparent_hugepage", value));
    known.chain(huge_pages.map(|(name, value)| (name.to_string(), value.to_string()))).collect()
}

/// The word in brackets.
fn chosen(words: &str) -> Option<&str> {
    Some(words.split_once('[')?.1.split_once(']')?.0)
}

/// Those that the processor has.
fn mitigations() -> BTreeMap<String, String> {
    let files = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let files = files.into_iter().flatten().flatten();
    let all = files.map(|file| {
        let state = fs::read_to_string(file.path()).unwrap_or_default();
        (file.file_name().to_string_lossy().into_owned(), state.trim().to_string())
    });
    all.filter(|(_, state)| !state.is_empty() && state != "Not affected").collect()
}

/// What reading the clock costs: the median of some batches, of which others may have disturbed a
/// few.
fn clock_ns() -> f64 {
    const READINGS: u32 = 5_000;
    let mut batches = [(); 9].map(|()| {
        let began_ns = sys::monotonic_ns();
        for _ in 0..READINGS {
            black_box(sys::monotonic_ns());
        }
        (sys::monotonic_ns() - began_ns) as f64 / f64::from(READINGS)
    });
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

fn has_hypervisor(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

/// The first value of that name in lines of `name : value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// The contents of a file of the kernel, without what is around them; nothing if it has no such
/// file.
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let network = Network { mtu_bytes: 1500, ..Network::default() };
        let found = describe(network.clone());
        assert_eq!((found.version.as_str(), &found.network), (env!("CARGO_PKG_VERSION"), &network));
        assert!(found.kernel.starts_with(&text("/proc/sys/kernel/osrelease")), "{found:?}");
        assert!(!found.cpu.is_empty() && found.processors >= 1, "{found:?}");
        assert!(found.memory_bytes > 64 << 20 && found.descriptors > 2, "{found:?}");
        assert!(found.clock_ns > 0.1 && found.clock_ns < 100_000.0, "{found:?}");
        assert!(found.sysctls.contains_key("net.ipv4.tcp_wmem"), "{found:?}");
    }

    #[test]
    fn a_clock_that_needs_a_system_call_is_refused() {
        let with = |name: &str| Environment { clock_source: name.into(), ..Default::default() };
        for name in ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"] {
            assert_eq!(usable_clock(&with(name)), Ok(()));
        }
        for name in ["hpet", "acpi_pm", "xen", "jiffies", "refined-jiffies"] {
            assert!(usable_clock(&with(name)).unwrap_err().contains(name));
        }
    }

    #[test]
    fn files_of_the_kernel_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu hypervisor lm\n";
        assert_eq!(field(cpuinfo, "model name"), Some("A CPU: fast"));
        assert_eq!(field(cpuinfo, "model"), None);
        assert!(has_hypervisor(cpuinfo) && !has_hypervisor("flags : hypervisors\n"));
        assert_eq!(memory_bytes("MemTotal:       16 kB\nMemFree: 1 kB\n"), 16384);
        assert_eq!(memory_bytes(""), 0);
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen("always"), None);
    }
}

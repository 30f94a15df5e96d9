//! Processes that are started from here, and what must not be left of them.

use super::check;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has the kernel kill what `command` starts as soon as the calling thread ends, in whatever way:
/// a process that is killed cannot end its children itself (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// It is the thread that starts the process that counts, not its process. So start such a process
/// from a thread that lives as long as the process is needed, mostly the first one.
pub fn end_with_parent(command: &mut Command) {
    end_with(command, std::process::id());
}

fn end_with(command: &mut Command, parent: u32) {
    let in_the_child = move || {
        // SAFETY: the call takes numbers and has no preconditions.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The parent may have ended before that. Then nothing would end this process any more.
        // SAFETY: the call has no preconditions.
        let found = unsafe { libc::getppid() };
        match u32::try_from(found) == Ok(parent) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called (signal-safety(7)).
    // The closure makes two system calls, which take no lock, and allocates nothing.
    unsafe { command.pre_exec(in_the_child) };
}

/// Whether this process ignores `signal` (sigaction(2)). One that was started by nohup(1) ignores
/// SIGHUP, and whoever started it so relies on that.
///
/// # Errors
/// As the call: there is no such signal.
pub fn ignores(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid `sigaction`, of numbers and an optional function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer sets nothing, and `action` is valid memory that the call fills in.
    check(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// Locks a file or directory against every other process that asks (`LOCK_EX`, flock(2)); `false`
/// if another one has the lock. It ends with the descriptor, and so with the process.
///
/// # Errors
/// As the call: the file system may know no locks.
pub fn try_lock(file: &impl AsRawFd) -> io::Result<bool> {
    // SAFETY: the call takes numbers; a descriptor that is not open is refused by the kernel.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Child;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60");
        command
    }

    /// What counts is the thread that has started it.
    #[test]
    fn a_child_ends_with_its_parent() {
        let start = || -> Child {
            let mut command = sleeper();
            end_with_parent(&mut command);
            command.spawn().unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_child_whose_parent_has_gone_does_not_start() {
        let mut command = sleeper();
        end_with(&mut command, std::process::id() + 1);
        assert_eq!(command.spawn().unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn ignored_signals_are_told() {
        // The Rust runtime ignores SIGPIPE; has a handler of SIGSEGV.
        assert!(ignores(libc::SIGPIPE).unwrap());
        assert!(!ignores(libc::SIGSEGV).unwrap());
        assert!(ignores(-1).is_err());
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let path = std::env::temp_dir();
        let path = path.join(format!("pushv-lock-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let [one, other] = [(); 2].map(|()| File::open(&path).unwrap());
        assert!(try_lock(&one).unwrap());
        assert!(!try_lock(&other).unwrap());
        drop(one);
        assert!(try_lock(&other).unwrap());
        std::fs::remove_dir(&path).unwrap();
    }
}

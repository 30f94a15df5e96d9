//! Notes the commit that this is built from, for `pushv --version` and the laboratory's records.
//!
//! It is the commit of the program, not of the source tree at the time of a run. It has `-dirty`
//! behind it if a file that goes into the program differs from that commit. Without git, without a
//! repository, or in a repository that is another project's, it is empty: no build fails for it.
//! `tests/built_from.rs` tests it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made of.
const SOURCES: [&str; 4] = ["src", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    let (commit, watched) = examine(Path::new("."));
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={commit}");
    watched.iter().for_each(|path| println!("cargo::rerun-if-changed={}", path.display()));
}

/// The commit of the source in `root`, and the paths after whose change it may be another one.
pub fn examine(root: &Path) -> (String, Vec<PathBuf>) {
    // Naming any path replaces cargo's own rule, by which every file of the package counts.
    let mut watched: Vec<PathBuf> = SOURCES.iter().map(PathBuf::from).collect();
    let commit = packaged(root).or_else(|| {
        let commit = of_the_repository(root)?;
        watched.extend(head(root));
        Some(commit)
    });
    // One that does not exist would have cargo run this, and compile everything, each time.
    watched.retain(|path| root.join(path).exists());
    (commit.unwrap_or_default(), watched)
}

/// The commit that `cargo package` has written into a packaged source.
fn packaged(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let commit = text.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dirty = if text.contains("\"dirty\": true") { "-dirty" } else { "" };
    is_commit.then(|| format!("{}{dirty}", &commit[..7]))
}

fn of_the_repository(root: &Path) -> Option<String> {
    // An unpacked source may lie within a repository that knows nothing of it.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let commit = git(root, &["rev-parse", "--short", "HEAD"])?;
    let status = git(root, &[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if status.is_empty() { commit } else { commit + "-dirty" })
}

/// The files of which one changes when another commit is checked out or made.
///
/// In a worktree `.git` is a file, and some of these are in the directory of the worktree and some
/// in that of the repository; git knows where each is.
fn head(root: &Path) -> Vec<PathBuf> {
    let place = |name: &str| git(root, &["rev-parse", "--git-path", name]).map(PathBuf::from);
    let is_there = |path: &PathBuf| root.join(path).is_file();
    let mut watched: Vec<PathBuf> = place("HEAD").into_iter().collect();
    // Whatever moves HEAD, or the branch that it stands for, is noted here,
    if let Some(log) = place("logs/HEAD").filter(is_there) {
        watched.push(log);
        return watched;
    }
    // unless such notes are switched off. A branch is a file, or a line of a file, or in a table.
    let Some(branch) =
        git(root, &["symbolic-ref", "--quiet", "HEAD"]).and_then(|name| place(&name))
    else {
        return watched;
    };
    if !is_there(&branch) {
        watched.extend(["packed-refs", "reftable/tables.list"].into_iter().filter_map(place));
        // The next commit makes the file.
        watched.extend(branch.parent().map(Path::to_path_buf));
    }
    watched.push(branch);
    watched
}

/// What git prints, if it is there and has no objection.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Nothing is written, so that nobody who works in this repository has to wait.
    command.arg("--no-optional-locks").args(arguments).current_dir(root);
    // A hook, or `git rebase --exec`, names another repository or index by these.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end_matches('\n').to_string())
}

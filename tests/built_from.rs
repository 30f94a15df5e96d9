//! The commit that a program says it was built from: what `build.rs` finds in a source, however that
//! was come by, and what the program makes of it.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../build.rs"]
#[allow(dead_code)]
mod build;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;
use support::installed;

/// A repository with a commit. Dropped, it is removed.
struct Source(PathBuf);

impl Source {
    fn new(name: &str) -> Source {
        let root = std::env::temp_dir().join(format!("pushv-built-{}-{name}", std::process::id()));
        let _nothing = fs::remove_dir_all(&root);
        let source = Source(root);
        source.write("src/main.rs", "fn main() {}");
        source.write("Cargo.toml", "[package]");
        source.write("docs/page.md", "# A page");
        source
    }

    fn repository(name: &str) -> Source {
        let source = Source::new(name);
        source.git(&["init", "--quiet"]);
        source.commit();
        source
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.0, arguments)
    }

    fn commit(&self) {
        self.git(&["add", "."]);
        let message = ["commit", "--quiet", "--allow-empty", "--message", "A commit"];
        self.git(&message);
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "--short", "HEAD"])
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn git(root: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(root).args(["-c", "user.name=A", "-c", "user.email=a@b"]).args(arguments);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn commit(root: &Path) -> String {
    build::examine(root).0
}

/// What cargo looks at to know whether to run `build.rs` again.
fn watched(root: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let paths = build::examine(root).1.into_iter();
    let state = |path: &PathBuf| {
        let known = fs::metadata(root.join(path)).expect("only what is there is watched");
        (known.modified().unwrap(), known.len())
    };
    paths.map(|path| (path.clone(), state(&path))).collect()
}

#[test]
fn a_repository_tells_its_commit() {
    if installed(&["git"]).is_none() {
        return;
    }
    let source = Source::repository("clean");
    let head = source.head();
    assert_eq!(commit(&source.0), head);
    source.write("docs/page.md", "# Another page");
    assert_eq!(commit(&source.0), head, "it does not go into the program");
    source.write("src/new.rs", "");
    assert_eq!(commit(&source.0), format!("{head}-dirty"));
    source.commit();
    assert_eq!(commit(&source.0), source.head());
    source.write("src/main.rs", "fn main() { }");
    assert_eq!(commit(&source.0), format!("{}-dirty", source.head()));
}

#[test]
fn what_is_no_repository_tells_nothing() {
    if installed(&["git"]).is_none() {
        return;
    }
    let unpacked = Source::new("unpacked");
    assert_eq!(commit(&unpacked.0), "");
    watched(&unpacked.0);
    let empty = Source::new("empty");
    empty.git(&["init", "--quiet"]);
    assert_eq!(commit(&empty.0), "", "no commit yet");
    watched(&empty.0);
    // A source that was unpacked in the repository of another project.
    let other = Source::repository("other");
    other.write("vendor/pushv/src/main.rs", "fn main() {}");
    assert_eq!(commit(&other.0.join("vendor/pushv")), "");
}

#[test]
fn a_package_brings_its_commit_along() {
    let source = Source::new("package");
    let known =
        r#"{ "git": { "sha1": "0123456789abcdef0123456789abcdef01234567" }, "path_in_vcs": "" }"#;
    source.write(".cargo_vcs_info.json", known);
    assert_eq!(commit(&source.0), "0123456");
    source.write(".cargo_vcs_info.json", r#"{ "git": { "sha1": "$(reboot)" } }"#);
    assert_eq!(commit(&source.0), "");
}

/// Or the program would go on telling the commit before.
#[test]
fn a_commit_has_it_built_again() {
    if installed(&["git"]).is_none() {
        return;
    }
    let check = |root: &Path, how: &str| {
        let before = watched(root);
        git(root, &["commit", "--quiet", "--allow-empty", "--message", "Another"]);
        // A file system may keep times in steps, and a branch has the same length again.
        let head = git(root, &["rev-parse", "--short", "HEAD"]);
        let grown = before != watched(root);
        let read = |path: &PathBuf| fs::read(root.join(path)).unwrap_or_default();
        let names = before.keys().any(|path| String::from_utf8_lossy(&read(path)).contains(&head));
        assert!(grown || names, "{how}: {before:?}");
        assert_eq!(commit(root), head, "{how}");
    };
    let source = Source::repository("watched");
    check(&source.0, "as usual");
    let tree = source.0.join("tree");
    source.git(&["worktree", "add", "--quiet", "--detach", tree.to_str().unwrap()]);
    assert!(tree.join(".git").is_file());
    check(&tree, "in a worktree, at no branch");
    git(&tree, &["checkout", "--quiet", "-b", "topic/deep"]);
    check(&tree, "in a worktree, at a branch");
    source.git(&["pack-refs", "--all"]);
    check(&tree, "with packed references");

    let source = Source::new("without-log");
    source.git(&["init", "--quiet"]);
    source.git(&["config", "core.logAllRefUpdates", "false"]);
    source.commit();
    assert!(!source.0.join(".git/logs/HEAD").exists());
    check(&source.0, "without a log");
    source.git(&["pack-refs", "--all"]);
    check(&source.0, "without a log, with packed references");
    check(&source.0, "and once more");
}

#[test]
fn the_program_tells_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_pushv")).arg("--version").output().unwrap();
    let commit = pushv::COMMIT.unwrap_or("commit unknown");
    let expected = format!("pushv {} ({commit})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_ne!(commit, "");
}

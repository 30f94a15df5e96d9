//! The documents agree with the code.

#![allow(clippy::unwrap_used)] // a test may panic

use pushv::config::Config;
use pushv::config::knobs::{Group, KNOBS, Knob, Scope};
use std::fmt::Write as _;

/// `docs/KNOBS.md` is made of the table of knobs. `PUSHV_UPDATE=1 cargo test --test docs` makes it
/// anew.
#[test]
fn the_page_of_knobs_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/KNOBS.md");
    let page = knobs_page();
    if std::env::var_os("PUSHV_UPDATE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(found == page, "docs/KNOBS.md is out of date: PUSHV_UPDATE=1 cargo test --test docs");
}

fn knobs_page() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut group = None;
    for knob in KNOBS {
        if group.replace(knob.group) != Some(knob.group) {
            begin_group(knob.group, &mut page);
        }
        row(knob, &mut page);
    }
    page
}

fn begin_group(group: Group, page: &mut String) {
    write!(page, "\n## {}\n\n| knob | values | default | set | what it does |\n", group.title())
        .unwrap();
    page.push_str("|---|---|---|---|---|\n");
}

fn row(knob: &Knob, page: &mut String) {
    let default = match knob.show(&Config::default()).to_string() {
        none if none.is_empty() => "–".to_string(),
        some => format!("`{some}`"),
    };
    let scope = match knob.scope {
        Scope::Start => "at start",
        Scope::Reload => "at start, by SIGHUP",
        Scope::Live => "live",
        Scope::Topic => "live, per topic",
    };
    writeln!(
        page,
        "| `{}` | {} | {default} | {scope} | {} |",
        knob.name,
        knob.values.replace('|', "\\|"),
        knob.help
    )
    .unwrap();
}

const INTRODUCTION: &str = "\
# Knobs

Every setting has one name, in four spellings. In order of precedence:

| where | spelling of `heartbeat_ms` |
|---|---|
| flag | `--heartbeat-ms 5000` |
| environment variable | `PUSHV_HEARTBEAT_MS=5000` |
| configuration file (`--config FILE`, TOML) | `heartbeat_ms = 5000` |
| admin listener, while it runs | `curl -X PATCH -d '{\"heartbeat_ms\":5000}' http://127.0.0.1:9180/knobs` |

Knobs that can be set *at start* only keep their value until a restart; SIGHUP, which reads the file
again, names those that differ. Those that can be set *per topic* stand in the file under the topic's
name, and are patched with `/knobs?topic=NAME`:

```toml
heartbeat_ms = 5000

[topics.prices]
flush_policy = \"linger:20\"
overrun = \"latest\"
```

Besides these: `--log FILTER` or `PUSHV_LOG` (error, warn, info, debug, trace, or a filter such as
`info,pushv::server=debug`), and the tokens themselves, `PUSHV_PUBLISH_TOKEN` and `PUSHV_ADMIN_TOKEN`,
which are never shown anywhere.

A setting that cannot do what it says is refused, with exit status 2 and its name: a value outside the
range, an origin that no browser sends, an empty token, a key or a variable `PUSHV_…` that is no setting
(but for those that Kubernetes sets for a service named `pushv`).

This page is made of the table in `src/config/knobs.rs`, by a test.
";

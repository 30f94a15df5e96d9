//! Clients for Python. Those that do not come back by themselves are driven as their documentation
//! says: the program remembers the last id and passes it on.

use crate::drive::Scene;
use crate::support::{Running, skip};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Has a program read what is published. Its `read()` reads one connection, or several, and begins
/// behind `last`, which it keeps up to date; after that it waits for `delay` and is called again.
fn drives(package: &str, read: &str) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/python");
    let imports = |package: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", &format!("import {package}")]).stderr(Stdio::null()).status()
    };
    if !imports(package).is_ok_and(|status| status.success()) {
        return skip(&format!("not installed: {package} (.ci/run says how)"));
    }
    let scene = Scene::start("");
    let program = format!(
        "import json, time\nurl, last, delay = '{}', 'earliest', 0\n{BEGIN}\n{read}\n{AGAIN}",
        scene.url()
    );
    let mut child = Command::new(python);
    child.args(["-u", "-c", &program]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Running::spawn(&mut child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    scene.drive(|| lines.next().expect("it goes on").expect("text"));
    assert!(scene.cutter.sent().to_ascii_lowercase().contains("\r\nlast-event-id: "));
}

const BEGIN: &str = "
def message(data, id):
    print('message', json.dumps(data, ensure_ascii=False), json.dumps(id))
";

const AGAIN: &str = "
while True:
    try:
        read()
    except Exception:
        pass
    print('error')
    time.sleep(delay)
";

#[test]
fn httpx_sse() {
    let read = "
import httpx, httpx_sse
client = httpx.Client(timeout=None)
def read():
    global last, delay
    with httpx_sse.connect_sse(client, 'GET', url, headers={'Last-Event-ID': last}) as source:
        print('open')
        for event in source.iter_sse():
            last = event.id or last
            delay = delay if event.retry is None else event.retry / 1000
            if event.event == 'message':
                message(event.data, event.id)
";
    drives("httpx_sse", read);
}

#[test]
fn sseclient_py() {
    let read = "
import requests, sseclient
def read():
    global last, delay
    answer = requests.get(url, stream=True, headers={'Last-Event-ID': last})
    print('open')
    for event in sseclient.SSEClient(answer).events():
        last = event.id or last
        delay = delay if event.retry is None else int(event.retry) / 1000
        if event.event == 'message':
            message(event.data, event.id)
";
    drives("sseclient", read);
}

#[test]
fn aiosseclient() {
    let read = "
import asyncio, aiosseclient
async def events():
    global last
    print('open')
    async for event in aiosseclient.aiosseclient(url, last_id=last):
        last = event.id or last
        if event.event == 'message':
            message(event.data, event.id)
def read():
    asyncio.run(events())
";
    drives("aiosseclient", read);
}

/// It comes back by itself if a stream ends in order, and raises an exception if one is cut.
#[test]
fn aiohttp_sse_client() {
    let read = "
import asyncio, datetime
from aiohttp_sse_client.client import EventSource
async def events():
    global last
    headers = {'Last-Event-ID': last}
    soon = datetime.timedelta(milliseconds=20)
    async with EventSource(url, headers=headers, reconnection_time=soon) as source:
        print('open')
        async for event in source:
            last = event.last_event_id or last
            if event.type is None:
                message(event.data, event.last_event_id)
def read():
    asyncio.run(events())
";
    drives("aiohttp_sse_client", read);
}

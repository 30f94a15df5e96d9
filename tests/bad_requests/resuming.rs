//! `Last-Event-ID`: whatever it says, the answer is a stream; what it could not give is said on it;
//! and between what is replayed and what is live there is neither a gap nor a repetition, although
//! events are published all the while.

use crate::scene::Scene;
use crate::support::{Client, Subscriber};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Publishes numbers to the topic `a`, about a thousand a second, while `body` runs, but none that
/// is `lead` or more above the number that `body` has put down as seen.
fn while_publishing(scene: &Scene, lead: u64, body: impl FnOnce(&AtomicU64)) {
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = scene.connect();
            let mut nth: u64 = 0;
            while !stop.load(Ordering::Relaxed) {
                if nth >= seen.load(Ordering::Relaxed).saturating_add(lead) {
                    std::thread::sleep(Duration::from_micros(100)); // the pace
                    continue;
                }
                let data = nth.to_string();
                let answer = publisher.request("POST", "/events/a", &[], data.as_bytes());
                assert_eq!(answer.status, 200);
                nth += 1;
                std::thread::sleep(Duration::from_micros(700)); // the pace
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&seen)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The number in the next event, and its id.
#[track_caller]
fn number(stream: &mut Subscriber) -> (u64, String) {
    let event = stream.next().expect("an event");
    assert_eq!(event.name, "", "{event:?}");
    (event.data.parse().expect("a number"), event.id.expect("an id"))
}

/// The notice that a stream begins with: its reason.
#[track_caller]
fn gap(stream: &mut Subscriber) -> String {
    assert_eq!(stream.field("Pushv-Resumed-From"), Some("gap"));
    let event = stream.next().expect("a notice");
    assert_eq!(event.name, "gap");
    let gap: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
    gap["reason"].as_str().expect("a reason").into()
}

/// No number is missing and none comes twice.
#[track_caller]
fn goes_on(stream: &mut Subscriber, after: Option<u64>) {
    let mut last = after.unwrap_or_else(|| number(stream).0);
    for _ in 0..50 {
        let (next, _) = number(stream);
        assert_eq!(next, last + 1);
        last = next;
    }
}

/// A stream that asks with this `Last-Event-ID`, of any bytes.
#[track_caller]
fn resume(scene: &Scene, ids: &[&[u8]]) -> Subscriber {
    let mut client: Client = scene.connect();
    let mut request = b"GET /events/a HTTP/1.1\r\nHost: h\r\n".to_vec();
    for id in ids {
        request.extend([b"Last-Event-ID: ", *id, b"\r\n"].concat());
    }
    client.send([&request[..], b"\r\n"].concat());
    Subscriber::asked(client)
}

/// Case 25.
#[test]
fn every_position_that_can_be_asked_for() {
    let scene = Scene::start(&[("log_events_max", "400")]);
    // Fewer than the log retains, so that what was just seen is there, however late it is asked for.
    while_publishing(&scene, 300, |seen| {
        let mut first = scene.subscribe("/a", &[]);
        let (evicted, evicted_id) = number(&mut first);
        goes_on(&mut first, Some(evicted));

        let (known, id) = number(&mut first);
        let mut stream = resume(&scene, &[id.as_bytes()]);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some(&*id));
        goes_on(&mut stream, Some(known));

        // From here on it publishes as fast as it can.
        seen.store(u64::MAX, Ordering::Relaxed);
        scene.wait_until("the first event is evicted", || {
            scene.metric("events_evicted_total") > evicted + 1
        });
        let mut stream = resume(&scene, &[evicted_id.as_bytes()]);
        assert_eq!(gap(&mut stream), "evicted");
        goes_on(&mut stream, None);

        let (epoch, _) = id.split_once('-').expect("EPOCH-SEQ");
        let future = format!("{epoch}-18446744073709551615");
        let (padded, other) = (format!("{epoch}-007"), "zzzzzzzz-1".to_string());
        let long = vec![b'x'; 8 << 10];
        let unknown: [&[u8]; 11] = [
            b"never-seen",
            "gr\u{f6}\u{df}e".as_bytes(),
            b"\xff\xfe\x80",
            b"earliest ish",
            &long,
            future.as_bytes(),
            padded.as_bytes(),
            other.as_bytes(),
            b"-1",
            b"a\tb",
            b"99999999999999999999999999",
        ];
        for id in unknown {
            let mut stream = resume(&scene, &[id]);
            assert_eq!(gap(&mut stream), "unknown", "{:?}", id.escape_ascii().to_string());
            goes_on(&mut stream, None);
        }
        let mut stream = resume(&scene, &[b"earliest"]);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some("earliest"));
        goes_on(&mut stream, None);
    });
    // Nothing more is published: the newest one is known for certain.
    let mut stream = scene.subscribe("/a?last_event_id=earliest", &[]);
    let count = scene.published("a");
    let (last, id) = std::iter::repeat_with(|| number(&mut stream))
        .find(|(nth, _)| nth + 1 == count)
        .expect("it");
    let two: [&[u8]; 2] = [id.as_bytes(), b"never-seen"];
    let mut streams = [&two[..1], &two, &[b"", two[0]]].map(|ids| resume(&scene, ids));
    let data = (last + 1).to_string();
    scene.connect().request("POST", "/events/a", &[], data.as_bytes());
    for stream in &mut streams {
        assert_eq!(stream.field("Pushv-Resumed-From"), Some(&*id), "the first that is not empty");
        assert_eq!(number(stream).0, last + 1);
    }
    drop(streams);
    drop(stream);
    scene.end();
}

/// Case 25. Clients that cannot send the header say in the query where they stand. All the names
/// that they use are one parameter, and whatever it holds, the answer is a stream.
#[test]
fn a_position_in_the_query() {
    let scene = Scene::start(&[]);
    let mut publisher = scene.connect();
    let ids: Vec<String> = (0..5)
        .map(|nth: u8| {
            publisher.request("POST", "/events/a", &[], nth.to_string().as_bytes()).json("id")
        })
        .collect();
    let ask =
        |query: &str, fields: &[(&str, &str)]| scene.subscribe(&format!("/a?{query}"), fields);
    let resumes = |query: &str, fields: &[(&str, &str)], last: usize| {
        let mut stream = ask(query, fields);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some(&*ids[last]), "{query}");
        assert_eq!(number(&mut stream).0, last as u64 + 1, "{query}");
    };
    let names = [
        "last_event_id",
        "lastEventId",
        "lastEventID",
        "Last-Event-ID",
        "Last-Event-Id",
        "last-event-id",
        "lasteventid",
        "last%45ventId",
    ];
    for name in names {
        resumes(&format!("{name}={}", ids[1]), &[], 1);
        resumes(&format!("nocache=17&{name}={}&x", ids[1]), &[], 1);
        // What a client appends is newer than what the page wrote into the URL.
        resumes(&format!("last_event_id={}&{name}={}", ids[0], ids[2]), &[], 2);
        resumes(&format!("last_event_id=earliest&{name}={}", ids[2]), &[], 2);
        resumes(&format!("{name}={}&{name}=", ids[2]), &[], 2);
        // A browser sends the header, and the URL that it was given at first.
        resumes(&format!("{name}={}", ids[0]), &[("Last-Event-ID", &ids[3])], 3);
        resumes(&format!("{name}=%zz"), &[("Last-Event-ID", &ids[3])], 3);
        resumes(&format!("{name}={}", ids[2]), &[("Last-Event-ID", "")], 2);
        let stream = ask(&format!("{name}="), &[]);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some("latest"));
        for unknown in ["%zz", "%", "%f", "%ff%fe", "%00", "%0d%0aX:%20y", "gr%C3%B6%C3%9Fe", "+"] {
            let mut stream = ask(&format!("{name}={unknown}"), &[]);
            assert_eq!(gap(&mut stream), "unknown", "{name}={unknown}");
            assert_eq!(number(&mut stream).0, 0);
        }
    }
    for other in ["lastEventIds", "event_id", "last+event+id", "%zz", "x=%zz", "=%", "%ff"] {
        let stream = ask(other, &[]);
        assert_eq!(stream.field("Pushv-Resumed-From"), Some("latest"), "{other}");
    }
    drop(publisher);
    scene.end();
}

/// Case 26. A thousand times a client drops and comes back with its last id.
#[test]
fn a_thousand_seams() {
    let scene = Scene::start(&[]);
    while_publishing(&scene, 5000, |seen| {
        let mut last: Option<(u64, String)> = None;
        for round in 0..1000 {
            let mut stream = match &last {
                None => scene.subscribe("/a", &[]),
                Some((_, id)) => scene.subscribe("/a", &[("Last-Event-ID", id)]),
            };
            if let Some((_, id)) = &last {
                assert_eq!(stream.field("Pushv-Resumed-From"), Some(&**id));
            }
            for _ in 0..=round % 3 {
                let (next, id) = number(&mut stream);
                let expected = last.as_ref().map_or(next, |(before, _)| before + 1);
                assert_eq!(next, expected, "round {round}");
                last = Some((next, id));
                seen.store(next, Ordering::Relaxed);
            }
            if round % 2 == 0 {
                stream.client.reset();
            }
        }
    });
    scene.end();
}

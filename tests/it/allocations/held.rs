//! What is held while nothing happens.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use allocation_counter::measure;
use natsway::lifecycle::Signals;
use tokio::task::LocalSet;

use super::Inside;

#[test]
fn a_start_holds_no_more_memory_than_it_did() {
    let held = Inside::new(&[]).held;
    assert!(held <= START_MAX, "{held} bytes");
}

const START_MAX: i64 = 1_300_000;
const EACH_MAX: i64 = 21_000;

#[test]
fn an_idle_reader_holds_no_more_memory_than_it_did() {
    const READERS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("natsway");
    let listen = format!("unix:{}", path.display());
    let Inside {
        runtime,
        app,
        held: _,
        _nats,
    } = Inside::new(&[("NATSWAY_LISTEN__DATA", &listen)]);
    let (_end, signals) = Signals::manual();
    let serving = LocalSet::new();
    serving.spawn_local(app.run(signals, None));
    let open = |streams| serving.block_on(&runtime, open(&path, streams));
    // The first one makes what all have in common.
    let _first = open(1);
    let mut streams = Vec::new();
    let counted = measure(|| streams = open(READERS));
    assert_eq!(streams.len(), READERS);
    let each = counted.bytes_current / READERS as i64;
    assert!(each <= EACH_MAX, "{each} bytes");
}

/// Opens streams from another thread, whose allocations are not counted, and reads their heads.
async fn open(path: &Path, streams: usize) -> Vec<UnixStream> {
    let path = path.to_owned();
    let (sender, opened) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let streams = (0..streams).map(|_| stream(&path)).collect();
        let _ = sender.send(streams);
    });
    opened.await.unwrap()
}

fn stream(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    let head =
        "GET /v1/subscribe/a.b HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    stream
}

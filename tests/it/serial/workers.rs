//! Workers that know HTTP only, in two languages, behind two replicas, all of them killed at random:
//! every message is processed, and none is settled that was not.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::seq::IndexedRandom;
use serde_json::json;

use crate::harness::process::{Output, some_port};
use crate::harness::program::Program;
use crate::harness::{Bridge, Nats, eventually, soak};

const KEYS: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Processing is a line of output; a line comes before the ack of its message.
const PYTHON: &str = r#"
import random, sys, time
import requests
bases = sys.argv[1:]
session = requests.Session()
def settle(message):
    while True:
        try:
            answer = session.post(f"{random.choice(bases)}/v1/acks/{message['ack']}", timeout=10)
            if answer.status_code == 204:
                return print("acked", message["seq"], flush=True)
            if answer.status_code < 500:
                return print("refused", answer.text, flush=True)
        except requests.RequestException:
            pass
        time.sleep(0.05)
while True:
    try:
        url = f"{random.choice(bases)}/v1/streams/WORK/consumers/worker/fetch"
        answer = session.post(url, params={"max": 20, "wait": "1s"}, timeout=10)
        if 400 <= answer.status_code < 500:
            print("refused", answer.text, flush=True)
        messages = answer.json()["messages"] if answer.status_code == 200 else []
    except requests.RequestException:
        messages = []
        time.sleep(0.05)
    for message in messages:
        print("processed", message["seq"], flush=True)
        settle(message)
"#;

const NODE: &str = r#"
const bases = process.argv.slice(1);
const base = () => bases[Math.floor(Math.random() * bases.length)];
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
const post = (url) => fetch(url, { method: "POST", signal: AbortSignal.timeout(10000) });
async function settle(message) {
  for (;;) {
    try {
      const answer = await post(`${base()}/v1/acks/${message.ack}`);
      if (answer.status === 204) return console.log(`acked ${message.seq}`);
      if (answer.status < 500) return console.log(`refused ${await answer.text()}`);
    } catch {}
    await pause();
  }
}
for (;;) {
  let messages = [];
  try {
    const answer = await post(`${base()}/v1/streams/WORK/consumers/worker/fetch?max=20&wait=1s`);
    if (answer.status >= 400 && answer.status < 500) console.log(`refused ${await answer.text()}`);
    if (answer.status === 200) messages = (await answer.json()).messages;
  } catch { await pause(); }
  for (const message of messages) {
    console.log(`processed ${message.seq}`);
    await settle(message);
  }
}
"#;

async fn replica(nats: &Nats, port: u16) -> Bridge {
    Bridge::builder()
        .nats(nats)
        .yaml(&format!(
            "listen: {{ data: [\"127.0.0.1:{port}\"], admin: \"127.0.0.1:0\" }}"
        ))
        .env("NATSWAY_ACK_TOKENS__KEYS", KEYS)
        .start()
        .await
}

struct Team {
    bases: Vec<String>,
    outputs: Vec<Output>,
    programs: Vec<Program>,
}

impl Team {
    fn start(ports: &[u16]) -> Self {
        let base = |port: &u16| format!("http://127.0.0.1:{port}");
        let mut team = Self {
            bases: ports.iter().map(base).collect(),
            outputs: (0..4).map(|_| Output::default()).collect(),
            programs: Vec::new(),
        };
        for index in 0..team.outputs.len() {
            let program = team.program(index);
            team.programs.push(program);
        }
        team
    }

    fn program(&self, index: usize) -> Program {
        let output = self.outputs[index].clone();
        match index % 2 {
            0 => Program::python(PYTHON, &self.bases, output),
            _ => Program::node(NODE, &self.bases, output),
        }
    }

    fn replace(&mut self, index: usize) {
        self.programs[index].assert_running();
        self.programs[index].kill9();
        self.programs[index] = self.program(index);
    }

    fn lines(&self, word: &str) -> Vec<String> {
        let lines = self.outputs.iter().flat_map(Output::lines);
        let rest =
            lines.filter_map(|line| line.strip_prefix(word).map(|rest| rest.trim().to_owned()));
        rest.collect()
    }

    fn seqs(&self, word: &str) -> BTreeSet<u64> {
        let lines = self.lines(word);
        lines.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_processed_though_workers_and_replicas_are_killed() {
    let count: u64 = soak(1200, 100_000);
    let rounds: u64 = soak(5, 200);
    let nats = Nats::start().await;
    nats.stream("WORK", &["work.>"], json!({"retention": "workqueue"}))
        .await;
    let consumer = json!({"ack_wait": 4_000_000_000_u64, "max_ack_pending": 10_000});
    nats.consumer("WORK", "worker", consumer).await;
    let ports = [some_port(), some_port()];
    let mut replicas = Vec::new();
    for port in ports {
        replicas.push(replica(&nats, port).await);
    }
    let mut team = Team::start(&ports);
    for round in 0..rounds {
        let payloads = (0..count / rounds).map(|number| format!("{round}-{number}"));
        nats.store_many("work.now", payloads).await;
        let victim = *(0..6)
            .collect::<Vec<usize>>()
            .choose(&mut rand::rng())
            .expect("six");
        match victim {
            4 | 5 => {
                replicas[victim - 4].kill9();
                replicas[victim - 4] = replica(&nats, ports[victim - 4]).await;
            }
            worker => team.replace(worker),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let bound = Duration::from_secs(soak(120, 1800));
    eventually(bound, "the backlog is empty", async || {
        nats.stream_state("WORK").await["messages"] == 0
    })
    .await;
    let all: BTreeSet<u64> = (1..=count).collect();
    // The last output is read when its writer is gone.
    for program in &team.programs {
        program.assert_running();
        program.kill9();
    }
    for output in &team.outputs {
        output.finished().await;
    }
    let processed = team.seqs("processed");
    assert_eq!(processed, all, "what is gone from the queue was processed");
    assert!(team.seqs("acked").is_subset(&processed));
    assert_eq!(team.lines("refused"), Vec::<String>::new());
}

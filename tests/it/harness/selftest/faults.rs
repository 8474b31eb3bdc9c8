use std::time::Duration;

use crate::harness::faults::Proxy;
use crate::harness::raw::{Client, server_info};
use crate::harness::{Nats, SOON, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stalled_flows_again_and_what_is_cut_is_gone() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let mut client = Client::connect(&proxy.host_port()).await;
    client.subscribe("a").await;

    proxy.stall();
    client.publish("a", b"held").await;
    let nothing = tokio::time::timeout(Duration::from_millis(100), client.next()).await;
    assert!(nothing.is_err());
    proxy.heal();
    assert_eq!(client.next().await.expect("released").text(), "held");

    proxy.cut();
    assert!(client.next().await.is_none());
    assert!(server_info(&proxy.host_port()).await.is_none());
    proxy.heal();
    eventually(SOON, "the proxy takes connections again", async || {
        server_info(&proxy.host_port()).await.is_some()
    })
    .await;
    assert!(proxy.counters.accepted() >= 3);
    assert!(proxy.counters.bytes_sent() > 0 && proxy.counters.bytes_received() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_replies_do_not_keep_a_message_from_arriving() {
    let nats = Nats::start().await;
    let mut spy = nats.raw().await;
    spy.subscribe("a").await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let mut client = Client::connect(&proxy.host_port()).await;
    client.subscribe("a").await;
    proxy.stall_replies();
    client.publish("a", b"one way").await;
    assert_eq!(spy.next().await.expect("arrived").text(), "one way");
    let nothing = tokio::time::timeout(Duration::from_millis(100), client.next()).await;
    assert!(nothing.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_is_healed_at_once_is_still_one() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(&nats.host_port()).await;
    let mut client = Client::connect(&proxy.host_port()).await;
    client.subscribe("a").await;
    proxy.cut();
    proxy.heal();
    assert!(client.next().await.is_none());
}

use crate::harness::{Nats, Python};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_in_python_answers() {
    let nats = Nats::start().await;
    let _responder = Python::start(
        &nats,
        "async def answer(msg):\n    await msg.respond(b'hello ' + msg.data)\n\
         await nc.subscribe('greet', cb=answer)\nawait ready()\nawait asyncio.Event().wait()",
    )
    .await;
    let client = nats.client().await;
    let reply = client
        .request("greet", "joe".into())
        .await
        .expect("a reply");
    assert_eq!(&reply.payload[..], b"hello joe");
}

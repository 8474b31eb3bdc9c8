//! A WebSocket client.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{SOON, within};

/// An open connection.
pub(crate) struct Ws {
    stream: WebSocketStream<TcpStream>,
    /// The answer to the handshake.
    pub(crate) response: Response,
}

impl Ws {
    /// Opens `path` at `address` with more request headers (Origin, Sec-WebSocket-Protocol…); a
    /// refusal is returned as natsway answered it.
    pub(crate) async fn connect(
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            let value = value.parse().expect("a legal header value");
            request.headers_mut().insert(*name, value);
        }
        let socket = TcpStream::connect(address).await?;
        let (stream, response) =
            within(SOON, "the handshake", client_async(request, socket)).await?;
        Ok(Self { stream, response })
    }

    /// Sends one text frame.
    pub(crate) async fn send(&mut self, value: &Value) {
        self.send_frame(Message::text(value.to_string())).await;
    }

    /// Sends any frame.
    pub(crate) async fn send_frame(&mut self, frame: Message) {
        self.stream
            .send(frame)
            .await
            .expect("the connection is open");
    }

    /// The next text frame as JSON; pings are answered on the way.
    pub(crate) async fn next(&mut self) -> Value {
        match self.next_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).expect("frames are JSON"),
            other => panic!("a text frame was expected, not {other:?}"),
        }
    }

    /// The next text, binary or close frame; nothing when the connection ended without one.
    pub(crate) async fn next_frame(&mut self) -> Option<Message> {
        within(SOON, "a frame", async {
            loop {
                match self.stream.next().await? {
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(frame) => return Some(frame),
                    Err(_) => return None,
                }
            }
        })
        .await
    }

    /// Reads up to the next ping, which is answered when more is read; false when the connection ended.
    pub(crate) async fn pinged(&mut self) -> bool {
        let frame = within(SOON, "a ping", self.stream.next()).await;
        matches!(frame, Some(Ok(Message::Ping(_))))
    }

    /// Reads until the close frame and returns its code and reason.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.next_frame().await? {
                Message::Close(Some(frame)) => {
                    return Some((frame.code.into(), frame.reason.to_string()));
                }
                Message::Close(None) => return None,
                _ => {}
            }
        }
    }

    /// Closes from this side.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }

    /// The socket, for a client that stops reading or vanishes.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.stream.into_inner()
    }
}

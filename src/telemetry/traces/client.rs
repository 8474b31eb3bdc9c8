//! The HTTP client that carries spans: one connection a batch, so that nothing has to be kept alive or
//! found dead between two of them.

use std::io::{self, Write as _};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Sending;

/// A collector answers with next to nothing.
const ANSWER_BYTES: usize = 64 * 1024;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("natsway/", env!("CARGO_PKG_VERSION")));

/// Why a batch did not arrive. None of them quotes the endpoint, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("it speaks no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer cannot be read")]
    Answer,
    #[error("its name is no name for TLS")]
    Name,
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// The client. Whoever uses it sets the deadline.
#[derive(Debug)]
pub(super) struct Client {
    sending: Sending,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Trusts whom the system trusts.
    pub(super) fn new(sending: Sending) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the versions that rustls takes for safe")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            sending,
            tls: Arc::new(tls),
        }
    }

    /// Sends a batch, and waits until the collector has said that it has it.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<(), PostError> {
        let uri = &self.sending.endpoint;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let request = self.request(body)?;
        let stream = TcpStream::connect((host, port)).await?;
        let status = if is_tls {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| PostError::Name)?;
            let tls = TlsConnector::from(Arc::clone(&self.tls));
            exchange(tls.connect(name, stream).await?, request).await?
        } else {
            exchange(stream, request).await?
        };
        match status.is_success() {
            true => Ok(()),
            false => Err(PostError::Status(status)),
        }
    }

    /// A server is asked for a path, and told its name in `Host`.
    fn request(&self, body: Vec<u8>) -> io::Result<Request<Full<Bytes>>> {
        let uri = &self.sending.endpoint;
        let body = match self.sending.is_compressed {
            true => gzip(&body)?,
            false => body,
        };
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match uri.path_and_query() {
            Some(path) => Uri::from(path.clone()),
            None => Uri::from_static("/"),
        };
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        headers.extend(self.sending.headers.clone());
        headers.insert(CONTENT_TYPE, PROTOBUF);
        if self.sending.is_compressed {
            headers.insert(CONTENT_ENCODING, GZIP);
        }
        headers.insert(HOST, host_header(uri));
        Ok(request)
    }
}

fn host_header(uri: &Uri) -> HeaderValue {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static(""))
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, PostError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answering = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let read = Limited::new(body, ANSWER_BYTES).collect().await;
        read.map(|_| head.status).map_err(|_| PostError::Answer)
    };
    let mut answering = pin!(answering);
    // The connection moves what both sides say; a collector may close it with its answer.
    tokio::select! {
        biased;
        answer = &mut answering => return answer,
        _over = connection => {}
    }
    answering.await
}

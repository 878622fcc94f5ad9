//! A server inside TLS.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

pub struct Secure {
    pub port: u16,
    pub authority: String,
    heads: Arc<Mutex<Vec<String>>>,
    greetings: Arc<Mutex<Vec<HandshakeKind>>>,
    task: JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server inside TLS has whose certificate is for this name, and the authority that it is of.
pub fn identity(name: &str) -> (ServerConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("it is one of rustls' own")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they belong together");
    (config, issuer.pem())
}

/// A server inside TLS whose certificate is for this name, of an authority of its own.
pub async fn server(name: &str) -> Secure {
    let (config, authority) = identity(name);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it has one").port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let greetings: Arc<Mutex<Vec<HandshakeKind>>> = Arc::default();
    let (heard, greeted) = (Arc::clone(&heads), Arc::clone(&greetings));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let greeting = stream.get_ref().1.handshake_kind();
            greeted
                .lock()
                .expect("nobody panics here")
                .push(greeting.expect("it is over"));
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            heard
                .lock()
                .expect("nobody panics here")
                .push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    Secure {
        port,
        authority,
        heads,
        greetings,
        task,
    }
}

impl Secure {
    /// The heads of the requests that came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics here").clone()
    }

    /// How those greeted whom it let in.
    pub fn greetings(&self) -> Vec<HandshakeKind> {
        self.greetings.lock().expect("nobody panics here").clone()
    }
}

//! TLS: whom to trust.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_native_certs};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::EgressError;
use super::reading::Reading;
use crate::execution::HostError;
use crate::grant::HostName;

/// Whose certificates are trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// Those of Mozilla's list, which is part of this program: the same on every machine. The
    /// default.
    #[default]
    Bundled,
    /// Those that this machine trusts.
    Platform,
    /// None but the certificates that are added.
    None,
}

pub(super) struct Tls {
    roots: Roots,
    added: Vec<CertificateDer<'static>>,
    /// Whom this machine trusts, and those that are added.
    platform: Reading<Arc<RootCertStore>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    pub fn new(roots: Roots, certificates: &[Vec<u8>]) -> Result<Self, HostError> {
        let mut added = Vec::new();
        let mut store = RootCertStore::empty();
        for pem in certificates {
            let before = added.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| HostError::Certificate(error.to_string()))?;
                store
                    .add(certificate.clone())
                    .map_err(|error| HostError::Certificate(error.to_string()))?;
                added.push(certificate);
            }
            if added.len() == before {
                return Err(HostError::Certificate("there is none in PEM form".into()));
            }
        }
        Ok(Tls {
            roots,
            added,
            platform: Reading::new("skillhost-roots"),
            config: OnceLock::new(),
        })
    }

    /// Greets a server inside TLS, and checks that it is the one that was meant.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &HostName,
        stream: S,
    ) -> Result<TlsStream<S>, EgressError> {
        let name = match host {
            HostName::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| EgressError::NoSuchHost)?
            }
            HostName::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let connector = TlsConnector::from(self.config().await?);
        connector.connect(name, stream).await.map_err(|error| {
            tracing::debug!(%host, %error, "TLS failed");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            match inner {
                Some(rustls::Error::InvalidCertificate(_)) => EgressError::Certificate,
                _ => EgressError::Tls,
            }
        })
    }

    /// Made when it is first needed: reading this machine's certificates takes a while.
    async fn config(&self) -> Result<Arc<ClientConfig>, EgressError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let store = self.store(load_native_certs).await?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                tracing::error!("TLS cannot be set up: {error}");
                EgressError::Tls
            })?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Arc::clone(self.config.get_or_init(|| {
            let mut config = config;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            // One execution must not be told by a server from another by a ticket of an earlier one.
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        })))
    }

    /// All that are trusted, where this machine's are loaded like that.
    async fn store(
        &self,
        load: impl FnOnce() -> CertificateResult + Send + 'static,
    ) -> Result<Arc<RootCertStore>, EgressError> {
        let mut store = RootCertStore::empty();
        let added = self.added.clone();
        match self.roots {
            Roots::Bundled => store
                .roots
                .extend_from_slice(webpki_roots::TLS_SERVER_ROOTS),
            Roots::Platform => {
                let read = move || {
                    let found = load();
                    for error in found.errors {
                        tracing::warn!("a certificate of this machine cannot be read: {error}");
                    }
                    store.add_parsable_certificates(found.certs);
                    store.add_parsable_certificates(added);
                    Arc::new(store)
                };
                return self.platform.get(|_| true, read).await.map_err(|error| {
                    tracing::error!("this machine's certificates cannot be read: {error}");
                    EgressError::Tls
                });
            }
            Roots::None => {}
        }
        store.add_parsable_certificates(added);
        Ok(Arc::new(store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::reading::tests::Stalled;

    async fn trusted(roots: Roots) -> Arc<RootCertStore> {
        let tls = Tls::new(roots, &[]).unwrap();
        tls.store(load_native_certs).await.unwrap()
    }

    #[tokio::test]
    async fn each_set_of_roots_is_what_it_says() {
        let bundled = trusted(Roots::Bundled).await;
        let known = |name: &[u8]| {
            let mut roots = bundled.roots.iter();
            roots.any(|root| root.subject.windows(name.len()).any(|part| part == name))
        };
        assert!(known(b"ISRG Root X1") && known(b"GlobalSign"));
        assert!(!known(b"nobody's root"));
        assert!(trusted(Roots::None).await.is_empty());
    }

    /// As on a network drive that is gone.
    #[test]
    fn the_roots_of_the_platform_may_not_answer() {
        let tls = Tls::new(Roots::Platform, &[]).unwrap();
        let store = Stalled::new().check_held_up(async |file| {
            let read = file.reader();
            let load = move || {
                read();
                CertificateResult::default()
            };
            tls.store(load).await
        });
        assert!(store.unwrap().is_empty());
    }

    /// What this machine trusts is read when it is first needed, in a process in which that is known.
    #[test]
    fn the_roots_of_the_platform_are_those_of_this_machine() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pem = ["one.test", "two.test"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            made.cert.pem()
        });
        std::fs::write(&file, pem.concat()).unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "egress::tls::tests::a_process_on_another_machine",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", file.path())
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("trusts 2"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[tokio::test]
    #[ignore = "run by another test, in a process of its own"]
    async fn a_process_on_another_machine() {
        let file = std::env::var_os("SSL_CERT_FILE").expect("run by another test");
        let tls = Tls::new(Roots::None, &[std::fs::read(file).unwrap()]).unwrap();
        let expected = tls.store(load_native_certs).await.unwrap();
        let platform = trusted(Roots::Platform).await;
        assert_eq!(platform.len(), expected.len());
        for root in &expected.roots {
            assert!(platform.roots.contains(root), "{root:?}");
        }
        println!("trusts {}", platform.len());
    }
}

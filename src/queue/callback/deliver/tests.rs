use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::{TOLERANCE, Verdict, verify};
use super::*;

/// A receiver that answers every connection with the same bytes, and tells what it got.
struct Receiver {
    port: u16,
    task: JoinHandle<Vec<Vec<u8>>>,
}

impl Receiver {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            let mut buffer = [0; 4096];
            while !got.ends_with(b"}") {
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => got.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let _ = stream.write_all(&answer).await;
            if answer.is_empty() {
                let _ = stream.shutdown().await;
            }
            // Until the other side is gone.
            while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
            vec![got]
        });
        Receiver { port, task }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/done?x=1", self.port)
    }

    async fn got(self) -> String {
        String::from_utf8(self.task.await.unwrap().concat()).unwrap()
    }
}

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 24]).unwrap()
}

fn allowing(addresses: &[&str]) -> Callbacks {
    let settings = CallbackSettings {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..CallbackSettings::default()
    };
    Callbacks::new(settings).unwrap()
}

async fn deliver_with(callbacks: &Callbacks, url: &str) -> Delivery {
    let callback = Callback {
        id: Uuid::from_u128(7),
        url,
        body: br#"{"status":"success"}"#,
        secrets: &[secret(1), secret(2)],
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        trace_state: Some("vendor=1"),
    };
    callbacks.deliver(callback, Utc::now()).await
}

async fn answered(answer: impl Into<Vec<u8>>) -> Delivery {
    let receiver = Receiver::answering(answer).await;
    deliver_with(&allowing(&["127.0.0.1"]), &receiver.url()).await
}

#[tokio::test]
async fn a_callback_arrives_signed() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let delivery = deliver_with(&allowing(&["127.0.0.1"]), &receiver.url()).await;
    assert_eq!(delivery.verdict, Verdict::Delivered);
    assert_eq!((delivery.status, &*delivery.answer), (Some(200), "ok"));
    assert_eq!(delivery.error, None);
    let got = receiver.got().await;
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /done?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|line| line.0 == name).unwrap().1
    };
    assert_eq!(header(HEADER_ID), Uuid::from_u128(7).to_string());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(header("traceparent"), parent);
    assert_eq!(header("tracestate"), "vendor=1");
    for secret in [secret(1), secret(2)] {
        let verified = verify(
            &[secret],
            header(HEADER_ID),
            header(HEADER_TIMESTAMP),
            header(HEADER_SIGNATURE),
            body.as_bytes(),
            Utc::now(),
            TOLERANCE,
        );
        assert_eq!(verified, Ok(()));
    }
}

#[tokio::test]
async fn answers_mean_what_they_say() {
    let gone = answered("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!((gone.verdict, gone.status), (Verdict::Stop, Some(410)));
    assert!(gone.error.unwrap().contains("no more"));
    let busy = "HTTP/1.1 503 No\r\nretry-after: 90\r\ncontent-length: 4\r\n\r\nbusy";
    let busy = answered(busy).await;
    assert_eq!((busy.verdict, busy.status), (Verdict::Retry, Some(503)));
    assert_eq!((busy.retry_after_ms, &*busy.answer), (Some(90_000), "busy"));
    assert!(busy.delay_before_next(1, "a").unwrap() >= Duration::from_secs(90));
    let nonsense = answered("nonsense\r\n\r\n").await;
    assert_eq!((nonsense.verdict, nonsense.status), (Verdict::Retry, None));
    let silent = answered("").await;
    assert_eq!((silent.verdict, silent.status), (Verdict::Retry, None));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let inner = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answer = format!(
        "HTTP/1.1 307 There\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        inner.url()
    );
    let delivery = answered(answer).await;
    assert_eq!(
        (delivery.verdict, delivery.status),
        (Verdict::Retry, Some(307))
    );
    assert!(!inner.task.is_finished());
    inner.task.abort();
}

#[tokio::test]
async fn an_answer_is_kept_within_bounds() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.extend(vec![b'x'; 1 << 20]);
    let delivery = answered(answer).await;
    assert_eq!(delivery.verdict, Verdict::Delivered);
    assert_eq!(delivery.answer.len(), KEPT_BYTES);
    let mut answer = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    answer.extend(vec![b'x'; 1 << 20]);
    let delivery = answered(answer).await;
    assert_eq!((delivery.verdict, delivery.status), (Verdict::Retry, None));
    // A body that does not end is no failure: the head has said it.
    let unfinished = "HTTP/1.1 202 Yes\r\ncontent-length: 100\r\n\r\nso far";
    let receiver = Receiver::answering(unfinished).await;
    let mut callbacks = allowing(&["127.0.0.1"]);
    callbacks.timeout = Duration::from_millis(200);
    let delivery = deliver_with(&callbacks, &receiver.url()).await;
    assert_eq!(delivery.verdict, Verdict::Delivered);
    assert_eq!(delivery.answer, "so far");
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_not_waited_for() {
    // It takes connections, by way of the system, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut callbacks = allowing(&["127.0.0.1"]);
    callbacks.timeout = Duration::from_millis(50);
    let delivery = deliver_with(&callbacks, &url).await;
    assert_eq!((delivery.verdict, delivery.status), (Verdict::Retry, None));
    assert!(delivery.error.unwrap().contains("in time"));
    drop(listener);
    let delivery = deliver_with(&callbacks, &url).await;
    assert_eq!(delivery.verdict, Verdict::Retry);
}

#[tokio::test]
async fn what_is_not_public_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let by_name = format!("http://localhost:{}/", receiver.port);
    let nothing = allowing(&[]);
    // Of a name it is not said where it leads to.
    let of_name = "its host leads to no address that a callback may be sent to";
    for (url, said) in [(receiver.url(), "loopback"), (by_name.clone(), of_name)] {
        let delivery = deliver_with(&nothing, &url).await;
        assert_eq!((delivery.verdict, delivery.status), (Verdict::Stop, None));
        let error = delivery.error.unwrap();
        assert!(error.contains(said), "{error}");
        assert!(said != of_name || error == of_name, "{error}");
    }
    assert!(!receiver.task.is_finished());
    // An address that the operator names is allowed by that; a name that leads to it is not.
    let grant = format!("http://127.0.0.1:{}", receiver.port);
    let named = Callbacks::new(CallbackSettings {
        http: vec![grant.parse().unwrap()],
        ..CallbackSettings::default()
    })
    .unwrap();
    assert_eq!(deliver_with(&named, &by_name).await.verdict, Verdict::Stop);
    let delivery = deliver_with(&named, &receiver.url()).await;
    assert_eq!(delivery.verdict, Verdict::Delivered);
}

#[tokio::test]
async fn urls_are_checked_before_they_are_kept() {
    let callbacks = allowing(&["10.1.0.0/16"]);
    for url in [
        "https://a.example/x",
        "http://1.1.1.1:8080/",
        "http://10.1.2.3/",
    ] {
        assert_eq!(callbacks.check(url), Ok(()), "{url}");
    }
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.2.0.1/",
    ] {
        assert!(
            matches!(callbacks.check(url), Err(UrlError::Denied(_))),
            "{url}"
        );
    }
    for url in [
        "",
        "file:///etc/passwd",
        "http://user:x@a.example/",
        "a.example",
    ] {
        assert!(
            matches!(callbacks.check(url), Err(UrlError::Url(_))),
            "{url}"
        );
        let delivery = deliver_with(&callbacks, url).await;
        assert_eq!(delivery.verdict, Verdict::Stop);
        assert!(delivery.error.unwrap().contains("cannot be used"));
    }
}

#[test]
fn secrets_are_not_shown() {
    let secrets = [secret(1)];
    let callback = Callback {
        id: Uuid::from_u128(7),
        url: "https://a.example",
        body: b"{}",
        secrets: &secrets,
        trace: None,
        trace_state: None,
    };
    assert!(!format!("{callback:?}").contains("1, 1"));
    assert!(!format!("{callback:?}").contains("whsec"));
}

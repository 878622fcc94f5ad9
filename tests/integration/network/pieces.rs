//! What nobody finds the value of a secret by: how much passes, and in which pieces, of a text that begins like it.

use serde_json::{Value, json};
use skillhost::grant::Grants;
use skillhost::{LimitOverrides, Status};

use super::secrets::{VALUE, host, with};
use super::servers::{Connection, Server};
use super::{fetch, http, run};

/// Beginnings of the value and of its other forms, and texts of their lengths that are none.
fn guesses() -> Vec<(String, String)> {
    let hexed: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    [
        &VALUE[..1],
        &VALUE[..7],
        &VALUE[..VALUE.len() - 1],
        "aHVudGVyMi",
        &hexed[..20],
    ]
    .map(|guess| (guess.to_owned(), "~".repeat(guess.len())))
    .into()
}

/// Sends bytes as one chunk.
async fn chunk(connection: &mut Connection, bytes: &str) {
    let chunk = format!("{:x}\r\n{bytes}\r\n", bytes.len());
    connection.send(chunk).await;
}

/// A server of whoever made the skill, which is granted beside the one that the secret is for.
#[tokio::test]
async fn an_answer_comes_in_the_same_pieces_whatever_is_in_it() {
    let host = host();
    for (guess, other) in guesses() {
        let mut seen = Vec::new();
        for text in [guess, other] {
            let sent = text.clone();
            let server = Server::with(move |mut connection| {
                let text = text.clone();
                async move {
                    connection.head().await;
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    connection.send(head).await;
                    for c in ('a'..='z').cycle().take(400) {
                        chunk(&mut connection, &format!("#{text}{c}")).await;
                        chunk(&mut connection, &format!("#{text}")).await;
                    }
                    connection.send("0\r\n\r\n").await;
                    connection.gone().await;
                }
            })
            .await;
            let grants = with(
                http(&[&server.grant()]),
                &["token=authorization@https://a.example"],
            );
            let ended = fetch(&host, grants, server.request("/")).await;
            let output = ended.output();
            // All of it came.
            assert_eq!(output["bytes"], 400 * (2 * sent.len() + 3));
            assert!(!output["body"].to_string().contains("[secret]"), "{output}");
            seen.push(output["pieces"].clone());
        }
        assert!(
            seen[0].as_array().is_some_and(|pieces| pieces.len() > 5),
            "{seen:?}"
        );
        assert_eq!(seen[0], seen[1]);
    }
}

/// The other way round: the guest guesses, and its server looks how the request comes.
#[tokio::test]
async fn a_request_arrives_in_the_same_pieces_whatever_is_in_it() {
    let host = host();
    for (guess, other) in guesses() {
        let mut seen: Vec<Value> = Vec::new();
        for text in [guess, other] {
            let server = Server::with(|mut connection| async move {
                connection.head().await;
                let sizes = chunks(&mut connection).await;
                let body = format!("{sizes:?}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                connection.send(answer).await;
                connection.gone().await;
            })
            .await;
            let grants = with(
                http(&[&server.grant()]),
                &["token=authorization@https://a.example"],
            );
            let mut request = server.request("/");
            request["method"] = json!("POST");
            // The guest sends it in two halves.
            let half = format!("{}{text}", "#".repeat(200));
            request["upload_text"] = json!(half.repeat(2));
            let ended = fetch(&host, grants, request).await;
            let sizes: Vec<usize> =
                serde_json::from_str(ended.output()["body"].as_str().expect("a text"))
                    .expect("a list");
            assert_eq!(sizes.iter().sum::<usize>(), 2 * half.len());
            seen.push(json!(sizes));
        }
        assert_eq!(seen[0], seen[1]);
    }
}

/// The sizes of the chunks of a request's body.
async fn chunks(connection: &mut Connection) -> Vec<usize> {
    use tokio::io::AsyncReadExt;
    let mut sizes = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(connection.stream.read_u8().await.expect("a chunk"));
        }
        let line = String::from_utf8(line).expect("a size");
        let size = usize::from_str_radix(line.trim(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        connection
            .stream
            .read_exact(&mut chunk)
            .await
            .expect("a chunk");
        if size == 0 {
            return sizes;
        }
        sizes.push(size);
    }
}

/// Whoever calls a skill of its own sees what was cut, and how much.
#[tokio::test]
async fn what_is_over_the_limit_is_cut_as_far_whatever_is_in_it() {
    let host = host();
    let fill = "#".repeat(1_000);
    for channel in ["stdout", "stderr"] {
        for (guess, other) in guesses() {
            let mut seen = Vec::new();
            for text in [guess, other] {
                let allowed = (fill.len() + text.len()) as u64;
                let limits = LimitOverrides {
                    stdout_bytes: Some(allowed),
                    stderr_bytes: Some(allowed),
                    ..LimitOverrides::default()
                };
                let input = json!({"channel": channel, "text": format!("{fill}{text}x")});
                let grants = with(
                    Grants::default(),
                    &["token=authorization@https://a.example"],
                );
                let ended = run(&host, "tell", grants, input, limits).await;
                assert_eq!(ended.result.status, Status::Success);
                let result = &ended.result;
                let dropped = &result.usage.dropped;
                seen.push((
                    result.stdout.clone(),
                    result.stderr.clone(),
                    dropped.stdout_bytes,
                    dropped.stderr_bytes,
                ));
            }
            assert_eq!(seen[0], seen[1]);
            let (stdout, stderr, ..) = &seen[0];
            assert!(
                format!("{stdout}{stderr}").starts_with(&fill[..300]),
                "{seen:?}"
            );
        }
    }
}

/// The value, cut within it: nothing of it stays, and what stood before is told.
#[tokio::test]
async fn half_of_it_at_the_end_of_what_was_cut_is_cut_off() {
    let fill = "12345".repeat(160);
    let limits = LimitOverrides {
        stdout_bytes: Some(800 + 10),
        ..LimitOverrides::default()
    };
    let input = json!({"channel": "stdout", "text": format!("{fill}{VALUE}")});
    let grants = with(
        Grants::default(),
        &["token=authorization@https://a.example"],
    );
    let ended = run(&host(), "tell", grants, input, limits).await;
    let stdout = &ended.result.stdout;
    // Sixteen times its length, rounded up to a power of two.
    assert_eq!(
        stdout,
        &fill[..810 - (16 * VALUE.len()).next_power_of_two()]
    );
    let dropped = ended.result.usage.dropped.stdout_bytes;
    assert_eq!(dropped as usize, fill.len() + VALUE.len() - stdout.len());
}

/// Its end comes late, and is whole all the same.
#[tokio::test]
async fn a_stream_with_pauses_comes_to_its_end() {
    let server = Server::with(|mut connection| async move {
        connection.head().await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.send(head).await;
        for number in 0..20 {
            chunk(&mut connection, &format!("data: {number:02}\n")).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        connection.send("0\r\n\r\n").await;
        connection.gone().await;
    })
    .await;
    let grant = format!("token=authorization@{}", server.grant());
    let grants = with(http(&[&server.grant()]), &[&grant]);
    let ended = fetch(&host(), grants, server.request("/")).await;
    let expected: String = (0..20)
        .map(|number| format!("data: {number:02}\n"))
        .collect();
    assert_eq!(ended.output()["body"], expected);
}

//! That the server is what the tests of the queue take it for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use tokio_postgres::NoTls;

use crate::postgres::{Durability, Postgres, Stop};

async fn count(client: &tokio_postgres::Client) -> i64 {
    let row = client.query_one("SELECT count(*) FROM one", &[]).await;
    row.expect("the server answers").get(0)
}

#[tokio::test]
async fn each_database_is_fresh_and_goes_with_its_test() {
    let server = Postgres::shared();
    let (first, second) = (server.database().await, server.database().await);
    for database in [&first, &second] {
        let client = database.connect().await;
        let made = client.batch_execute("CREATE TABLE one (id int)").await;
        made.expect("it is not there yet");
    }
    let url = first.url();
    // Also while somebody is connected.
    let client = first.connect().await;
    drop(first);
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert_eq!(count(&second.connect().await).await, 0);
}

#[tokio::test]
async fn connections_are_cut() {
    let database = Postgres::shared().database().await;
    let other = Postgres::shared().database().await;
    let (first, second) = (database.connect().await, database.connect().await);
    let spared = other.connect().await;
    assert_eq!(database.cut().await, 2);
    for client in [first, second] {
        assert!(client.batch_execute("SELECT 1").await.is_err());
    }
    assert!(spared.batch_execute("SELECT 1").await.is_ok());
    assert!(
        database
            .connect()
            .await
            .batch_execute("SELECT 1")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_was_committed_outlives_every_stop() {
    let server = Postgres::start(Durability::Full);
    let database = server.database().await;
    let client = database.connect().await;
    let row = client.query_one("SHOW fsync", &[]).await;
    assert_eq!(row.expect("the server answers").get::<_, &str>(0), "on");
    let made = client.batch_execute("CREATE TABLE one (id int)").await;
    made.expect("it is not there yet");
    for (index, how) in (1..).zip([Stop::Fast, Stop::Immediate, Stop::Kill]) {
        let client = database.connect().await;
        let written = client.batch_execute("INSERT INTO one VALUES (1)").await;
        written.expect("the server answers");
        server.restart(how);
        assert!(client.batch_execute("SELECT 1").await.is_err(), "{how:?}");
        assert_eq!(count(&database.connect().await).await, index, "{how:?}");
    }
    server.stop(Stop::Fast);
    assert!(
        tokio_postgres::connect(&database.url(), NoTls)
            .await
            .is_err()
    );
    let folder = server.folder().to_owned();
    drop(database);
    drop(server);
    assert!(!folder.exists());
}

/// This test is two processes: with the variable set, it is the one that starts a server and is
/// killed.
#[tokio::test]
async fn a_server_ends_with_a_process_that_is_killed() {
    const VARIABLE: &str = "SKILLHOST_TEST_HOLDS_A_SERVER";
    if std::env::var_os(VARIABLE).is_some() {
        let server = Postgres::start(Durability::None);
        println!("\nserver {}", server.url("postgres"));
        // Until it is killed.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("it is running"))
        .args(["--exact", "--nocapture"])
        .arg("server::a_server_ends_with_a_process_that_is_killed")
        .env(VARIABLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started again");
    let output = child.stdout.take().expect("it is piped");
    let url = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("server ").map(str::to_owned))
        .expect("it says where its server is");
    let (_client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("its server runs");
    child.kill().expect("it is there");
    child.wait().expect("it was killed");
    // The server ends the connection as it ends.
    assert!(connection.await.is_err());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

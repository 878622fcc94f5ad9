use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;

fn meter(limits: Limits) -> Arc<Meter> {
    Meter::new(&limits)
}

/// Has no end, and counts what is taken from it.
struct Endless(u64);

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let bytes = buffer.remaining();
        buffer.put_slice(&vec![b'x'; bytes]);
        self.0 += bytes as u64;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_is_taken_from_connections_is_bounded() {
    let limit = 100_000;
    let meter = meter(Limits {
        http_response_bytes: limit,
        ..Limits::default()
    });
    // Room for more than is taken at once.
    let mut room = vec![0; 64 * 1024];
    let mut read = |connection: &mut Metered<Endless>| {
        let mut buffer = hyper::rt::ReadBuf::new(&mut room);
        let mut context = Context::from_waker(Waker::noop());
        match Read::poll_read(Pin::new(connection), &mut context, buffer.unfilled()) {
            Poll::Ready(Ok(())) => Some(buffer.filled().len() as u64),
            Poll::Pending => Some(0),
            Poll::Ready(Err(_)) => None,
        }
    };
    let place = meter.place().await.unwrap();
    let mut connection = Metered::new(Endless(0), Arc::clone(&meter), place);
    let mut given = 0;
    while let Some(more) = read(&mut connection) {
        given += more;
    }
    // All but the last piece was handed on, and of that no more was taken than shows that there is more.
    let piece = READ_BYTES as u64;
    assert!((limit - piece..=limit).contains(&given), "{given}");
    assert_eq!(connection.stream.0, limit + 1);
    assert_eq!(meter.met(), Some((Limit::HttpResponseBytes, limit)));
    assert_eq!(meter.read().response_bytes, limit);
    // Another one of the same execution has nothing left.
    let place = meter.place().await.unwrap();
    let mut other = Metered::new(Endless(0), Arc::clone(&meter), place);
    assert_eq!(read(&mut other), None);
    assert_eq!(other.stream.0, 1);
    assert_eq!(meter.read().response_bytes, limit);
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whoever reads what comes without end hands the thread on.
#[tokio::test]
async fn others_have_their_turns_between_reads() {
    let meter = meter(Limits::ceiling());
    let place = meter.place().await.unwrap();
    let mut connection = Metered::new(Endless(0), Arc::clone(&meter), place);
    let mut room = vec![0; READ_BYTES];
    let (mut turns, woken) = (0, Arc::new(Woken::default()));
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..100 {
        let mut context = Context::from_waker(&waker);
        let mut buffer = hyper::rt::ReadBuf::new(&mut room);
        let read = Read::poll_read(Pin::new(&mut connection), &mut context, buffer.unfilled());
        turns += usize::from(read.is_pending());
    }
    assert_eq!(turns, 100 / (READ_AT_ONCE / READ_BYTES + 1));
    // It goes on each time, though nothing new comes.
    assert_eq!(woken.0.load(Ordering::Relaxed), turns);
}

#[tokio::test(start_paused = true)]
async fn places_come_back_when_connections_close() {
    let meter = meter(Limits {
        connections: 1,
        ..Limits::default()
    });
    drop(meter.place().await.unwrap());
    let place = meter.place().await.unwrap();
    let (second, ()) = tokio::join!(meter.place(), async { drop(place) });
    assert!(second.is_ok());
    assert!(meter.place().await.is_err());
    assert_eq!(meter.met(), Some((Limit::Connections, 1)));
}

/// One execution's connections are some of those that all may have.
#[tokio::test]
async fn connections_of_all_executions_are_counted_together() {
    let files = Files::new(1 + LOOK_UP_FILES);
    let limits = Limits {
        connections: 1_000,
        ..Limits::default()
    };
    let [one, other] = [(), ()].map(|()| Meter::within(&limits, Arc::clone(&files)));
    let place = one.place().await.unwrap();
    for _ in 0..LOOK_UP_FILES {
        other.place_for_good().unwrap();
    }
    assert!(matches!(other.place().await, Err(EgressError::Busy)));
    assert!(matches!(one.place_for_good(), Err(EgressError::Busy)));
    assert!(matches!(one.to_look_up(), Err(EgressError::Busy)));
    // That is no limit of the execution's.
    assert_eq!((one.met(), other.met()), (None, None));
    assert_eq!(one.read().connections, 0);
    drop(place);
    // One is free, and a look-up takes several.
    assert!(matches!(one.to_look_up(), Err(EgressError::Busy)));
    let _place = one.place().await.unwrap();
    drop(other);
    let looking = one.to_look_up().unwrap();
    assert!(matches!(one.place().await, Err(EgressError::Busy)));
    drop(looking);
    assert!(one.place().await.is_ok());
}

#[test]
fn bytes_of_sockets_are_counted_up_to_their_limit() {
    let meter = meter(Limits {
        socket_sent_bytes: 10,
        socket_read_bytes: 10,
        ..Limits::default()
    });
    assert!(meter.send(8).is_ok());
    meter.not_sent(3);
    assert!(meter.send(5).is_ok());
    assert_eq!(meter.room(), 11);
    assert!(meter.receive(10).is_ok());
    assert_eq!(meter.met(), None);
    assert!(meter.receive(1).is_err());
    assert!(meter.send(1).is_err());
    assert_eq!(meter.met(), Some((Limit::SocketReadBytes, 10)));
    let traffic = meter.read();
    assert_eq!((traffic.sent_bytes, traffic.received_bytes), (10, 10));
}

#[test]
fn looking_a_name_up_sends_bytes() {
    let meter = meter(Limits {
        http_request_bytes: 100,
        ..Limits::default()
    });
    assert!(meter.look_up("a.example").is_ok());
    assert_eq!(meter.read().request_bytes, 54);
    assert!(meter.look_up("a.example").is_err());
    assert_eq!(meter.met(), Some((Limit::HttpRequestBytes, 100)));
    assert_eq!(meter.read().request_bytes, 54);
}

#[test]
fn what_comes_to_nothing_counts_and_so_do_greetings() {
    let meter = meter(Limits {
        http_request_bytes: 3 * GREETING_BYTES + 1,
        ..Limits::default()
    });
    meter.attempt().made();
    let traffic = meter.read();
    assert_eq!((traffic.connections, traffic.request_bytes), (1, 0));
    assert!(meter.greet().is_ok());
    drop(meter.attempt());
    assert_eq!(meter.read().request_bytes, 2 * GREETING_BYTES);
    drop(meter.attempt());
    assert_eq!(meter.met(), None);
    drop(meter.attempt());
    let limit = 3 * GREETING_BYTES + 1;
    assert_eq!(meter.met(), Some((Limit::HttpRequestBytes, limit)));
    assert!(meter.greet().is_err());
    let traffic = meter.read();
    assert_eq!((traffic.connections, traffic.request_bytes), (1, limit));
}

#[test]
fn places_for_good_do_not_come_back() {
    let meter = meter(Limits {
        connections: 2,
        ..Limits::default()
    });
    assert!(meter.place_for_good().is_ok());
    assert!(meter.place_for_good().is_ok());
    assert!(meter.place_for_good().is_err());
    assert_eq!(meter.met(), Some((Limit::Connections, 2)));
}

#[tokio::test(start_paused = true)]
async fn where_there_can_be_none_nobody_waits() {
    let meter = |connections| {
        Meter::new(&Limits {
            connections,
            ..Limits::default()
        })
    };
    let began = tokio::time::Instant::now();
    assert!(meter(0).place().await.is_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
    // One that is taken may be given back.
    let meter = meter(1);
    let taken = meter.place().await;
    assert!(meter.place().await.is_err());
    assert!(began.elapsed() >= PATIENCE);
    drop(taken);
}

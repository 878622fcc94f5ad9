//! A name server on this machine, by which every name leads to one address, whichever is wanted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

/// For how long a name leads there, in seconds: to somewhere else at the next question.
const TTL: u32 = 0;

/// Answers whoever asks.
pub(super) struct Names {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Where names lead.
    to: Mutex<IpAddr>,
}

impl Names {
    /// One by which they lead to this machine.
    pub fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            to: Mutex::new(Ipv4Addr::LOCALHOST.into()),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().spawn(move || {
            let mut question = [0; 1500];
            while !serving.stop.load(Ordering::Relaxed) {
                // Where nobody asks for a while, it is looked whether anybody will.
                let Ok((bytes, from)) = socket.recv_from(&mut question) else {
                    continue;
                };
                let to = *serving.to.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(reply) = reply(&question[..bytes], to) {
                    // Whatever becomes of it, the guest is what is looked at.
                    let _ = socket.send_to(&reply, from);
                }
            }
        })?;
        Ok(Names {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// From now on they lead there.
    pub fn lead_to(&self, address: IpAddr) {
        let to = self.shared.to.lock();
        *to.unwrap_or_else(PoisonError::into_inner) = address;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to a question: the address, where one of its kind is asked for. `None` to what is no question.
fn reply(question: &[u8], address: IpAddr) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let asked = question.queries.first()?;
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.add_query(asked.clone());
    let (kind, data) = match address {
        IpAddr::V4(address) => (RecordType::A, RData::A(address.into())),
        IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(address.into())),
    };
    if asked.query_type() == kind {
        reply.add_answer(Record::from_rdata(asked.name().clone(), TTL, data));
    }
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_any_length_is_answered_or_not() {
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
        let address = IpAddr::from([10, 0, 0, 1]);
        for bytes in 0..question.len() {
            assert_eq!(reply(&question[..bytes], address), None, "{bytes}");
        }
        let answer = reply(question, address).unwrap();
        assert!(answer.ends_with(&[0, 4, 10, 0, 0, 1]), "{answer:?}");
        // Of the other kind there is none.
        let answer = reply(question, "fd00::1".parse().unwrap()).unwrap();
        assert_eq!(answer.len(), question.len());
        // Labels that never end.
        assert_eq!(reply(&[63; 1500], address), None);
    }
}

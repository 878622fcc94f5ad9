//! A name server on this machine, by which every name leads to one address, whichever is wanted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The kinds of records that hold an address.
const A: u8 = 1;
const AAAA: u8 = 28;

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
    // Behind the head stand the labels of the name, up to an empty one, and then the kind and the class.
    let mut at = 12;
    while *question.get(at)? != 0 {
        at += 1 + usize::from(question[at]);
    }
    let asked = question.get(12..at + 5)?;
    let kind = question.get(at + 1..at + 3)?;
    let (own, length, bytes) = match address {
        IpAddr::V4(address) => (A, 4, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, 16, address.octets().to_vec()),
    };
    let is_asked = kind == [0, own];
    let mut reply = question.get(..2)?.to_vec();
    // An answer without an error to one question, of one record or none.
    reply.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_asked), 0, 0, 0, 0]);
    reply.extend_from_slice(asked);
    if is_asked {
        // Of the name in the question, of the internet, for an hour.
        reply.extend_from_slice(&[0xc0, 12, 0, own, 0, 1, 0, 0, 0x0e, 0x10, 0, length]);
        reply.extend(bytes);
    }
    Some(reply)
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

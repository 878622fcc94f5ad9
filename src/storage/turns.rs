//! Whose turn it is to write. One at a time does, and whoever waits for its turn has no thread meanwhile.
//!
//! Between parties it goes round, as [`line`](crate::turns::line) chooses: whoever comes waits for the one that writes,
//! and for one of each other party that waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::turns::line::{Line, Ticket};
use crate::turns::{ANYTHING, Party, Places};

const ONE: Places = Places { all: 1, each: None };

/// Whoever writes, and whoever waits for that.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    line: Mutex<Line<oneshot::Sender<()>>>,
}

/// The right to write, or a place among those who wait for it. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    ticket: Ticket,
    called: oneshot::Receiver<()>,
}

impl Turns {
    /// Waits until it is this party's turn. May be dropped at any point.
    pub async fn turn(self: &Arc<Self>, party: &Party) -> Turn {
        let (call, called) = oneshot::channel();
        let ticket = {
            let mut line = self.lock();
            // By way of the line, also where nobody waits: so it counts as this party's turn, and the next one is
            // another's who comes meanwhile.
            let ticket = line.wait(party.name(), ANYTHING, call);
            call_next(&mut line);
            ticket
        };
        let mut turn = Turn {
            turns: Arc::clone(self),
            ticket,
            called,
        };
        // Nobody but this takes it out of the line without calling it.
        let _ = (&mut turn.called).await;
        turn
    }

    fn lock(&self) -> MutexGuard<'_, Line<oneshot::Sender<()>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call_next(line: &mut Line<oneshot::Sender<()>>) {
    while let Some((call, _)) = line.next(&ONE) {
        // Whoever does not wait any more has left the line before its end of the channel went.
        let _ = call.send(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.lock();
        if line.leave(&self.ticket).is_none() {
            // It was called.
            line.finish(Some(&self.ticket.whose));
        }
        call_next(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asking = Pin<Box<dyn Future<Output = Turn>>>;

    /// Somebody of this tenant asks for a turn, and perhaps has it at once.
    fn ask(turns: &Arc<Turns>, tenant: &str) -> (Asking, Option<Turn>) {
        let (turns, party) = (Arc::clone(turns), Party::of(Some(tenant), "words"));
        let mut asking: Asking = Box::pin(async move { turns.turn(&party).await });
        let turn = look(&mut asking);
        (asking, turn)
    }

    fn look(asking: &mut Asking) -> Option<Turn> {
        match asking
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// The one that is called among those who wait, of whom there is one at most.
    fn called<'n>(waiting: &mut VecDeque<(&'n str, Asking)>) -> Option<(&'n str, Turn)> {
        let mut called = Vec::new();
        waiting.retain_mut(|(name, asking)| match look(asking) {
            Some(turn) => {
                called.push((*name, turn));
                false
            }
            None => true,
        });
        assert!(called.len() <= 1, "{called:?}");
        called.pop()
    }

    #[test]
    fn whoever_comes_waits_for_one_of_each_other_at_most() {
        let turns = Arc::new(Turns::default());
        let (_, writes) = ask(&turns, "busy");
        let mut writes = writes.expect("nobody else does");
        let mut waiting = VecDeque::new();
        for name in ["busy", "busy", "busy", "a", "busy", "z", "z"] {
            let (asking, turn) = ask(&turns, name);
            assert!(turn.is_none(), "{name} writes beside another");
            waiting.push_back((name, asking));
        }
        let mut order = Vec::new();
        loop {
            drop(writes);
            let Some((name, turn)) = called(&mut waiting) else {
                break;
            };
            order.push(name);
            writes = turn;
            // It never leaves a moment free.
            if name == "busy" && order.len() < 8 {
                let (asking, turn) = ask(&turns, name);
                assert!(turn.is_none());
                waiting.push_back((name, asking));
            }
        }
        assert_eq!(order[..5], ["a", "z", "busy", "z", "busy"]);
        assert!(order[5..].iter().all(|name| *name == "busy"), "{order:?}");
        assert!(ask(&turns, "a").1.is_some(), "nobody writes");
    }

    /// Again and again, as soon as it was its turn: in between, there is one of the other.
    #[test]
    fn two_who_never_stop_take_turns() {
        let turns = Arc::new(Turns::default());
        let (_, writes) = ask(&turns, "busy");
        let mut writes = writes.expect("nobody else does");
        let mut waiting = VecDeque::new();
        for name in ["busy", "busy", "small"] {
            waiting.push_back((name, ask(&turns, name).0));
        }
        for expected in ["small", "busy"].repeat(10) {
            drop(writes);
            let (name, turn) = called(&mut waiting).expect("somebody waits");
            assert_eq!(name, expected);
            waiting.push_back((name, ask(&turns, name).0));
            writes = turn;
        }
    }

    #[test]
    fn whoever_gives_up_is_passed_over() {
        let turns = Arc::new(Turns::default());
        let (_, writes) = ask(&turns, "a");
        let (second, none) = ask(&turns, "b");
        let (third, _) = ask(&turns, "b");
        assert!(none.is_none());
        drop(second);
        let (mut last, _) = ask(&turns, "c");
        drop(writes);
        // It was called, and never heard of it.
        drop(third);
        assert!(look(&mut last).is_some());
        assert!(ask(&turns, "a").1.is_some());
    }
}

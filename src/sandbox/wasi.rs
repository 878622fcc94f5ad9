//! What the functions of wasmtime-wasi work on: standard streams, environment, clocks, random numbers
//! and sockets. A guest that only computes calls none of them, so it is made when the first one is
//! called, or when something of it is granted.

use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::capture::Capture;
use crate::limits::Limits;

/// The most random bytes that a guest gets in one call. Making them takes the host under 1 ms.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// See the module.
pub(super) struct Wasi {
    stdout_bytes: u64,
    stderr_bytes: u64,
    made: Option<Box<Made>>,
}

struct Made {
    context: WasiCtx,
    stdout: Capture,
    stderr: Capture,
}

/// What a guest wrote to one stream, as text, and how many bytes were dropped.
pub(super) type Written = (String, u64);

impl Wasi {
    /// Nothing granted: no variable, no socket, and a closed standard input.
    pub fn new(limits: &Limits) -> Self {
        Wasi {
            stdout_bytes: limits.stdout_bytes,
            stderr_bytes: limits.stderr_bytes,
            made: None,
        }
    }

    /// Makes it now, with what is granted.
    pub fn grant(&mut self, granted: impl FnOnce(&mut WasiCtxBuilder)) {
        self.made = Some(Made::new(self.stdout_bytes, self.stderr_bytes, granted));
    }

    /// What there is to work on.
    pub fn context(&mut self) -> &mut WasiCtx {
        let made = self
            .made
            .get_or_insert_with(|| Made::new(self.stdout_bytes, self.stderr_bytes, |_| {}));
        &mut made.context
    }

    /// What the guest wrote to standard output and to standard error.
    pub fn written(&self) -> (Written, Written) {
        match &self.made {
            Some(made) => (made.stdout.take(), made.stderr.take()),
            None => <(Written, Written)>::default(),
        }
    }
}

impl Made {
    fn new(
        stdout_bytes: u64,
        stderr_bytes: u64,
        granted: impl FnOnce(&mut WasiCtxBuilder),
    ) -> Box<Self> {
        let (stdout, stderr) = (Capture::new(stdout_bytes), Capture::new(stderr_bytes));
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false);
        granted(&mut wasi);
        Box::new(Made {
            context: wasi.build(),
            stdout,
            stderr,
        })
    }
}

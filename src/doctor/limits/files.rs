//! Limits on what a guest does in directories. Each run has a scratch directory of its own, so that
//! none finds what another has made.

use super::counted::{Climb, count};
use crate::doctor::check::{Figures, Finding};
use crate::doctor::ground::{Ground, Trouble};
use crate::doctor::guests::{self, times};
use crate::doctor::handmade::Handmade;
use crate::grant::Grants;
use crate::limits::{Limit, LimitOverrides};

/// Does this as often as the number says, in the directory `$directory`. A call whose outcome, which
/// goes to the address 64, is an error ends the guest.
fn in_scratch(before: &str, code: &str) -> Handmade {
    let check = "(if (i32.load8_u (i32.const 64)) (then unreachable))";
    Handmade {
        fields: r#"(global $directory (mut i32) (i32.const 0))
            (global $file (mut i32) (i32.const 0))
            (data (i32.const 128) "a.txt") (data (i32.const 136) ".")
            (data (i32.const 144) "aaaa")"#
            .into(),
        execute: times(&format!(
            "(if (i32.eq (local.get $n) (i32.const 1)) (then
                (call $directories (i32.const 64))
                (global.set $directory (i32.load (i32.load (i32.const 64))))
                {before}))
            {code} {check}"
        )),
        ..guests::files()
    }
}

fn climb(guest: Handmade, limits: LimitOverrides, limit: Limit, allowed: u64) -> Climb {
    Climb {
        guest,
        grants: Grants::default().scratch(),
        limits,
        limit,
        allowed,
        numbers: 5..=10_000,
    }
}

pub async fn open(ground: &Ground) -> Result<Finding, Trouble> {
    let guest = in_scratch(
        "",
        "(call $open (global.get $directory) (i32.const 0) (i32.const 136) (i32.const 1)
            (i32.const 2) (i32.const 1) (i32.const 64))",
    );
    let limits = LimitOverrides {
        open_files: Some(20),
        handles: Some(10_000),
        ..Default::default()
    };
    // The directory itself is open, too.
    climb(guest, limits, Limit::OpenFiles, 20)
        .by(ground, |number| number + 1, count)
        .await
}

/// Symlinks, each under a name of four letters that counts.
pub async fn created(ground: &Ground) -> Result<Finding, Trouble> {
    let letter = |place: u32| {
        format!(
            "(i32.store8 offset={} (i32.const 144) (i32.add (i32.const 97)
                (i32.and (i32.shr_u (local.get $n) (i32.const {})) (i32.const 15))))",
            place,
            4 * place
        )
    };
    let name: String = (0..4).map(letter).collect();
    let guest = in_scratch(
        "",
        &format!(
            "{name}
            (call $symlink (global.get $directory) (i32.const 128) (i32.const 5)
                (i32.const 144) (i32.const 4) (i32.const 64))"
        ),
    );
    let limits = LimitOverrides {
        created_files: Some(20),
        ..Default::default()
    };
    climb(guest, limits, Limit::CreatedFiles, 20)
        .by(ground, |number| number, count)
        .await
}

/// A file that grows by 100 bytes at a time.
pub async fn written(ground: &Ground) -> Result<Finding, Trouble> {
    const PIECE: u64 = 100;
    const ALLOWED: u64 = 10_000;
    let guest = in_scratch(
        "(call $open (global.get $directory) (i32.const 0) (i32.const 128) (i32.const 5)
            (i32.const 1) (i32.const 2) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (global.set $file (i32.load (i32.const 68)))",
        &format!(
            "(call $put (global.get $file) (i32.const 65536) (i32.const {PIECE})
                (i64.mul (i64.extend_i32_u (local.get $n)) (i64.const {PIECE}))
                (i32.const 64))"
        ),
    );
    let limits = LimitOverrides {
        write_bytes: Some(ALLOWED),
        ..Default::default()
    };
    // The first piece has a gap before it, which counts.
    climb(guest, limits, Limit::WriteBytes, ALLOWED)
        .by(ground, |number| (number + 1) * PIECE, Figures::exact_bytes)
        .await
}

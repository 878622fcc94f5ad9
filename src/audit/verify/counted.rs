//! A chain whose head does not say how far it goes.

use std::io::BufReader;

use super::super::chain::Found;
use super::super::finding::{ChainReport, Finding, Findings};
use super::super::folder::{AuditError, Folder, Open, failed, parse_segment};
use super::super::line::{hex, next_line};
use super::super::tail::read_tail;
use super::Looked;

/// Counts the lines of a chain of whose head something is found, which cannot be verified without it. How much of its
/// tail counts stands in the head as well: counted is what follows the last line, one after the other.
pub(super) fn counted(
    folder: &Folder,
    number: u32,
    live: bool,
    mut finding: Finding,
) -> Result<Looked, AuditError> {
    let (mut files, mut kept, mut last) = (0, 0_u64, None);
    for name in folder.names()? {
        if parse_segment(&name).is_none_or(|(chain, _)| chain != number) {
            continue;
        }
        let path = folder.path().join(&name);
        let Ok(file) = folder.open(&path, Open::Read) else {
            continue;
        };
        files += 1;
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        while next_line(&mut reader, &mut line).map_err(failed("read", &path))? > 0 {
            if let Some(found) = line.strip_suffix(b"\n").and_then(Found::parse) {
                kept += 1;
                last = Some(found);
            }
            line.clear();
        }
    }
    let Some(last) = last else {
        return Ok((None, only(finding)));
    };
    let mut at = last.position();
    let tail = read_tail(folder, number)?.unwrap_or_default();
    // Some of it may stand in the last file already.
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        if let Some(next) = at.behind(line) {
            kept += 1;
            at = next;
        }
    }
    let lines = match kept {
        1 => "the line of its chain was".to_owned(),
        _ => format!("the {kept} lines of its chain were"),
    };
    finding.message = format!("{}: {lines} counted, and not verified", finding.message);
    let report = ChainReport {
        chain: number,
        verified: false,
        entries: at.entries,
        kept,
        hash: String::from_utf8_lossy(&hex(&at.hash)).into_owned(),
        files,
        live,
    };
    Ok((Some(report), only(finding)))
}

fn only(finding: Finding) -> Findings {
    let mut findings = Findings::default();
    findings.push(finding);
    findings
}

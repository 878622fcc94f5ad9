//! The audit: whatever is done to it shows.

use std::path::Path;
use std::sync::Arc;

use super::check::{Finding, Kind};
use super::ground::{Ground, Probe, Trouble, at};
use super::handmade::{Handmade, TOOL};
use crate::audit::{Audit, AuditSettings, Audited, verify};
use crate::execution::{BoxFuture, Control, Execute, ExecutionRequest};

pub(super) const PROBES: &[Probe] = &[
    probe("audit", "changing a line", |ground| {
        Box::pin(damaged(ground, "audit-line", |text| {
            // Whatever was done was free of charge.
            text.replacen("\"fuel\":", "\"fuel\":0", 1)
        }))
    }),
    probe("audit", "taking a line out", |ground| {
        Box::pin(damaged(ground, "audit-gap", |text| {
            let lines = text.split_inclusive('\n').enumerate();
            lines
                .filter(|(at, _)| *at != 1)
                .map(|(_, line)| line)
                .collect()
        }))
    }),
    probe("audit", "cutting the end off", |ground| {
        Box::pin(damaged(ground, "audit-tail", |text| {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            lines[..lines.len().saturating_sub(1)].concat()
        }))
    }),
];

const fn probe(
    name: &'static str,
    tried: &'static str,
    probe: for<'g> fn(&'g Ground) -> BoxFuture<'g, Result<Finding, Trouble>>,
) -> Probe {
    Probe {
        kind: Kind::Guard,
        name,
        tried,
        probe,
    }
}

/// Writes an audit, changes its file, and looks whether that is found.
async fn damaged(
    ground: &Ground,
    name: &str,
    change: fn(&str) -> String,
) -> Result<Finding, Trouble> {
    let folder = ground.folder(name)?.join("audit");
    write(ground, &folder).await?;
    let found = |folder: &Path| verify(folder).map_err(|error| Trouble::Text(error.to_string()));
    if let Some(first) = found(&folder)?.findings.first() {
        return Ok(Finding::unknown(format!(
            "before anything was done: {first}"
        )));
    }
    let file = folder.join("0001-000001.jsonl");
    let text = std::fs::read_to_string(&file).map_err(at(&file))?;
    let changed = change(&text);
    if changed == text {
        return Ok(Finding::unknown("nothing could be changed"));
    }
    std::fs::write(&file, changed).map_err(at(&file))?;
    let verification = found(&folder)?;
    Ok(
        match verification
            .findings
            .iter()
            .find(|finding| finding.kind.is_damage())
        {
            Some(finding) => Finding::holds(format!("told: {}", finding.kind.as_str())),
            None => Finding::broken("it is not found when the audit is verified"),
        },
    )
}

async fn write(ground: &Ground, folder: &Path) -> Result<(), Trouble> {
    let audit = Audit::open(folder, AuditSettings::default())
        .map_err(|error| Trouble::Text(error.to_string()))?;
    let skill = ground.load(&Handmade::default()).await?;
    let audited = Audited::new(Arc::new(ground.host.clone()), Arc::new(audit));
    for _ in 0..3 {
        let request = ExecutionRequest::new(skill.digest(), serde_json::json!({})).tool(TOOL);
        audited.execute(request, Control::default()).await?;
    }
    Ok(())
}

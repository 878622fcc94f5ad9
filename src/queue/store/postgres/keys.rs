//! Idempotency keys.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::{KeyRow, Result};
use super::pieces::pieces;
use super::rows::limit;
use super::transaction::{Value, Writing};
use crate::queue::error::QueueError;
use crate::queue::time::Micros;

/// How often a key is asked for that others give back and take meanwhile.
const KEY_ROUNDS: usize = 20;

impl Writing<'_> {
    /// A key that somebody holds is left alone: neither who holds it nor others who ask wait for
    /// this transaction to end. The keys come in one order everywhere.
    pub(super) async fn take_keys_now(
        &mut self,
        keys: &[KeyRow],
        now: Micros,
    ) -> Result<Vec<Option<Uuid>>> {
        let mut answers = Vec::with_capacity(keys.len());
        for piece in pieces(keys, |key| key.tenant.len() + key.key.len()) {
            answers.extend(self.take_piece(piece, now).await?);
        }
        Ok(answers)
    }

    async fn take_piece(&mut self, keys: &[KeyRow], now: Micros) -> Result<Vec<Option<Uuid>>> {
        self.wrote = true;
        let mut answers: Vec<Option<Option<Uuid>>> = vec![None; keys.len()];
        for _ in 0..KEY_ROUNDS {
            let open: Vec<usize> = (0..keys.len())
                .filter(|&at| answers[at].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            let places: Vec<i64> = open.iter().map(|&at| limit(at)).collect();
            let tenants: Vec<&str> = open.iter().map(|&at| keys[at].tenant.as_str()).collect();
            let names: Vec<&str> = open.iter().map(|&at| keys[at].key.as_str()).collect();
            let jobs: Vec<Uuid> = open.iter().map(|&at| keys[at].job).collect();
            let until: Vec<Option<i64>> = open.iter().map(|&at| keys[at].until).collect();
            let taken = self
                .query(
                    "INSERT INTO keys (tenant, \"key\", job, until) \
                     SELECT tenant, \"key\", job, until \
                     FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) \
                     AS new (tenant, \"key\", job, until) \
                     WHERE NOT EXISTS (SELECT FROM keys WHERE keys.tenant = new.tenant \
                     AND keys.\"key\" = new.\"key\" AND (keys.until IS NULL OR keys.until > $5)) \
                     ORDER BY new.tenant COLLATE \"C\", new.\"key\" COLLATE \"C\" \
                     ON CONFLICT (tenant, \"key\") DO UPDATE \
                     SET job = excluded.job, until = excluded.until WHERE keys.until <= $5 \
                     RETURNING job",
                    &[&tenants, &names, &jobs, &until, &now],
                )
                .await?;
            let mut ours: HashMap<Uuid, ()> = HashMap::with_capacity(taken.len());
            for row in &taken {
                ours.insert(self.get(row, 0)?, ());
            }
            for &at in &open {
                if ours.contains_key(&keys[at].job) {
                    answers[at] = Some(None);
                }
            }
            if ours.len() == open.len() {
                break;
            }
            let held = self
                .query(
                    "SELECT place, job FROM keys \
                     JOIN unnest($1::text[], $2::text[], $3::bigint[]) \
                     AS asked (tenant, \"key\", place) \
                     ON keys.tenant = asked.tenant AND keys.\"key\" = asked.\"key\"",
                    &[&tenants, &names, &places],
                )
                .await?;
            for row in &held {
                let place: i64 = self.get(row, 0)?;
                let answer = usize::try_from(place)
                    .ok()
                    .and_then(|place| answers.get_mut(place));
                if let Some(answer @ None) = answer {
                    *answer = Some(Some(row.try_get(1)?));
                }
            }
        }
        answers
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                QueueError::Unavailable(
                    "an idempotency key is taken and given back all the time".to_owned(),
                )
            })
    }

    pub(super) async fn release_keys_now(&mut self, jobs: &[Uuid]) -> Result<()> {
        let with: Vec<Value> = vec![Box::new(jobs.to_vec())];
        self.send(
            "DELETE FROM keys WHERE (tenant, \"key\") IN (SELECT tenant, \"key\" FROM keys \
             WHERE job = ANY($1::uuid[]) AND until IS NULL ORDER BY tenant, \"key\" FOR UPDATE)",
            with,
        )
        .await
    }
}

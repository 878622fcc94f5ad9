//! What is done to keys and values. What an owner has is counted in the same transaction.

use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::database::time_left;
use super::{MAX_BATCH_KEYS, Owner, Page, Place, Storage, StorageError, Version, check_key};
use crate::limits::Limit;

/// The most keys of one page, and the most bytes.
const PAGE_KEYS: usize = 1_000;
const PAGE_BYTES: usize = 64 << 10;
/// After how many keys of one call the time is looked at.
const KEYS_AT_A_TIME: usize = 16;

type Result<T> = std::result::Result<T, StorageError>;

impl Storage {
    /// The values of these keys, of the same moment.
    pub fn get(&self, owner: &Owner, places: &[Place]) -> Result<Vec<Option<Vec<u8>>>> {
        check_count(places.len())?;
        self.read(owner, |transaction| {
            let Some(Counted { id, .. }) = counted(transaction, owner)? else {
                return Ok(vec![None; places.len()]);
            };
            let mut bytes: u64 = 0;
            let mut values = Vec::with_capacity(places.len());
            for (index, Place { bucket, key }) in places.iter().enumerate() {
                check_time(owner, index)?;
                let mut statement = transaction.prepare_cached(
                    "SELECT length(value), value FROM entry
                     WHERE owner = ?1 AND bucket = ?2 AND key = ?3",
                )?;
                let mut rows = statement.query(params![id, bucket, key])?;
                values.push(match rows.next()? {
                    None => None,
                    Some(row) => {
                        // Looked at before it is copied.
                        bytes = bytes.saturating_add(unsigned(row.get(0)?));
                        if bytes > owner.quota.read_bytes {
                            return Err(StorageError::Quota {
                                limit: Limit::HostBytes,
                                allowed: owner.quota.read_bytes,
                                asked: bytes,
                            });
                        }
                        Some(row.get(1)?)
                    }
                });
            }
            Ok(values)
        })
    }

    /// Gives keys their values, all of them or none.
    pub fn set(&self, owner: &Owner, values: &[(Place, Vec<u8>)]) -> Result<()> {
        check_count(values.len())?;
        self.write(owner, |transaction| {
            let mut counted = owner_of(transaction, owner)?;
            for (index, (place, value)) in values.iter().enumerate() {
                check_time(owner, index)?;
                counted.put(transaction, owner, place, value)?;
            }
            counted.save(transaction)
        })
    }

    /// Takes keys away, as far as they are there.
    pub fn delete(&self, owner: &Owner, places: &[Place]) -> Result<()> {
        check_count(places.len())?;
        self.write(owner, |transaction| {
            let Some(mut counted) = counted(transaction, owner)? else {
                return Ok(());
            };
            for (index, place) in places.iter().enumerate() {
                check_time(owner, index)?;
                if let Some(found) = counted.find(transaction, place)? {
                    counted.keys = counted.keys.saturating_sub(1);
                    counted.bytes = counted.bytes.saturating_sub(found.bytes);
                    transaction
                        .prepare_cached("DELETE FROM entry WHERE id = ?1")?
                        .execute([found.id])?;
                }
            }
            counted.save(transaction)
        })
    }

    /// A page of the keys of a bucket, in their order: those behind a key, which need not be there any more, or
    /// all, behind an empty one. A key that is there from the first page to the last comes once, whatever becomes
    /// of others meanwhile.
    pub fn page(&self, owner: &Owner, bucket: &str, after: &str) -> Result<Page> {
        self.read(owner, |transaction| {
            let Some(Counted { id, .. }) = counted(transaction, owner)? else {
                return Ok(Page::default());
            };
            let mut statement = transaction.prepare_cached(
                "SELECT key FROM entry
                 WHERE owner = ?1 AND bucket = ?2 AND key > ?3 ORDER BY key",
            )?;
            let mut rows = statement.query(params![id, bucket, after])?;
            let (mut page, mut bytes) = (Page::default(), 0);
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                bytes += key.len();
                if page.keys.len() >= PAGE_KEYS || (bytes > PAGE_BYTES && !page.keys.is_empty()) {
                    page.next = page.keys.last().cloned();
                    break;
                }
                page.keys.push(key);
            }
            Ok(page)
        })
    }

    /// What tells the state of a key from every other.
    pub fn version(&self, owner: &Owner, place: &Place) -> Result<Version> {
        self.read(owner, |transaction| {
            let Some(counted) = counted(transaction, owner)? else {
                return Ok(None);
            };
            Ok(counted.find(transaction, place)?.map(|found| found.version))
        })
    }

    /// Adds to a number, and gives the sum. Numbers are kept as decimal text; what is not there is 0.
    pub fn add(
        &self,
        owner: &Owner,
        place: &Place,
        delta: i128,
        range: RangeInclusive<i128>,
    ) -> Result<i128> {
        self.write(owner, |transaction| {
            let mut counted = owner_of(transaction, owner)?;
            let found: Option<Vec<u8>> = transaction
                .prepare_cached(
                    "SELECT value FROM entry
                     WHERE owner = ?1 AND bucket = ?2 AND key = ?3 AND length(value) <= 64",
                )?
                .query_row(params![counted.id, place.bucket, place.key], |row| {
                    row.get(0)
                })
                .optional()?;
            let before = match found {
                Some(value) => number(&value).ok_or(StorageError::NotANumber)?,
                None if counted.find(transaction, place)?.is_some() => {
                    return Err(StorageError::NotANumber);
                }
                None => 0,
            };
            let sum = before.checked_add(delta).ok_or(StorageError::Overflow)?;
            if !range.contains(&sum) {
                return Err(StorageError::Overflow);
            }
            counted.put(transaction, owner, place, sum.to_string().as_bytes())?;
            counted.save(transaction)?;
            Ok(sum)
        })
    }

    /// Gives a key another value, unless it is in another state than this. The state that it is in is
    /// the inner error.
    pub fn swap(
        &self,
        owner: &Owner,
        place: &Place,
        version: Version,
        value: &[u8],
    ) -> Result<std::result::Result<(), Version>> {
        self.write(owner, |transaction| {
            let mut counted = owner_of(transaction, owner)?;
            let found = counted.find(transaction, place)?.map(|found| found.version);
            if found != version {
                return Ok(Err(found));
            }
            counted.put(transaction, owner, place, value)?;
            counted.save(transaction)?;
            Ok(Ok(()))
        })
    }
}

/// A call that names more than it may does nothing.
fn check_count(keys: usize) -> Result<()> {
    match keys <= MAX_BATCH_KEYS {
        true => Ok(()),
        false => Err(StorageError::TooManyKeys(keys)),
    }
}

/// A call whose execution has no more time does nothing, and holds up nobody any more.
fn check_time(owner: &Owner, index: usize) -> Result<()> {
    if index.is_multiple_of(KEYS_AT_A_TIME) {
        time_left(owner)?;
    }
    Ok(())
}

/// What an owner has.
struct Counted {
    id: i64,
    keys: u64,
    bytes: u64,
    version: i64,
}

/// A key that is there.
struct Found {
    id: i64,
    version: i64,
    /// Of key and value.
    bytes: u64,
}

impl Counted {
    fn find(&self, transaction: &Transaction<'_>, place: &Place) -> Result<Option<Found>> {
        let found = transaction
            .prepare_cached(
                "SELECT id, version, length(value) FROM entry
                 WHERE owner = ?1 AND bucket = ?2 AND key = ?3",
            )?
            .query_row(params![self.id, place.bucket, place.key], |row| {
                Ok(Found {
                    id: row.get(0)?,
                    version: row.get(1)?,
                    bytes: unsigned(row.get(2)?) + place.key.len() as u64,
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Gives a key a value, within the quota.
    fn put(
        &mut self,
        transaction: &Transaction<'_>,
        owner: &Owner,
        place: &Place,
        value: &[u8],
    ) -> Result<()> {
        check_key(&place.key)?;
        let quota = owner.quota;
        let over = |limit, allowed, asked| {
            Err(StorageError::Quota {
                limit,
                allowed,
                asked,
            })
        };
        let length = value.len() as u64;
        if length > quota.value_bytes {
            return over(Limit::StorageValueBytes, quota.value_bytes, length);
        }
        let found = self.find(transaction, place)?;
        let before = found.as_ref().map_or(0, |found| found.bytes);
        let after = place.key.len() as u64 + length;
        let keys = self.keys + u64::from(found.is_none());
        let bytes = self.bytes.saturating_sub(before).saturating_add(after);
        // Who is over it, as it was lowered, may still make things smaller.
        if keys > quota.keys && keys > self.keys {
            return over(Limit::StorageKeys, quota.keys, keys);
        }
        if bytes > quota.bytes && bytes > self.bytes {
            return over(Limit::StorageBytes, quota.bytes, bytes);
        }
        (self.keys, self.bytes) = (keys, bytes);
        self.version += 1;
        match found {
            Some(Found { id, .. }) => transaction
                .prepare_cached("UPDATE entry SET value = ?1, version = ?2 WHERE id = ?3")?
                .execute(params![value, self.version, id])?,
            None => transaction
                .prepare_cached(
                    "INSERT INTO entry (owner, bucket, key, version, value)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    self.id,
                    place.bucket,
                    place.key,
                    self.version,
                    value
                ])?,
        };
        Ok(())
    }

    fn save(&self, transaction: &Transaction<'_>) -> Result<()> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        transaction
            .prepare_cached("UPDATE owner SET keys = ?1, bytes = ?2, version = ?3 WHERE id = ?4")?
            .execute(params![
                signed(self.keys),
                signed(self.bytes),
                self.version,
                self.id
            ])?;
        Ok(())
    }
}

/// What an owner has, where it has kept something before.
fn counted(transaction: &Transaction<'_>, owner: &Owner) -> Result<Option<Counted>> {
    let found = transaction
        .prepare_cached(
            "SELECT id, keys, bytes, version FROM owner WHERE skill = ?1 AND tenant = ?2",
        )?
        .query_row(params![owner.skill, tenant(owner)], |row| {
            Ok(Counted {
                id: row.get(0)?,
                keys: unsigned(row.get(1)?),
                bytes: unsigned(row.get(2)?),
                version: row.get(3)?,
            })
        })
        .optional()?;
    Ok(found)
}

/// What an owner has.
fn owner_of(transaction: &Transaction<'_>, owner: &Owner) -> Result<Counted> {
    if let Some(counted) = counted(transaction, owner)? {
        return Ok(counted);
    }
    transaction
        .prepare_cached("INSERT INTO owner (skill, tenant) VALUES (?1, ?2)")?
        .execute(params![owner.skill, tenant(owner)])?;
    Ok(Counted {
        id: transaction.last_insert_rowid(),
        keys: 0,
        bytes: 0,
        version: 0,
    })
}

/// As it is written: no tenant is not one without a name.
fn tenant(owner: &Owner) -> String {
    match &owner.tenant {
        Some(tenant) => format!("={tenant}"),
        None => String::new(),
    }
}

/// A count or a length, which is never below 0.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn number(value: &[u8]) -> Option<i128> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;

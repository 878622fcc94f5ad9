//! In a build without the feature `storage`, nothing is ever kept.

use std::convert::Infallible;

use super::{Owner, Page, Place, StorageError, Version};
use crate::turns::Party;

/// There is none of these.
pub(crate) struct Storage(Infallible);

/// Nor of these.
pub(crate) struct Turn(Infallible);

impl Storage {
    pub fn path(&self) -> &std::path::Path {
        match self.0 {}
    }

    pub fn close(&self) {
        match self.0 {}
    }

    pub async fn turn(&self, _: &Party) -> Turn {
        match self.0 {}
    }

    pub fn get(&self, _: &Owner, _: &[Place]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        match self.0 {}
    }

    pub fn set(&self, _: &Owner, _: &[(Place, Vec<u8>)]) -> Result<(), StorageError> {
        match self.0 {}
    }

    pub fn delete(&self, _: &Owner, _: &[Place]) -> Result<(), StorageError> {
        match self.0 {}
    }

    pub fn page(&self, _: &Owner, _: &str, _: &str) -> Result<Page, StorageError> {
        match self.0 {}
    }

    pub fn version(&self, _: &Owner, _: &Place) -> Result<Version, StorageError> {
        match self.0 {}
    }

    pub fn add(
        &self,
        _: &Owner,
        _: &Place,
        _: i128,
        _: std::ops::RangeInclusive<i128>,
    ) -> Result<i128, StorageError> {
        match self.0 {}
    }

    pub fn swap(
        &self,
        _: &Owner,
        _: &Place,
        _: Version,
        _: &[u8],
    ) -> Result<Result<(), Version>, StorageError> {
        match self.0 {}
    }
}

//! What a skill is before it runs: its package, its digest, what it says of itself, and the
//! library of installed ones. No guest code runs here.

mod description;
mod digest;
mod document;
mod library;
mod manifest;
mod package;
mod replace;
mod schema;

pub use description::{Annotations, Description, DescriptionError, Tool};
pub use digest::{Digest, ParseDigestError, ParseSkillRefError, SkillRef};
pub use document::{Document, DocumentError};
pub use library::{Installed, Library, LibraryError};
pub use manifest::{Manifest, ManifestError};
pub use package::{Package, PackageError};
pub use schema::{Mismatch, Schema, SchemaError};

pub(crate) use description::ToolSchemas;
pub(crate) use digest::is_name;
pub(crate) use schema::{MAX_DEPTH, depth};

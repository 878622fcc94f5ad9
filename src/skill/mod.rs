//! What a skill is before it runs: its package, its digest, what it says of itself, and the
//! library of installed ones. No guest code runs here.

mod description;
mod digest;
mod document;
mod files;
mod library;
mod manifest;
mod package;
mod packages;
mod replace;
mod schema;

pub use description::{Annotations, Description, DescriptionError, Tool};
pub use digest::{Digest, ParseDigestError, ParseSkillRefError, SkillRef};
pub use document::{Document, DocumentError};
pub use files::{MAX_FILES, MAX_FILES_BYTES, SkillFile, SkillFiles};
pub use library::{Installed, Library, LibraryError};
pub use manifest::{Manifest, ManifestError};
pub use package::{Package, PackageError};
pub use packages::Packages;
pub(crate) use schema::Keys;
pub use schema::{Mismatch, Schema, SchemaError};

pub(crate) use description::{ToolSchemas, is_tool_name};
pub(crate) use digest::{NAME_RULE, is_name};
pub(crate) use library::{FEWEST_DIGITS, Look};
pub(crate) use schema::{MAX_DEPTH, STACK as CHECKING_STACK, depth};

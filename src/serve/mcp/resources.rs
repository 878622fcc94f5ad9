//! What can be read: `SKILL.md` and its files, by the protocol's skills extension or as resources,
//! and the outputs that are kept.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::ErrorData;
use rmcp::model::{
    DIRECTORY_MIME_TYPE, Resource, ResourceContents, Skill, SkillFrontmatter, SkillResource,
    SkillResources,
};
use serde_json::json;

use super::catalog::{Catalog, Offered};
use super::kept::Owner;
use super::{Inner, content};
use crate::skill::{Document, SkillFile, SkillFiles};
use crate::text::{printable, shortened};

/// How the address of a skill's file begins.
const SCHEME: &str = "skill://";
/// The longest description that is shown, in bytes.
const MAX_DESCRIPTION: usize = 1_024;

/// The address of a skill's folder, without a `/` at its end. Of several versions of one, the highest
/// has the plain address.
fn root(catalog: &Catalog, skill: &Offered) -> String {
    let first = catalog
        .skills
        .iter()
        .find(|other| other.identity.name == skill.identity.name);
    match first {
        Some(first) if first.identity != skill.identity => {
            format!("{SCHEME}{}/{}", skill.identity.version, skill.identity.name)
        }
        _ => format!("{SCHEME}{}", skill.identity.name),
    }
}

/// A skill whose folder has an address in which another address is.
fn holder<'c>(catalog: &'c Catalog, uri: &str) -> Option<(&'c Arc<Offered>, String, String)> {
    catalog.skills.iter().find_map(|skill| {
        let root = root(catalog, skill);
        let rest = uri.strip_prefix(&root)?;
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        Some((skill, root.clone(), decoded(rest)?))
    })
}

fn files(skill: &Offered) -> Option<(SkillFiles, Vec<SkillFile>)> {
    let files = SkillFiles::open(skill.folder.as_deref()?).ok()?;
    let list = files.list().ok()?;
    Some((files, list))
}

/// Every file of every skill, and the outputs that are kept.
pub(super) fn list(server: &Inner, catalog: &Catalog, owner: &Owner) -> Vec<Resource> {
    let mut all = Vec::new();
    for skill in &catalog.skills {
        let Some((_, list)) = files(skill) else {
            continue;
        };
        let root = root(catalog, skill);
        for file in list {
            let mut resource = resource(&root, &file);
            if file.path == "SKILL.md" {
                let text = printable(&skill.description.description, true);
                resource = resource
                    .with_title(skill.identity.name.clone())
                    .with_description(shortened(&text, MAX_DESCRIPTION));
            }
            all.push(resource);
        }
    }
    all.sort_by(|a, b| a.uri.cmp(&b.uri));
    let kept = server.kept.list(owner);
    all.extend(kept.into_iter().map(|(uri, part)| {
        Resource::new(uri, part.name)
            .with_mime_type(part.media_type)
            .with_size(part.data.len() as u64)
    }));
    all
}

fn resource(root: &str, file: &SkillFile) -> Resource {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    Resource::new(
        format!("{root}/{}", encoded(&file.path)),
        printable(name, false),
    )
    .with_mime_type(media_type(&file.path))
    .with_size(file.bytes)
}

/// The contents at an address.
///
/// # Errors
/// Where nothing is there.
pub(super) fn read(
    server: &Inner,
    catalog: &Catalog,
    owner: &Owner,
    uri: &str,
) -> Result<ResourceContents, ErrorData> {
    if let Some(part) = server.kept.find(owner, uri) {
        return Ok(content::contents(uri.to_owned(), &part));
    }
    let nothing = || {
        let uri = shortened(uri, 200);
        let message = format!("there is nothing at `{}`", printable(&uri, false));
        ErrorData::resource_not_found(message, Some(json!({"uri": uri})))
    };
    let (skill, _, path) = holder(catalog, uri).ok_or_else(nothing)?;
    let (files, list) = files(skill).ok_or_else(nothing)?;
    if !list.iter().any(|file| file.path == path) {
        return Err(nothing());
    }
    let bytes = files.read(&path).map_err(|_| nothing())?;
    let contents = match std::str::from_utf8(&bytes) {
        Ok(text) if !bytes.contains(&0) => ResourceContents::text(text, uri),
        _ => ResourceContents::blob(STANDARD.encode(&bytes), uri),
    };
    Ok(contents.with_mime_type(media_type(&path)))
}

/// The skills that have a `SKILL.md`, each with its files and their digests.
pub(super) fn skills(catalog: &Catalog) -> Vec<Skill> {
    let skills = catalog.skills.iter();
    skills
        .filter_map(|skill| described(catalog, skill))
        .collect()
}

/// One skill by the address of its `SKILL.md`.
///
/// # Errors
/// Where there is none.
pub(super) fn skill(catalog: &Catalog, uri: &str) -> Result<Skill, ErrorData> {
    let found = holder(catalog, uri).filter(|(_, _, path)| path == "SKILL.md");
    found
        .and_then(|(skill, _, _)| described(catalog, skill))
        .ok_or_else(|| {
            let uri = shortened(uri, 200);
            ErrorData::invalid_params(format!("unknown skill {}", printable(&uri, false)), None)
        })
}

fn described(catalog: &Catalog, skill: &Offered) -> Option<Skill> {
    let (files, list) = files(skill)?;
    let root = root(catalog, skill);
    let mut resources = Vec::with_capacity(list.len());
    let mut front = None;
    for file in list {
        let bytes = files.read(&file.path).ok()?;
        if file.path == "SKILL.md" {
            front = std::str::from_utf8(&bytes).ok().and_then(front_matter);
        }
        let uri = format!("{root}/{}", encoded(&file.path));
        resources.push(SkillResource::from_bytes(uri, &bytes));
    }
    let uri = format!("{root}/SKILL.md");
    let skill = Skill::new(uri, front?, SkillResources::Files(resources));
    // One that the protocol has no form for must not take the others with it.
    match skill.validate() {
        Ok(()) => Some(skill),
        Err(error) => {
            tracing::warn!("a SKILL.md is passed over: {error}");
            None
        }
    }
}

fn front_matter(text: &str) -> Option<SkillFrontmatter> {
    let document: Document = text.parse().ok()?;
    let mut front = SkillFrontmatter::new(document.name, document.description);
    if let Some(license) = document.license {
        front = front.with_field("license", license);
    }
    if !document.metadata.is_empty() {
        let metadata = serde_json::to_value(&document.metadata).ok()?;
        front = front.with_field("metadata", metadata);
    }
    Some(front)
}

/// What is in a folder of a skill.
///
/// # Errors
/// Where there is no such folder.
pub(super) fn directory(catalog: &Catalog, uri: &str) -> Result<Vec<Resource>, ErrorData> {
    let none = || {
        let uri = shortened(uri, 200);
        ErrorData::invalid_params(format!("not a directory: {}", printable(&uri, false)), None)
    };
    let (skill, root, path) = holder(catalog, uri).ok_or_else(none)?;
    let (_, list) = files(skill).ok_or_else(none)?;
    let inside = match path.trim_end_matches('/') {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let mut children: Vec<Resource> = Vec::new();
    for file in list {
        let Some(rest) = file.path.strip_prefix(&inside) else {
            continue;
        };
        let child = match rest.split_once('/') {
            None => resource(&root, &file),
            Some((name, _)) => {
                let uri = format!("{root}/{}", encoded(&format!("{inside}{name}")));
                Resource::new(uri, printable(name, false)).with_mime_type(DIRECTORY_MIME_TYPE)
            }
        };
        if !children.iter().any(|other| other.uri == child.uri) {
            children.push(child);
        }
    }
    match children.is_empty() {
        true => Err(none()),
        false => Ok(children),
    }
}

/// The address of a page to go on at, made of the last item of the one before.
pub(super) fn cursor(last: &str) -> String {
    hex::encode(last)
}

/// What a cursor says.
///
/// # Errors
/// Where it is none.
pub(super) fn after(cursor: Option<String>) -> Result<Option<String>, ErrorData> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let read = hex::decode(cursor).ok();
    match read.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(last) => Ok(Some(last)),
        None => Err(ErrorData::invalid_params("the cursor is none", None)),
    }
}

/// Percent-encodes what may not stand in an address.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decoded(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            out.extend(byte);
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    String::from_utf8(out).ok()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "md" => "text/markdown",
        "txt" | "log" => "text/plain",
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "csv" => "text/csv",
        "html" => "text/html",
        "py" => "text/x-python",
        "sh" => "text/x-shellscript",
        "js" => "text/javascript",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "svg" => "image/svg+xml",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back() {
        for path in ["SKILL.md", "references/a b%ä?.md", "assets/#"] {
            let uri = encoded(path);
            assert!(uri.is_ascii() && !uri.contains([' ', '?', '#']), "{uri}");
            assert_eq!(decoded(&uri).unwrap(), path);
        }
        assert!(decoded("%").is_none() && decoded("%zz").is_none() && decoded("%ff").is_none());
        assert_eq!(after(Some(cursor("a__b"))).unwrap().unwrap(), "a__b");
        assert!(after(Some("x".into())).is_err());
    }
}

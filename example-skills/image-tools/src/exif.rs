//! What a camera wrote beside the pixels.

use std::collections::BTreeMap;

use exif::{In, Reader, Tag};

/// Longer values are blobs, not facts.
const MAX_LENGTH: usize = 200;

/// The readable entries of EXIF data, by their names.
pub fn entries(data: Vec<u8>) -> BTreeMap<String, String> {
    let Ok(exif) = Reader::new().read_raw(data) else {
        return BTreeMap::new();
    };
    exif.fields()
        .filter(|field| field.ifd_num == In::PRIMARY && is_of_use(field.tag))
        .map(|field| {
            (
                field.tag.to_string(),
                field
                    .display_value()
                    .with_unit(&exif)
                    .to_string()
                    .trim_matches('"')
                    .to_owned(),
            )
        })
        .filter(|(_, value)| value.chars().count() <= MAX_LENGTH)
        .collect()
}

fn is_of_use(tag: Tag) -> bool {
    tag.description().is_some() && tag != Tag::MakerNote
}

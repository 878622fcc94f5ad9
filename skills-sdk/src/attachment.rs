use std::fmt;

/// A named piece of binary data that travels beside the JSON.
///
/// ```
/// use skills_sdk::Attachment;
///
/// let notes = Attachment::new("notes.txt", "text/plain", "Buy milk.");
/// assert_eq!(notes.data, b"Buy milk.");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// A file name without any path, for example `thumbnail.png`.
    pub name: String,
    /// The media type (RFC 6838), for example `image/png`.
    pub media_type: String,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Attachment {
    /// Makes an attachment.
    pub fn new(
        name: impl Into<String>,
        media_type: impl Into<String>,
        data: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            name: name.into(),
            media_type: media_type.into(),
            data: data.into(),
        }
    }
}

/// Shows the number of bytes in place of the bytes.
impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("name", &self.name)
            .field("media_type", &self.media_type)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

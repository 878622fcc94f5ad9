//! Images, read with an eye on memory.

use std::io::{BufRead, BufReader, Cursor, Error, ErrorKind, Seek};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use skills_sdk::prelude::*;

/// The decoded image may have this many MiB, where the configuration does not say.
const DEFAULT_MAX_DECODED_MIB: u64 = 48;

/// An image whose header has been read.
pub struct Picture<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    pub format: ImageFormat,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The argument to blame for what is wrong in it.
    pointer: &'static str,
}

trait Stream: BufRead + Seek {}

impl<T: BufRead + Seek> Stream for T {}

impl<'a> Picture<'a> {
    /// Opens the file or else the attachment, and reads the header.
    pub fn open(path: Option<&str>, attachment: Option<&'a Attachment>) -> Result<Self, Failure> {
        let (stream, bytes, pointer): (Box<dyn Stream + 'a>, _, _) = match (path, attachment) {
            (Some(path), _) => {
                let (file, bytes) = open_file(path)?;
                (Box::new(BufReader::new(file)), bytes, "/path")
            }
            (None, Some(attachment)) => (
                Box::new(Cursor::new(&attachment.data)),
                attachment.data.len() as u64,
                "",
            ),
            (None, None) => {
                return Err(Failure::invalid_input(
                    "",
                    "no image: give `path` or an attachment",
                ));
            }
        };
        let unreadable =
            |error: &dyn std::error::Error| Failure::invalid_input(pointer, error.to_string());
        let reader = ImageReader::new(stream)
            .with_guessed_format()
            .map_err(|error| unreadable(&error))?;
        let format = reader
            .format()
            .filter(ImageFormat::reading_enabled)
            .ok_or_else(|| Failure::invalid_input(pointer, "not a PNG, JPEG, GIF or WebP image"))?;
        let decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
        Ok(Self {
            decoder: Box::new(decoder),
            format,
            bytes,
            pointer,
        })
    }

    /// Width and height in pixels, as stored.
    pub fn dimensions(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    pub fn color_type(&self) -> image::ExtendedColorType {
        self.decoder.original_color_type()
    }

    /// How the stored image must be turned to be seen upright.
    pub fn orientation(&mut self) -> Orientation {
        self.decoder
            .orientation()
            .unwrap_or(Orientation::NoTransforms)
    }

    /// The EXIF data, where there are any.
    pub fn exif(&mut self) -> Option<Vec<u8>> {
        self.decoder.exif_metadata().ok().flatten()
    }

    /// Decodes the pixels, unless there are too many of them.
    pub fn decode(mut self, ctx: &Context) -> Result<DynamicImage, Failure> {
        let max_mib = ctx
            .config_as("max_decoded_mib")?
            .unwrap_or(DEFAULT_MAX_DECODED_MIB);
        let (max, size) = (max_mib.saturating_mul(1 << 20), self.decoder.total_bytes());
        let broken =
            |error: image::ImageError| Failure::invalid_input(self.pointer, error.to_string());
        if size > max {
            let (width, height) = self.dimensions();
            let message = format!(
                "the image has {width} × {height} pixels, {} MiB when decoded; \
                 at most {max_mib} MiB (the skill's setting `max_decoded_mib`)",
                size.div_ceil(1 << 20)
            );
            return Err(Failure::invalid_input(self.pointer, message));
        }
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(max);
        self.decoder.set_limits(limits).map_err(broken)?;
        DynamicImage::from_decoder(self.decoder).map_err(broken)
    }
}

fn open_file(path: &str) -> Result<(std::fs::File, u64), Failure> {
    let open = || {
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    };
    open().map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &str, error: &Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            "no such file, or its directory is not granted (--dir)".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::invalid_input("/path", format!("cannot read `{path}`: {reason}"))
}

//! Makes thumbnails of images and reads their metadata.

mod exif;
mod picture;
mod scale;

use std::collections::BTreeMap;
use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat};
use skills_sdk::prelude::*;

use crate::picture::Picture;

/// A thumbnail is no wider and no higher than this.
const MAX_SIDE: u32 = 2048;

/// A thumbnail, which travels as an attachment.
#[derive(Serialize, JsonSchema)]
pub struct Thumbnail {
    /// The name of the attachment.
    attachment: String,
    /// The thumbnail's width in pixels.
    width: u32,
    /// The thumbnail's height in pixels.
    height: u32,
    /// The thumbnail's size in bytes.
    bytes: usize,
    /// The image's width in pixels, as stored.
    original_width: u32,
    /// The image's height in pixels, as stored.
    original_height: u32,
    /// The image's size in bytes.
    original_bytes: u64,
}

/// A format to write.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Png,
    Jpeg,
}

/// Makes a small version of an image, as an attachment.
///
/// The image (PNG, JPEG, GIF or WebP) is the file `path` or else the first attachment. The
/// thumbnail keeps the proportions, is upright, and is never larger than the image.
#[tool(title = "Make a thumbnail", read_only, idempotent, open_world = false)]
pub fn thumbnail(
    /// An image file, in a granted directory.
    path: Option<String>,
    /// The largest width, in pixels.
    #[tool(default = 256)]
    width: u32,
    /// The largest height, in pixels.
    #[tool(default = 256)]
    height: u32,
    /// The format; JPEG for a JPEG image, PNG for others by default.
    format: Option<Format>,
    /// The quality of a JPEG, from 1 to 100.
    #[tool(default = 80)]
    quality: u8,
    ctx: &Context,
) -> Result<Thumbnail, Failure> {
    for (length, pointer) in [(width, "/width"), (height, "/height")] {
        if !(1..=MAX_SIDE).contains(&length) {
            return Err(Failure::invalid_input(
                pointer,
                format!("expected 1 to {MAX_SIDE}, not {length}"),
            ));
        }
    }
    if !(1..=100).contains(&quality) {
        return Err(Failure::invalid_input(
            "/quality",
            format!("expected 1 to 100, not {quality}"),
        ));
    }

    let mut picture = Picture::open(path.as_deref(), ctx.attachments().first())?;
    let format = format.unwrap_or(if picture.format == ImageFormat::Jpeg {
        Format::Jpeg
    } else {
        Format::Png
    });
    let (original_width, original_height) = picture.dimensions();
    let original_bytes = picture.bytes;
    let orientation = picture.orientation();

    let image = scale::fit(&picture.decode(ctx)?, orientation, width, height);
    let (name, media_type, data) = encode(&image, format, quality)?;
    let bytes = data.len();
    ctx.attach(Attachment::new(name, media_type, data));
    Ok(Thumbnail {
        attachment: name.to_owned(),
        width: image.width(),
        height: image.height(),
        bytes,
        original_width,
        original_height,
        original_bytes,
    })
}

fn encode(
    image: &DynamicImage,
    format: Format,
    quality: u8,
) -> Result<(&'static str, &'static str, Vec<u8>), Failure> {
    let mut data = Cursor::new(Vec::new());
    let (name, media_type) = match format {
        Format::Png => {
            image.write_to(&mut data, ImageFormat::Png)?;
            ("thumbnail.png", "image/png")
        }
        Format::Jpeg => {
            JpegEncoder::new_with_quality(&mut data, quality)
                .encode_image(&scale::on_white(image))?;
            ("thumbnail.jpg", "image/jpeg")
        }
    };
    Ok((name, media_type, data.into_inner()))
}

/// What is known of an image without looking at its pixels.
#[derive(Serialize, JsonSchema)]
pub struct Metadata {
    /// The media type, such as `image/png`.
    media_type: &'static str,
    /// The width in pixels, as stored.
    width: u32,
    /// The height in pixels, as stored.
    height: u32,
    /// Channels and bits per channel, such as `rgb8`.
    color_type: String,
    /// The size of the file in bytes.
    bytes: u64,
    /// How a viewer turns the stored image, where it does.
    orientation: Option<String>,
    /// What the camera or editor wrote, by the names of the EXIF standard.
    exif: BTreeMap<String, String>,
}

/// Reads an image's format, dimensions, colour type, size and EXIF data.
///
/// The image (PNG, JPEG, GIF or WebP) is the file `path` or else the first attachment. Its pixels
/// are not decoded, so it may be of any size.
#[tool(
    title = "Read image metadata",
    read_only,
    idempotent,
    open_world = false
)]
pub fn metadata(
    /// An image file, in a granted directory.
    path: Option<String>,
    ctx: &Context,
) -> Result<Metadata, Failure> {
    let mut picture = Picture::open(path.as_deref(), ctx.attachments().first())?;
    let (width, height) = picture.dimensions();
    let orientation = picture.orientation();
    Ok(Metadata {
        media_type: picture.format.to_mime_type(),
        width,
        height,
        color_type: format!("{:?}", picture.color_type()).to_lowercase(),
        bytes: picture.bytes,
        orientation: (orientation != image::metadata::Orientation::NoTransforms)
            .then(|| format!("{orientation:?}").to_lowercase()),
        exif: picture.exif().map(exif::entries).unwrap_or_default(),
    })
}

skills_sdk::skill! { tools: [thumbnail, metadata] }

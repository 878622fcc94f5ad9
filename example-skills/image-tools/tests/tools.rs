//! The tools, called as a host calls them.

use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use image_tools::skill;
use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;

const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/photo.jpg");

/// A GIF's header: enough to say how large it is.
const HUGE_GIF: &[u8] = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00";

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
}

#[track_caller]
fn refused(result: Result<Value, Failure>, expected: &str, part: &str) {
    match result {
        Err(Failure::InvalidInput { pointer, message }) => {
            assert_eq!(pointer, expected);
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

fn png(width: u32, height: u32) -> Attachment {
    let image = RgbaImage::from_pixel(width, height, Rgba([200, 0, 0, 0]));
    let mut data = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgba8(image)
        .write_to(&mut data, ImageFormat::Png)
        .unwrap();
    Attachment::new("image.png", "image/png", data.into_inner())
}

#[test]
fn a_thumbnail_fits_and_keeps_the_format() {
    let ctx = TestContext::new();
    let thumbnail = skill()
        .call(
            "thumbnail",
            json!({ "path": PHOTO, "width": 120, "height": 120 }),
            &ctx,
        )
        .unwrap();
    assert_eq!(thumbnail["width"], 120);
    assert_eq!(thumbnail["height"], 80);
    assert_eq!(thumbnail["original_width"], 960);
    assert_eq!(thumbnail["original_height"], 640);

    let [attached] = &ctx.attached()[..] else {
        panic!()
    };
    assert_eq!(
        (attached.name.as_str(), attached.media_type.as_str()),
        ("thumbnail.jpg", "image/jpeg")
    );
    assert_eq!(thumbnail["bytes"], attached.data.len());
    let image = image::load_from_memory_with_format(&attached.data, ImageFormat::Jpeg).unwrap();
    assert_eq!((image.width(), image.height()), (120, 80));
}

#[test]
fn a_small_image_keeps_its_size() {
    let ctx = TestContext::new().attachment(png(20, 10));
    let thumbnail = skill().call("thumbnail", json!({}), &ctx).unwrap();
    assert_eq!(
        (&thumbnail["width"], &thumbnail["height"]),
        (&json!(20), &json!(10))
    );
    assert_eq!(thumbnail["attachment"], "thumbnail.png");
}

#[test]
fn transparency_is_white_in_a_jpeg() {
    let ctx = TestContext::new().attachment(png(8, 8));
    skill()
        .call("thumbnail", json!({ "format": "jpeg" }), &ctx)
        .unwrap();
    let image = image::load_from_memory(&ctx.attached()[0].data)
        .unwrap()
        .to_rgb8();
    assert_eq!(image.get_pixel(4, 4).0, [255; 3]);
}

#[test]
fn metadata_has_what_the_camera_wrote() {
    let metadata = call("metadata", json!({ "path": PHOTO })).unwrap();
    assert_eq!(metadata["media_type"], "image/jpeg");
    assert_eq!(
        (&metadata["width"], &metadata["height"]),
        (&json!(960), &json!(640))
    );
    assert_eq!(metadata["color_type"], "rgb8");
    assert_eq!(metadata["bytes"], std::fs::metadata(PHOTO).unwrap().len());
    assert_eq!(metadata["orientation"], Value::Null);
    assert_eq!(metadata["exif"]["ImageDescription"], "Hills in the evening");
    assert_eq!(metadata["exif"]["DateTimeOriginal"], "2025-03-01 18:20:00");
}

#[test]
fn an_absurd_image_is_refused_before_it_is_decoded() {
    let gif = Attachment::new("huge.gif", "image/gif", HUGE_GIF);
    let ctx = TestContext::new().attachment(gif);
    let metadata = skill().call("metadata", json!({}), &ctx).unwrap();
    assert_eq!(
        (&metadata["width"], &metadata["height"]),
        (&json!(65535), &json!(65535))
    );
    refused(
        skill().call("thumbnail", json!({}), &ctx),
        "",
        "65535 × 65535 pixels, 16384 MiB when decoded; at most 48 MiB",
    );
}

#[test]
fn the_configuration_bounds_the_decoded_image() {
    let ctx = TestContext::new()
        .attachment(png(600, 600))
        .config("max_decoded_mib", "1");
    refused(
        skill().call("thumbnail", json!({}), &ctx),
        "",
        "max_decoded_mib",
    );
}

#[test]
fn mistakes_are_located() {
    refused(
        call("thumbnail", json!({})),
        "",
        "give `path` or an attachment",
    );
    refused(
        call("thumbnail", json!({ "path": PHOTO, "width": 0 })),
        "/width",
        "1 to 2048",
    );
    refused(
        call("thumbnail", json!({ "path": PHOTO, "height": 5000 })),
        "/height",
        "1 to 2048",
    );
    refused(
        call("thumbnail", json!({ "path": PHOTO, "quality": 101 })),
        "/quality",
        "1 to 100",
    );
    refused(
        call("thumbnail", json!({ "path": PHOTO, "format": "bmp" })),
        "/format",
        "png",
    );
    refused(
        call("metadata", json!({ "path": "none/such.png" })),
        "/path",
        "not granted (--dir)",
    );
    refused(
        call(
            "metadata",
            json!({ "path": concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml") }),
        ),
        "/path",
        "not a PNG, JPEG",
    );
}

#[test]
fn a_broken_image_is_the_inputs_fault() {
    let mut image = png(100, 100);
    image.data.truncate(60);
    let ctx = TestContext::new().attachment(image);
    refused(skill().call("thumbnail", json!({}), &ctx), "", "");
}

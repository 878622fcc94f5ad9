//! Makes small images of large ones.

use image::metadata::Orientation;
use image::{DynamicImage, Rgba, RgbaImage, imageops};

/// Scales an image down, in its proportions, so that it fits into `width` × `height` once it is
/// upright. An image that fits already keeps its size.
pub fn fit(
    image: &DynamicImage,
    orientation: Orientation,
    width: u32,
    height: u32,
) -> DynamicImage {
    let (width, height) = if is_on_its_side(orientation) {
        (height, width)
    } else {
        (width, height)
    };
    let (new_width, new_height) = fitting(image.width(), image.height(), width, height);
    let mut scaled = image.thumbnail_exact(new_width, new_height);
    scaled.apply_orientation(orientation);
    scaled
}

/// JPEG knows no transparency: what shows through is white.
pub fn on_white(image: &DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return DynamicImage::ImageRgb8(image.to_rgb8());
    }
    let mut canvas = RgbaImage::from_pixel(image.width(), image.height(), Rgba([255; 4]));
    imageops::overlay(&mut canvas, &image.to_rgba8(), 0, 0);
    DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(canvas).to_rgb8())
}

fn is_on_its_side(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

fn fitting(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    let scale = f64::min(
        f64::from(max_width) / f64::from(width),
        f64::from(max_height) / f64::from(height),
    );
    if scale >= 1.0 {
        return (width, height);
    }
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept() {
        assert_eq!(fitting(400, 300, 100, 100), (100, 75));
        assert_eq!(fitting(300, 400, 100, 100), (75, 100));
        assert_eq!(fitting(4000, 1, 100, 100), (100, 1));
        assert_eq!(fitting(50, 50, 100, 100), (50, 50));
    }

    #[test]
    fn an_image_on_its_side_fits_once_it_is_upright() {
        let image = DynamicImage::new_rgb8(400, 300);
        let scaled = fit(&image, Orientation::Rotate90, 100, 100);
        assert_eq!((scaled.width(), scaled.height()), (75, 100));
    }

    #[test]
    fn transparency_becomes_white() {
        let image = on_white(&DynamicImage::new_rgba8(1, 1));
        assert_eq!(image.to_rgb8().get_pixel(0, 0).0, [255; 3]);
    }
}

//! Components written by hand, in the text format: those that `skillhost doctor` makes its hostile
//! guests with.

pub use skillhost::doctor::handmade::*;

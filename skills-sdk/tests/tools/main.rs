//! Tools as the host sees them: what is described, and what calls answer.

mod answer;
mod context;
mod described;
mod input;
mod names;

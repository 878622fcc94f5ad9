//! What is left of a failure or an attachment without the values of secrets.

use super::{Attachment, Cause, Failure};
use crate::grant::Denial;
use crate::secret::Scrubber;

impl Failure {
    /// Without the values of secrets.
    pub(crate) fn scrubbed(mut self, scrubber: &Scrubber) -> Self {
        scrubber.text(&mut self.message);
        if let Some(hint) = &mut self.hint {
            scrubber.text(hint);
        }
        for text in self.denials.iter_mut().flat_map(Denial::texts) {
            scrubber.text(text);
        }
        match &mut self.cause {
            Cause::SkillError { code, details, .. } => {
                if let Some(code) = code {
                    scrubber.text(code);
                }
                if let Some(details) = details {
                    scrubber.json(details);
                }
            }
            Cause::InvalidInput { pointer } | Cause::InvalidOutput { pointer } => {
                scrubber.text(pointer);
            }
            Cause::UnknownTool { available } => {
                available.iter_mut().for_each(|name| scrubber.text(name));
            }
            // Of the others, nothing is made of what a guest says while it runs.
            _ => {}
        }
        self
    }
}

impl Attachment {
    /// Takes the values of secrets out of it.
    pub(crate) fn scrub(&mut self, scrubber: &Scrubber) {
        scrubber.text(&mut self.name);
        scrubber.text(&mut self.media_type);
        if let Some(clean) = scrubber.bytes(&self.data) {
            self.data = clean;
        }
    }
}

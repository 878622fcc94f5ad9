//! A token's text: `skillhost_`, its id, `_`, its secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::queue::QueueError;

/// What every token begins with, so that one is known where it should not be.
const PREFIX: &str = "skillhost_";
/// Bytes of an id.
const ID: usize = 6;
/// Bytes of a secret.
const SECRET: usize = 32;

/// A token with its secret. It is shown by [`reveal`](Token::reveal) alone, and gone from memory once
/// it is dropped.
pub struct Token {
    id: String,
    text: Zeroizing<String>,
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is none.
    #[error("this is no token: one begins with `{PREFIX}`")]
    Text,
    /// What it is to be makes no sense.
    #[error("the token cannot be made: {0}")]
    Invalid(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// It cannot be kept.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Token {
    pub(super) fn random() -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0; ID + SECRET]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| TokenError::Random(error.to_string()))?;
        let (id, secret) = bytes.split_at(ID);
        let id = hex::encode(id);
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret));
        let text = Zeroizing::new(format!("{PREFIX}{id}_{}", secret.as_str()));
        Ok(Token { id, text })
    }

    /// Its public id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, secret and all.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Text)?;
        let (id, secret) = rest.split_at_checked(ID * 2).ok_or(TokenError::Text)?;
        let secret = secret.strip_prefix('_').ok_or(TokenError::Text)?;
        let is_id = id
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_secret = secret.len() == SECRET.div_ceil(3) * 4 - 1
            && secret
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_id || !is_secret {
            return Err(TokenError::Text);
        }
        Ok(Token {
            id: id.to_owned(),
            text: Zeroizing::new(text.to_owned()),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_shows_no_secret() {
        let token = Token::random().unwrap();
        let again: Token = token.reveal().parse().unwrap();
        assert_eq!(again.id(), token.id());
        assert_eq!(again.sha256(), token.sha256());
        let secret = &token.reveal()[PREFIX.len() + 2 * ID + 1..];
        assert!(!format!("{token:?}").contains(secret));
        assert_ne!(Token::random().unwrap().reveal(), token.reveal());
    }

    #[test]
    fn what_is_no_token_is_none() {
        let good = Token::random().unwrap();
        let good = good.reveal();
        for bad in [
            "",
            "skillhost_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &good.replacen('_', "-", 2),
            &format!("{} ", &good[..good.len() - 1]),
            "skillhost_äääääää_0123456789",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}

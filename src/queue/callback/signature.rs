//! Signing, and checking a signature.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header with the callback's id, the same for every attempt: by it a receiver knows what it has
/// seen before.
pub const HEADER_ID: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, with spaces between them.
pub const HEADER_SIGNATURE: &str = "webhook-signature";
/// How far a timestamp may be off by default: five minutes.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// What a signature begins with.
const VERSION: &str = "v1,";
/// The shortest secret, in bytes.
const MIN_BYTES: usize = 24;
/// The longest secret, in bytes.
const MAX_BYTES: usize = 512;

/// What sender and receiver share: 24 to 512 random bytes, as text `whsec_` and their base64. Neither
/// [`Debug`](fmt::Debug) nor an error shows it.
///
/// ```
/// use skillhost::queue::callback::Secret;
///
/// let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// assert_eq!(format!("{secret:?}"), "Secret(24 bytes)");
/// # Ok::<(), skillhost::queue::callback::SecretError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// What is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It does not begin with `whsec_`.
    #[error("a secret begins with `{PREFIX}`")]
    Prefix,
    /// What comes then is no base64.
    #[error("after `{PREFIX}` a secret is base64, and this is not")]
    Base64,
    /// It is too short or too long.
    #[error("a secret has {MIN_BYTES} to {MAX_BYTES} bytes, and this has {0}")]
    Length(usize),
}

impl Secret {
    /// A secret of these bytes.
    ///
    /// # Errors
    /// Where there are fewer than 24 of them, or more than 512.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        if (MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            Ok(Secret(bytes))
        } else {
            Err(SecretError::Length(bytes.len()))
        }
    }

    /// The secret itself, as text, for whoever is to keep it or to pass it to the receiver.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The authentication code of a callback.
    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        Some(mac)
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let text = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(text).map_err(|_| SecretError::Base64)?;
        Secret::from_bytes(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// The signature of a callback: HMAC-SHA256 over `ID.TIMESTAMP.BODY`, as `v1,` and base64. The
/// timestamp is in seconds since 1970.
///
/// The id must not have a dot in it, so that its end is known; [`verify`] refuses one that has.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    // HMAC takes keys of every length.
    let mac = secret.mac(id, timestamp, body);
    let code = mac.map(|mac| mac.finalize().into_bytes());
    format!("{VERSION}{}", STANDARD.encode(code.unwrap_or_default()))
}

/// What makes a callback one that was not sent by whoever has the secret, or not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The id is empty, or has a dot in it.
    #[error("the id is none")]
    Id,
    /// The timestamp is no number.
    #[error("the timestamp is no number of seconds")]
    Timestamp,
    /// The timestamp is too old.
    #[error("the callback was sent too long ago")]
    TooOld,
    /// The timestamp lies in the future.
    #[error("the callback's time lies in the future")]
    TooNew,
    /// No signature fits.
    #[error("no signature fits")]
    Signature,
}

/// Checks what a receiver got: the three headers, and the body as it came, byte for byte.
///
/// One of the secrets must have made one of the signatures, so that a secret can be changed without
/// losing a callback. The timestamp may be off by `tolerance` (by default [`TOLERANCE`]). An id that
/// was seen before is for the receiver to notice.
///
/// # Errors
/// Says what is wrong.
///
/// ```
/// use skillhost::queue::callback::{Secret, TOLERANCE, sign, verify};
///
/// let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let now = chrono::Utc::now();
/// let signature = sign(&secret, "one", now.timestamp(), b"{}");
/// let timestamp = now.timestamp().to_string();
/// verify(&[secret], "one", &timestamp, &signature, b"{}", now, TOLERANCE)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: DateTime<Utc>,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    if id.is_empty() || id.contains('.') {
        return Err(VerifyError::Id);
    }
    let timestamp: i64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    let age = i128::from(now.timestamp()) - i128::from(timestamp);
    let tolerance = i128::from(tolerance.as_secs());
    if age > tolerance {
        return Err(VerifyError::TooOld);
    }
    if age < -tolerance {
        return Err(VerifyError::TooNew);
    }
    let codes = signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok());
    for code in codes {
        for secret in secrets {
            let mac = secret.mac(id, timestamp, body);
            // Compared in constant time.
            if mac.is_some_and(|mac| mac.verify_slice(&code).is_ok()) {
                return Ok(());
            }
        }
    }
    Err(VerifyError::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::from_bytes([byte; 32]).unwrap()
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// The example of the reference libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let signature = sign(&secret(1), "a", 1_000, b"body");
        let check = |secrets: &[Secret], id, timestamp, signature: &str, body| {
            verify(
                secrets,
                id,
                timestamp,
                signature,
                body,
                at(1_000),
                TOLERANCE,
            )
        };
        let right = &[secret(1)];
        assert_eq!(check(right, "a", "1000", &signature, b"body"), Ok(()));
        let wrong = Err(VerifyError::Signature);
        assert_eq!(check(right, "b", "1000", &signature, b"body"), wrong);
        assert_eq!(check(right, "a", "1001", &signature, b"body"), wrong);
        assert_eq!(check(right, "a", "1000", &signature, b"Body"), wrong);
        assert_eq!(check(&[secret(2)], "a", "1000", &signature, b"body"), wrong);
        assert_eq!(check(&[], "a", "1000", &signature, b"body"), wrong);
        for odd in [
            "",
            "v1,",
            "v1,AAAA",
            "v1a,x",
            &signature[3..],
            &signature[..40],
        ] {
            assert_eq!(check(right, "a", "1000", odd, b"body"), wrong, "{odd}");
        }
    }

    #[test]
    fn one_signature_of_several_is_enough_while_a_secret_is_changed() {
        let both = format!(
            "v1a,other {} {}",
            sign(&secret(2), "a", 1_000, b"x"),
            sign(&secret(1), "a", 1_000, b"x")
        );
        for secrets in [vec![secret(1)], vec![secret(2)], vec![secret(3), secret(1)]] {
            let verified = verify(&secrets, "a", "1000", &both, b"x", at(1_000), TOLERANCE);
            assert_eq!(verified, Ok(()));
        }
    }

    #[test]
    fn a_timestamp_that_is_off_is_refused() {
        let check = |now: i64, timestamp: &str| {
            let signature = sign(&secret(1), "a", timestamp.parse().unwrap_or(0), b"x");
            verify(
                &[secret(1)],
                "a",
                timestamp,
                &signature,
                b"x",
                at(now),
                TOLERANCE,
            )
        };
        assert_eq!(check(1_300, "1000"), Ok(()));
        assert_eq!(check(1_301, "1000"), Err(VerifyError::TooOld));
        assert_eq!(check(700, "1000"), Ok(()));
        assert_eq!(check(699, "1000"), Err(VerifyError::TooNew));
        assert_eq!(check(0, &i64::MIN.to_string()), Err(VerifyError::TooOld));
        assert_eq!(check(0, &i64::MAX.to_string()), Err(VerifyError::TooNew));
        assert_eq!(check(0, "1e3"), Err(VerifyError::Timestamp));
    }

    /// `a.5` at 6 with `x` would be signed as `a` at 5 with `6.x` is.
    #[test]
    fn the_end_of_an_id_is_known() {
        let signature = sign(&secret(1), "a", 5, b"6.x");
        let read = verify(&[secret(1)], "a.5", "6", &signature, b"x", at(6), TOLERANCE);
        assert_eq!(read, Err(VerifyError::Id));
    }

    #[test]
    fn secrets_are_long_enough_and_not_shown() {
        assert_eq!("hunter2".parse::<Secret>(), Err(SecretError::Prefix));
        assert_eq!("whsec_!".parse::<Secret>(), Err(SecretError::Base64));
        assert_eq!("whsec_AAAA".parse::<Secret>(), Err(SecretError::Length(3)));
        assert_eq!(Secret::from_bytes([0; 23]), Err(SecretError::Length(23)));
        assert_eq!(Secret::from_bytes([0; 513]), Err(SecretError::Length(513)));
        assert_eq!(secret(7).reveal().parse(), Ok(secret(7)));
        assert_eq!(format!("{:?}", secret(7)), "Secret(32 bytes)");
    }
}

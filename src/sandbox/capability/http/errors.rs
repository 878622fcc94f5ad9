//! What a guest is told when a request got no answer.

use wasmtime_wasi_http::Error;

use crate::egress::EgressError;
use crate::grant::TargetError;

/// A request that egress could not carry out.
pub(super) fn of(error: EgressError) -> Error {
    let dns = |rcode: &str| Error::DnsError {
        rcode: Some(rcode.to_owned()),
        info_code: None,
    };
    match error {
        EgressError::Denied(_) => Error::HttpRequestDenied,
        EgressError::AddressDenied(_) => Error::DestinationIpProhibited,
        EgressError::CircuitOpen(_) => Error::DestinationUnavailable,
        EgressError::NoSuchHost => dns("NXDOMAIN"),
        EgressError::Names => dns("SERVFAIL"),
        EgressError::NamesTimeout => Error::DnsTimeout,
        EgressError::Refused => Error::ConnectionRefused,
        EgressError::Connect(error) => Error::Connect(error),
        EgressError::ConnectTimeout => Error::ConnectionTimeout,
        EgressError::Certificate => Error::TlsCertificateError,
        EgressError::Tls => Error::TlsProtocolError,
        EgressError::Limit | EgressError::Busy => Error::ConnectionLimitReached,
        EgressError::HeadTooLarge => Error::HttpResponseHeaderSectionSize(None),
        EgressError::FirstByteTimeout => Error::HttpResponseTimeout,
        EgressError::BetweenBytesTimeout => Error::ConnectionReadTimeout,
        EgressError::Incomplete => Error::HttpResponseIncomplete,
        EgressError::RequestBody => Error::HttpRequestBodySize(None),
        EgressError::Protocol => Error::HttpProtocolError,
    }
}

/// A request that is aimed at nothing.
pub(super) fn of_target(error: TargetError) -> Error {
    match error {
        TargetError::Method => Error::HttpRequestMethodInvalid,
        TargetError::ForbiddenMethod => Error::HttpRequestDenied,
        TargetError::TooLong => Error::HttpRequestUriTooLong,
        TargetError::Scheme => Error::HttpProtocolError,
        _ => Error::HttpRequestUriInvalid,
    }
}

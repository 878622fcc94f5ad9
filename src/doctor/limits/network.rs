//! Limits on what a guest does in the network, tried with a server on this machine.

use std::net::SocketAddr;

use super::counted::{Climb, count};
use crate::doctor::check::{Figures, Finding};
use crate::doctor::grants::network::{Streaming, connecting};
use crate::doctor::ground::{Ground, Trouble};
use crate::doctor::http::{self, Server, head_bytes};
use crate::grant::{Grants, HttpGrant, Protocol, SocketGrant};
use crate::limits::{Limit, LimitOverrides};

/// Something that has no server to be tried with.
pub(in crate::doctor) fn no_server(error: &std::io::Error) -> Finding {
    Finding::unknown(format!("this machine cannot serve itself: {error}"))
}

/// The right to ask this server for anything.
pub(in crate::doctor) fn asking(address: SocketAddr) -> Option<Grants> {
    let grant: HttpGrant = format!("GET http://{address}").parse().ok()?;
    Some(Grants::default().http(grant))
}

pub async fn connections(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 3;
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let grant = SocketGrant::new(Protocol::Tcp, server.address);
    let climb = Climb {
        guest: connecting(server.address.port()),
        grants: Grants::default().socket(grant),
        limits: LimitOverrides {
            connections: Some(ALLOWED),
            ..Default::default()
        },
        limit: Limit::Connections,
        allowed: ALLOWED,
        numbers: 1..=50,
    };
    climb.by(ground, |number| number, count).await
}

/// A request with a long path. What the server got says how far it came.
pub async fn request_bytes(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 2_000;
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let limits = LimitOverrides {
        http_request_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let numbers = 1_000..=8_000;
    let Some(climb) = asked(&server, limits, Limit::HttpRequestBytes, ALLOWED, numbers) else {
        return Ok(Finding::unknown(
            "the server's address is none to be granted",
        ));
    };
    let finding = climb
        .by(ground, |number| number, Figures::exact_bytes)
        .await?;
    Ok(finding.figures(Figures::exact_bytes(ALLOWED, server.most_bytes())))
}

/// An answer with a long head.
pub async fn response_bytes(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 2_000;
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let limits = LimitOverrides {
        http_response_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let numbers = 1_000..=8_000;
    let Some(climb) = asked(&server, limits, Limit::HttpResponseBytes, ALLOWED, numbers) else {
        return Ok(Finding::unknown(
            "the server's address is none to be granted",
        ));
    };
    climb.by(ground, head_bytes, Figures::bytes).await
}

/// A header field, which is never sent.
pub async fn fields(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 2_000;
    let climb = Climb {
        guest: http::with_field(),
        grants: Grants::default(),
        limits: LimitOverrides {
            http_fields_bytes: Some(ALLOWED),
            ..Default::default()
        },
        limit: Limit::HttpFieldsBytes,
        allowed: ALLOWED,
        numbers: 1_000..=8_000,
    };
    climb.by(ground, |number| number, Figures::bytes).await
}

/// To a server that counts. What it got says how far the guest came.
pub async fn sent(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 500;
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let limits = LimitOverrides {
        socket_sent_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let climb = streaming(
        &server,
        Streaming::Sending,
        limits,
        Limit::SocketSentBytes,
        ALLOWED,
    );
    let finding = climb
        .by(ground, |number| number, Figures::exact_bytes)
        .await?;
    Ok(finding.figures(Figures::exact_bytes(ALLOWED, server.most_bytes())))
}

/// From a server that sends more than anybody wants.
pub async fn received(ground: &Ground) -> Result<Finding, Trouble> {
    const ALLOWED: u64 = 500;
    let server = match Server::giving() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let limits = LimitOverrides {
        socket_read_bytes: Some(ALLOWED),
        ..Default::default()
    };
    let limit = Limit::SocketReadBytes;
    streaming(&server, Streaming::Receiving, limits, limit, ALLOWED)
        .by(ground, |number| number, Figures::exact_bytes)
        .await
}

fn streaming(
    server: &Server,
    way: Streaming,
    limits: LimitOverrides,
    limit: Limit,
    allowed: u64,
) -> Climb {
    let grant = SocketGrant::new(Protocol::Tcp, server.address);
    Climb {
        guest: way.guest(server.address.port()),
        grants: Grants::default().socket(grant),
        limits,
        limit,
        allowed,
        numbers: 250..=2_000,
    }
}

fn asked(
    server: &Server,
    limits: LimitOverrides,
    limit: Limit,
    allowed: u64,
    numbers: std::ops::RangeInclusive<u32>,
) -> Option<Climb> {
    Some(Climb {
        guest: http::guest(&server.address.to_string()),
        grants: asking(server.address)?,
        limits,
        limit,
        allowed,
        numbers,
    })
}

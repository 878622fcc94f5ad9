//! HTTP requests, and a name that resolves to this machine.

use crate::doctor::check::Finding;
use crate::doctor::ground::{Ground, Run, Trouble, ended, numbered};
use crate::doctor::guests::number;
use crate::doctor::handmade::Handmade;
use crate::doctor::http::{Server, following, guest};
use crate::doctor::limits::network::{asking, no_server};
use crate::execution::ExecutionResult;
use crate::grant::{Capability, Grants, HttpGrant};

/// The letters of the path that the guest asks for: `/aaa`.
const PATH: u32 = 4;

/// The guest gets an answer with these grants, and none with those, and the server hears nothing.
async fn refused(
    ground: &Ground,
    server: &Server,
    guest: Handmade,
    works: Option<Grants>,
    refused: Option<Grants>,
) -> Result<Finding, Trouble> {
    let (Some(works), Some(refused)) = (works, refused) else {
        return Ok(Finding::unknown(
            "the server's address is none to be granted",
        ));
    };
    let skill = ground.load(&guest).await?;
    let request = |grants| numbered(&skill, PATH).grants(grants);
    let Run { result: within, .. } = ground.request(request(works)).await?;
    if number(&within) != Some(0) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted does not work: {how}"
        )));
    }
    let heard = server.connections();
    let Run { result: past, .. } = ground.request(request(refused)).await?;
    Ok(judge(&past, server.connections() > heard))
}

fn judge(past: &ExecutionResult, heard: bool) -> Finding {
    match number(past) {
        _ if heard => Finding::broken("it reached the server"),
        Some(1 | 2) => Finding::holds("refused"),
        Some(3) => Finding::unknown("it was not redirected"),
        _ => Finding::broken(format!("it was not refused: {}", ended(past))),
    }
}

pub async fn nothing_granted(ground: &Ground) -> Result<Finding, Trouble> {
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let authority = server.address.to_string();
    let nothing = Some(Grants::default());
    refused(
        ground,
        &server,
        guest(&authority),
        asking(server.address),
        nothing,
    )
    .await
}

pub async fn another_path(ground: &Ground) -> Result<Finding, Trouble> {
    another(ground, |authority| format!("GET http://{authority}/b")).await
}

pub async fn another_method(ground: &Ground) -> Result<Finding, Trouble> {
    another(ground, |authority| format!("POST http://{authority}")).await
}

pub async fn another_host(ground: &Ground) -> Result<Finding, Trouble> {
    another(ground, |authority| {
        let other = authority.replacen("127.0.0.1", "127.0.0.2", 1);
        format!("GET http://{other}")
    })
    .await
}

pub async fn another_scheme(ground: &Ground) -> Result<Finding, Trouble> {
    another(ground, |authority| format!("GET https://{authority}")).await
}

/// What the guest asks for differs in one thing from what is granted.
async fn another(
    ground: &Ground,
    granted: impl FnOnce(&str) -> String,
) -> Result<Finding, Trouble> {
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let authority = server.address.to_string();
    let grant: Option<HttpGrant> = granted(&authority).parse().ok();
    let another = grant.map(|grant| Grants::default().http(grant));
    refused(
        ground,
        &server,
        guest(&authority),
        asking(server.address),
        another,
    )
    .await
}

/// A server that is granted redirects to one that is not: the host does not follow, and the guest is
/// refused when it does.
pub async fn redirect(ground: &Ground) -> Result<Finding, Trouble> {
    let servers = Server::start().and_then(|end| Ok((Server::leading(end.address)?, end)));
    let (first, end) = match servers {
        Ok(servers) => servers,
        Err(error) => return Ok(no_server(&error)),
    };
    let guest = following(&first.address.to_string(), &end.address.to_string());
    let grant: Option<HttpGrant> = format!("GET http://{}", end.address).parse().ok();
    let one = asking(first.address);
    let both = one.clone().zip(grant);
    let both = both.map(|(grants, grant)| grants.http(grant));
    refused(ground, &end, guest, both, one).await
}

/// A name is granted; that it resolves to this machine is not.
pub async fn loopback(ground: &Ground) -> Result<Finding, Trouble> {
    let server = match Server::start() {
        Ok(server) => server,
        Err(error) => return Ok(no_server(&error)),
    };
    let authority = format!("localhost:{}", server.address.port());
    let grant: Option<HttpGrant> = format!("GET http://{authority}").parse().ok();
    let name = grant.map(|grant| Grants::default().http(grant));
    let address = ["127.0.0.0/8", "::1/128"]
        .into_iter()
        .try_fold(name.clone().unwrap_or_default(), |grants, address| {
            Some(grants.address(address.parse().ok()?))
        });
    refused(ground, &server, guest(&authority), address, name).await
}

pub async fn undeclared(ground: &Ground) -> Result<Finding, Trouble> {
    let grants = asking(std::net::SocketAddr::from(([192, 0, 2, 1], 80))).unwrap_or_default();
    super::undeclared(ground, Capability::Http, grants).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Verdict;
    use crate::sandbox::Isolation;

    #[tokio::test]
    async fn a_redirect_that_is_followed_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let end = Server::start().unwrap();
        let first = Server::leading(end.address).unwrap();
        let all = || {
            let both = [first.address, end.address].map(|to| format!("GET http://{to}"));
            let grants = both.map(|text| text.parse::<HttpGrant>().unwrap());
            Some(grants.into_iter().fold(Grants::default(), Grants::http))
        };
        let following = || following(&first.address.to_string(), &end.address.to_string());
        let found = refused(&ground, &end, following(), all(), all()).await;
        assert_eq!(found.unwrap().verdict, Verdict::Broken);
        // One that did not come so far proves nothing.
        let nothing = Some(Grants::default());
        let found = refused(&ground, &end, following(), all(), nothing).await;
        assert_eq!(found.unwrap().verdict, Verdict::Unknown);
    }
}

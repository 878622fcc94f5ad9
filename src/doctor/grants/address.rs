//! Names that are granted, and lead to addresses that are not public.

use std::net::IpAddr;

use crate::doctor::check::{Finding, Verdict};
use crate::doctor::ground::{Ground, Run, Trouble, ended, numbered};
use crate::doctor::guests::number;
use crate::doctor::http::{Server, guest};
use crate::doctor::limits::network::no_server;
use crate::doctor::names::Names;
use crate::grant::{Capability, Grants, HttpGrant};

/// The letters of the path that the guest asks for.
const PATH: u32 = 4;

/// Of this machine, of private networks, shared by carriers, and link-local.
const PRIVATE: [&str; 11] = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.1.1",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00::1",
];

/// Where clouds tell machines of themselves, and of their keys.
const METADATA: [&str; 4] = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "fd00:ec2::254",
];

/// Some of both as addresses of IPv6 hold them: mapped, compatible, translated, by NAT64, 6to4, Teredo (with the bits
/// of the client turned over) and ISATAP.
const WITHIN: [&str; 15] = [
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:a00:1::1",
    "2001:0:808:808:0:0:80ff:fffe",
    "2606:4700::5efe:a00:1",
];

pub async fn private(ground: &Ground) -> Result<Finding, Trouble> {
    leading_to(ground, &PRIVATE).await
}

pub async fn metadata(ground: &Ground) -> Result<Finding, Trouble> {
    leading_to(ground, &METADATA).await
}

pub async fn within(ground: &Ground) -> Result<Finding, Trouble> {
    leading_to(ground, &WITHIN).await
}

/// A name is granted with its port, and leads to each of these addresses in turn. Where it is refused, nothing is sent
/// to any of them.
async fn leading_to(ground: &Ground, addresses: &[&str]) -> Result<Finding, Trouble> {
    let servers = Server::start().and_then(|server| Ok((server, Names::start()?)));
    let (server, names) = match servers {
        Ok(servers) => servers,
        Err(error) => return Ok(no_server(&error)),
    };
    let authority = format!("doctor.example:{}", server.address.port());
    let grant: Option<HttpGrant> = format!("GET http://{authority}").parse().ok();
    let Some(grant) = grant else {
        return Ok(Finding::unknown("the name is none to be granted"));
    };
    let name = Grants::default().http(grant);
    let ground = ground.with_names(names.address)?;
    let skill = ground.load(&guest(&authority)).await?;
    let request = |grants| numbered(&skill, PATH).grants(grants);
    let server_too = name.clone().address(server.address.ip().into());
    let Run { result: within, .. } = ground.request(request(server_too)).await?;
    if number(&within) != Some(0) {
        let how = ended(&within);
        return Ok(Finding::unknown(format!(
            "what is granted does not work: {how}"
        )));
    }
    for address in addresses {
        let Ok(address) = address.parse::<IpAddr>() else {
            return Ok(Finding::unknown(format!("`{address}` is no address")));
        };
        names.lead_to(address);
        let past = ground.request(request(name.clone())).await?;
        let finding = judge(address, &past);
        if finding.verdict != Verdict::Holds {
            return Ok(finding);
        }
    }
    Ok(Finding::holds("refused"))
}

/// That no answer came could have many reasons: what counts is that the address was denied.
fn judge(address: IpAddr, past: &Run) -> Finding {
    match (number(&past.result), past.heard.denied) {
        (Some(1 | 2), Some(Capability::Address)) => Finding::holds("refused"),
        (Some(1 | 2), _) => {
            Finding::broken(format!("{address} was let through, and did not answer"))
        }
        _ => Finding::broken(format!(
            "{address} was not refused: {}",
            ended(&past.result)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::not_public;
    use crate::sandbox::Isolation;

    #[test]
    fn none_of_them_is_public() {
        for text in PRIVATE.iter().chain(&METADATA).chain(&WITHIN) {
            let address: IpAddr = text.parse().unwrap();
            assert!(not_public(address).is_some(), "{text}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_let_through_is_noticed() {
        let ground = Ground::new(Isolation::InProcess, 1, None).unwrap();
        let names = Names::start().unwrap();
        let server = Server::start().unwrap();
        let authority = format!("doctor.example:{}", server.address.port());
        let ground = ground.with_names(names.address).unwrap();
        let skill = ground.load(&guest(&authority)).await.unwrap();
        let grant: HttpGrant = format!("GET http://{authority}").parse().unwrap();
        let name = Grants::default().http(grant);
        let asked = |grants| ground.request(numbered(&skill, PATH).grants(grants));
        let local = server.address.ip();
        let granted = asked(name.clone().address(local.into())).await.unwrap();
        assert_eq!(judge(local, &granted).verdict, Verdict::Broken);
        let refused = asked(name).await.unwrap();
        assert_eq!(judge(local, &refused).verdict, Verdict::Holds);
        // What is refused for another reason proves nothing of the address.
        let refused = asked(Grants::default()).await.unwrap();
        assert_eq!(judge(local, &refused).verdict, Verdict::Broken);
    }
}

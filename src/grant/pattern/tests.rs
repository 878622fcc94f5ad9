use std::fmt::Display;
use std::str::FromStr;

use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use schemars::JsonSchema;

use crate::grant::{
    AddressGrant, Clock, DirectoryGrant, HttpGrant, Random, SecretGrant, SocketGrant,
};

fn schema<T: JsonSchema>() -> Validator {
    let schema = schemars::schema_for!(T).to_value();
    jsonschema::validator_for(&schema).expect("it is a JSON Schema")
}

/// The right ones are taken by the parser and the schema, the wrong ones refused by both.
fn check<T: JsonSchema + FromStr>(right: &[&str], wrong: &[&str]) {
    let schema = schema::<T>();
    for (texts, taken) in [(right, true), (wrong, false)] {
        for text in texts {
            assert_eq!(text.parse::<T>().is_ok(), taken, "the parser: {text:?}");
            assert_eq!(
                schema.is_valid(&(*text).into()),
                taken,
                "the schema: {text:?}"
            );
        }
    }
}

#[test]
fn requests() {
    check::<HttpGrant>(
        &[
            "https://example.com",
            "GET https://example.com/api",
            "GET,HEAD,GET HTTPS://Example.com.:443/a/../b",
            "*://*.example.com:8443/api",
            "M-SEARCH http://*:0080",
            "https://*",
            "http://example.com:/",
            "http://127.0.0.1:3000",
            "http://0x7f.1:65535",
            "http://[::1]:3000/x",
            "http://[1:2:3:4:5:6:7::]/%zz",
            "http://[::ffff:10.0.0.1]",
            "https://*.bücher.example",
            "https://*.a%2eb",
            "https://*.a。b",
            "https://ex%61mple.com/ü%20:@",
            "CONNECTED,RETRACE https://a.example",
        ],
        &[
            "",
            "example.com",
            "https://",
            "https:///a",
            "ftp://example.com",
            "get https://example.com",
            "GET, https://example.com",
            "GET  https://example.com",
            "CONNECT https://example.com",
            "GET,TRACE,PUT https://example.com",
            "https://example.com/?q",
            "https://example.com#a",
            "https://example.com/*",
            "https://example.com/a b",
            "https://example.com/a\\b",
            "https://example.com/\u{85}",
            "https://exa mple.com",
            "https://user@example.com",
            "https://a.*.com",
            "https://*a.com",
            "https://*.com",
            "https://*.com.",
            "https://*.[::1]",
            "https://<HOST>/api",
            "https://a!b.example",
            "https://a%.example",
            "https://example.com:0",
            "https://example.com:65536",
            "https://example.com:a",
            "http://[::1",
            "http://[1::2:3:4:5:6:7:8]",
            "http://[::1.2.3.400]",
            " https://example.com",
            "https://example.com\n",
        ],
    );
    let schema = schema::<HttpGrant>();
    let long = format!("https://a.example/{}", "a".repeat(2_048));
    assert!(!schema.is_valid(&long.into()));
}

#[test]
fn secrets() {
    check::<SecretGrant>(
        &[
            "github=authorization:Bearer@https://api.github.com",
            "a.b_c-D=X-Key@GET,PUT http://127.0.0.1:3000/x",
            "a=x-key:@https://*.example.com",
            "a=x-key:To ken:a@https://*",
            "a=hosts@https://a.example",
        ],
        &[
            "t",
            "t=x-key",
            "=x-key@https://a.example",
            "a b=x-key@https://a.example",
            "a=x key@https://a.example",
            "a=@https://a.example",
            "a=x-key: b@https://a.example",
            "a=x-key:é@https://a.example",
            "a=x-key@a.example",
            "a=x-key@CONNECT https://a.example",
            "a=Host@https://a.example",
            "a=TRANSFER-encoding:b@https://a.example",
        ],
    );
}

#[test]
fn sockets() {
    check::<SocketGrant>(
        &[
            "tcp://127.0.0.1:80",
            "udp://[::1]:53",
            "udp://[1:2:3:4:5:6:1.2.3.4]:053",
            "tcp://[1:2:3:4:5::1.2.3.4]:1",
            "tcp://*:65535",
            "udp://*:*",
        ],
        &[
            "",
            "tcp://host:5",
            "tcp://127.0.0.1",
            "TCP://127.0.0.1:80",
            "sctp://127.0.0.1:80",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:+80",
            "tcp://127.0.0.1:65536",
            "tcp://127.0.0.01:80",
            "tcp://127.0.0.256:80",
            "tcp://127.0.0:80",
            "tcp://::1:80",
            "tcp://[127.0.0.1]:80",
            "tcp://[::1::]:80",
            "tcp://[1:2:3:4:5:6:7:8:9]:80",
            "tcp://[1:2:3:4:5:6::1.2.3.4]:80",
            "tcp://<IP>:80",
            "tcp://1.2.3.4:<PORT>",
        ],
    );
}

#[test]
fn addresses() {
    check::<AddressGrant>(
        &[
            "127.0.0.1",
            "10.0.0.0/8",
            "010.0.0.0/08",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "::1",
            "::ffff:10.0.0.1",
            "fd00::/8",
            "1::2:3:4:5:6:7:8/128",
            "::/000",
        ],
        &[
            "",
            "nope",
            "localhost",
            "127.0.0.1:80",
            "010.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/008",
            "10.0.0/8",
            "[::1]",
            "1::2:3:4:5:6:7:8",
            "fd00::/129",
            "fd00::/",
        ],
    );
}

#[test]
fn clocks() {
    check::<Clock>(
        &[
            "system",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:00:00-01:30",
            "2026-01-02 03:04:05.678901234567z",
            "2024-02-29t23:59:60\u{2212}23:59",
            "9999-12-31T23:59:59Z",
        ],
        &[
            "",
            "now",
            "yesterday",
            "System",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04Z",
            "2026-1-2T03:04:05Z",
            "2026-13-02T03:04:05Z",
            "2026-04-31T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04:61Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05+24:00",
            "1969-12-30T23:59:59Z",
            "12026-01-02T03:04:05Z",
        ],
    );
}

#[test]
fn random_numbers() {
    check::<Random>(
        &[
            "system",
            "seed:0",
            "seed:007",
            "seed:+1",
            "seed:18446744073709551615",
            "seed:0018446744073709551609",
        ],
        &[
            "",
            "x",
            "42",
            "seed",
            "seed:",
            "seed:-1",
            "seed:1.5",
            "seed:18446744073709551616",
            "seed:20000000000000000000",
            "seed:100000000000000000000",
        ],
    );
}

#[test]
fn directories() {
    check::<DirectoryGrant>(
        &[
            "/srv/reports",
            "/srv/reports:/data",
            "data:/data:rw",
            "data:ro",
            "ro",
            "a:ro:ro",
            "a\nb:/c:rw",
            "<GUEST>:/data",
        ],
        &[
            "",
            ":",
            ":/data",
            ":ro",
            "/a::rw",
            "/a:/b:c",
            "/a:/b:c:rw",
            "<HOST>",
            "<HOST>:/data:ro",
            "/a:<GUEST>:ro",
            "<GUEST>:rw",
        ],
    );
}

/// Texts of one of each of these, and once in a while anything at all somewhere between.
fn texts(parts: &'static [&'static [&'static str]]) -> impl Strategy<Value = String> {
    let parts: Vec<_> = parts.iter().map(|options| select(*options)).collect();
    let length = parts.len();
    (
        parts,
        proptest::option::weighted(0.3, ("\\PC{1,3}", 0..length)),
    )
        .prop_map(|(mut parts, odd)| {
            let odd = odd.as_ref().map(|(text, place)| (text.as_str(), *place));
            if let Some((text, place)) = odd {
                parts.insert(place, text);
            }
            parts.concat()
        })
}

/// What the parser takes, and what it makes of that, the schema takes, too.
fn taken<T>(schema: &Validator, text: &str) -> Result<(), TestCaseError>
where
    T: FromStr + Display + PartialEq,
{
    let Ok(grant) = text.parse::<T>() else {
        return Ok(());
    };
    prop_assert!(schema.is_valid(&text.into()), "{text:?}");
    let again = grant.to_string();
    prop_assert!(
        again.parse::<T>().is_ok_and(|same| same == grant),
        "{again:?}"
    );
    prop_assert!(schema.is_valid(&again.clone().into()), "{again:?}");
    Ok(())
}

/// Of these parts.
fn check_all<T>(parts: &'static [&'static [&'static str]])
where
    T: JsonSchema + FromStr + Display + PartialEq,
{
    let schema = schema::<T>();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
    let tried = runner.run(&texts(parts), |text| taken::<T>(&schema, &text));
    if let Err(error) = tried {
        panic!("{error}");
    }
}

const V6: &[&str] = &[
    "::",
    "1:2:3:4:5:6:7:8",
    "1::2",
    "::ffff:1.2.3.4",
    "1:2:3:4:5:6:7::",
    "a:B::0001",
];
const HOSTS: &[&str] = &[
    "a",
    "a.b",
    "bücher",
    "A.example.",
    "0x7f.1",
    "1.2.3.4",
    "xn--bcher-kva.b",
];

#[test]
fn the_schema_takes_what_the_parser_takes() {
    check_all::<HttpGrant>(&[
        &["", "GET ", "GET,PUT ", "M_-1,A "],
        &["http", "HTTPS", "*"],
        &["://"],
        &["", "", "*.", "*"],
        &["", "[::1]", "[1:2::3.4.5.6]", "a", "é", "%41", "%e3%80%82"],
        HOSTS,
        &["", ":", ":80", ":0443", ":65535"],
        &["", "/", "/a/../b", "/%41%zz%", "/@:é", "//;,"],
    ]);
    check_all::<HttpGrant>(&[&["http://["], V6, &["]"], &["", ":1"], &["", "/a"]]);
    check_all::<SecretGrant>(&[
        &["a", "A.b-_"],
        &["="],
        &["authorization", "X-!#$%&'*+.^_`|~1"],
        &["", ":", ":Bearer", ":a b", ":!~"],
        &["@", "@GET "],
        &["https://", "*://*."],
        HOSTS,
        &["", ":81/a"],
    ]);
    check_all::<SocketGrant>(&[
        &["tcp", "udp"],
        &["://["],
        V6,
        &["]:"],
        &["*", "1", "010", "65535"],
    ]);
    check_all::<SocketGrant>(&[
        &["tcp", "udp"],
        &["://"],
        &["*", "0.0.0.0", "255.249.199.99"],
        &[":"],
        &["*", "9", "59999", "65529"],
    ]);
    check_all::<AddressGrant>(&[V6, &["", "/0", "/1", "/9", "/64", "/099", "/119", "/128"]]);
    check_all::<AddressGrant>(&[
        &["0", "10", "172", "255", "019"],
        &[".0"],
        &[".0", ".000"],
        &[".0", ".00", ".255"],
        &["", "/0", "/8", "/08", "/24", "/32"],
    ]);
    check_all::<Clock>(&[
        &[
            "1969-12-31",
            "1970-01-01",
            "2000-02-29",
            "2026-11-30",
            "9999-12-31",
        ],
        &["T", "t", " "],
        &["00:00:00", "23:59:60", "12:34:56"],
        &["", ".0", ".123456789"],
        &["Z", "z", "+00:00", "-23:59", "\u{2212}01:30"],
    ]);
    check_all::<Random>(&[
        &["seed:"],
        &["", "+", "0"],
        &["0", "1", "1844674407370955"],
        &["", "1615", "0999"],
    ]);
    check_all::<DirectoryGrant>(&[
        &["a", "/a/b", ".", "é\n"],
        &["", ":a", ":/b/", ":rw", ":*", ":<GUEST"],
        &["", ":ro", ":rw"],
    ]);
}

//! What grants look like as text, for the JSON Schema: as tight as a pattern can be that takes whatever the
//! parser takes. What it cannot say, such as that a month has 30 days or that a network has no bits of a host,
//! the parser alone refuses.
//!
//! No lookaround, which many readers of JSON Schemas do not have.

use schemars::{Schema, json_schema};
use serde_json::json;

/// A decimal of an IPv4 address.
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// The same in the address of a network, which may have zeroes before it.
const OCTET_OF_NETWORK: &str = "(25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})";
/// Four digits of an IPv6 address, or fewer.
const GROUP: &str = "[0-9A-Fa-f]{1,4}";
/// A piece of the name of a host: what it may have, and what is encoded or made ASCII before it is looked at.
const LETTER: &str = r"([A-Za-z0-9._-]|%[0-9A-Fa-f]{2}|[^\u0000-\u009f])";
/// What a name or a value must not have in it, within brackets.
const NOT_IN_NAMES: &str = r"=\u0000-\u001f\u007f-\u009f`\u1fef\u02cb\u02f4\uff40\u2035";

/// A number from 1, without zeroes before it.
fn from_one_to(most: u64) -> String {
    let digits = most.to_string();
    let mut forms = Vec::new();
    if digits.len() > 1 {
        forms.push(format!("[1-9][0-9]{{0,{}}}", digits.len() - 2));
    }
    for (place, digit) in digits.bytes().enumerate() {
        let least = if place == 0 { b'1' } else { b'0' };
        if digit > least {
            let (before, below) = (&digits[..place], digit - 1);
            forms.push(format!(
                "{before}[{}-{}][0-9]{{{}}}",
                char::from(least),
                char::from(below),
                digits.len() - place - 1
            ));
        }
    }
    forms.push(digits);
    format!("({})", forms.join("|"))
}

fn port() -> String {
    format!("0*{}", from_one_to(65_535))
}

fn v4(octet: &str) -> String {
    format!(r"{octet}(\.{octet}){{3}}")
}

/// An IPv6 address. `::` stands for at least so many groups.
fn v6(octet: &str, least: usize) -> String {
    let v4 = v4(octet);
    let mut forms = vec![format!("({GROUP}:){{6}}(({GROUP}:){GROUP}|{v4})")];
    for before in 0..8 {
        let head = match before {
            0 => String::new(),
            more => format!("{GROUP}(:{GROUP}){{{}}}", more - 1),
        };
        let tail = match 8 - before - least {
            0 => String::new(),
            1 => format!("({GROUP})?"),
            room => format!(
                "(({GROUP}:){{0,{}}}({GROUP}|{GROUP}:{GROUP}|{v4}))?",
                room - 2
            ),
        };
        forms.push(format!("{head}::{tail}"));
    }
    format!("({})", forms.join("|"))
}

/// Methods, scheme, host, port and path. No group for the whole, nor its ends.
fn requests() -> String {
    let (port, v6) = (port(), v6(OCTET, 1));
    let methods = "[A-Z0-9_-]{1,64}(,[A-Z0-9_-]{1,64})*";
    // Below it there are at least two labels, the dot between them perhaps encoded.
    let below = format!(r"\*\.{LETTER}*(\.{LETTER}|%[0-9A-Fa-f]{{2}}|[^\u0000-\u009f]){LETTER}*");
    let host = format!(r"(\*|{below}|{LETTER}+|\[{v6}\])");
    let path = r"/[^?#*\\ \u0000-\u001f\u007f-\u009f]*";
    format!(r"({methods} )?(\*|[Hh][Tt][Tt][Pp][Ss]?)://{host}(:({port})?)?({path})?")
}

/// The text of an [`HttpGrant`](super::HttpGrant).
pub(super) fn http() -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": super::http::MAX_TEXT,
        "pattern": format!("^{}$", requests()),
        "not": { "pattern": format!("^{FORBIDDEN_METHOD}") },
    })
}

/// Where one of these stands among the methods.
const FORBIDDEN_METHOD: &str = "([^ /]*,)?(CONNECT|TRACE)[, ]";

/// The text of a [`SecretGrant`](super::SecretGrant).
pub(super) fn secret() -> Schema {
    let requests = requests();
    let name = "[A-Za-z0-9_.-]{1,64}";
    let header = "[A-Za-z0-9!#$%&'*+.^_`|~-]+";
    let prefix = "([!-?A-~]([ -?A-~]{0,62}[!-?A-~])?)?";
    let forbidden = super::secret::FORBIDDEN.map(in_any_case).join("|");
    json_schema!({
        "type": "string",
        "pattern": format!("^{name}={header}(:{prefix})?@{requests}$"),
        "not": { "pattern": format!("^[^=]*=(({forbidden})[:@]|[^@]*@{FORBIDDEN_METHOD})") },
    })
}

fn in_any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_lowercase() {
        true => format!("[{}{c}]", c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
}

/// The text of a [`SocketGrant`](super::SocketGrant).
pub(super) fn socket() -> Schema {
    let (port, v4, v6) = (port(), v4(OCTET), v6(OCTET, 1));
    json_schema!({
        "type": "string",
        "pattern": format!(r"^(tcp|udp)://(\*|{v4}|\[{v6}\]):(\*|{port})$"),
    })
}

/// The text of an [`AddressGrant`](super::AddressGrant).
pub(super) fn address() -> Schema {
    let (v4_net, v6_net) = (v4(OCTET_OF_NETWORK), v6(OCTET_OF_NETWORK, 0));
    let (v4, v6) = (v4(OCTET), v6(OCTET, 1));
    let bits_of_v4 = "([0-2]?[0-9]|3[0-2])";
    let bits_of_v6 = "(0?[0-9]{1,2}|1[01][0-9]|12[0-8])";
    json_schema!({
        "type": "string",
        "pattern": format!("^({v4}|{v6}|{v4_net}/{bits_of_v4}|{v6_net}/{bits_of_v6})$"),
    })
}

/// The text of a [`Clock`](super::Clock).
pub(super) fn clock() -> Schema {
    let day_of_year = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)\
                       |02-(0[1-9]|[12][0-9]))";
    // West of Greenwich, 1970 begins on the day before.
    let date = format!("(1969-12-31|(19[7-9][0-9]|[2-9][0-9]{{3}})-{day_of_year})");
    let minutes = "([01][0-9]|2[0-3]):[0-5][0-9]";
    let time = format!(r"{minutes}:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+\u2212-]{minutes})");
    json_schema!({ "type": "string", "pattern": format!("^(system|{date}[Tt ]{time})$") })
}

/// The text of a [`Random`](super::Random).
pub(super) fn random() -> Schema {
    let number = format!(r"\+?(0+|0*{})", from_one_to(u64::MAX));
    json_schema!({ "type": "string", "pattern": format!("^(system|seed:{number})$") })
}

/// The text of a [`DirectoryGrant`](super::DirectoryGrant).
pub(super) fn directory() -> Schema {
    let to_choose = "<HOST>(:|$)|([^:]*:)?<GUEST>(:r[ow])?$";
    // A guest path that leads nowhere has a `..` behind a `/` at its start, or behind a part that is none of ``, `.`, `..`.
    let part = r"([^:/]*[^:/.][^:/]*|\.{3,})";
    let lead = format!(r"(/([^:]*/)?|([^:]*/)?{part}/([^:]*/)?)\.\.");
    // It is the host path's where there is no other.
    let nowhere = format!("[^:]*:{lead}(/|:|$)|{lead}(/[^:]*)?(:r[ow])?$");
    let control = r"[^:]*[\u0000-\u001f\u007f-\u009f][^:]*(:r[ow])?$";
    json_schema!({
        "type": "string",
        "pattern": r"^[^:]+(:[^:\u0000-\u001f\u007f-\u009f]+)?(:r[ow])?$",
        "not": { "pattern": format!("^({to_choose}|{nowhere}|{control})") },
    })
}

/// Either form of names with values.
pub(super) fn pairs() -> Schema {
    let name = format!("[^{NOT_IN_NAMES}]{{1,256}}");
    let value = r"[^\u0000]*";
    json_schema!({
        "anyOf": [
            {
                "type": "object",
                "propertyNames": { "pattern": format!("^{name}$") },
                "additionalProperties": {
                    "type": ["string", "number", "boolean"],
                    "pattern": format!("^{value}$"),
                    "not": { "const": "<VALUE>" }
                }
            },
            {
                "type": "array",
                "items": {
                    "type": "string",
                    "pattern": format!("^{name}={value}$"),
                    "not": { "pattern": "^[^=]*=<VALUE>$" }
                }
            }
        ]
    })
}

/// What holds for grants, beside what they look like: paths of the host are whole, and nothing is left open.
pub(crate) fn for_good(schema: &mut Schema) {
    let open = r"^([^ ]* )?[^:]*://\*(:|/|$)";
    schema.insert(
        "properties".to_owned(),
        json!({
            "directories": {
                "items": {
                    "pattern": "^/",
                    "properties": { "host": { "pattern": "^/" } }
                }
            },
            "http": { "items": { "not": { "pattern": open } } },
            "sockets": { "items": { "not": { "pattern": r"\*" } } },
            "secrets": { "items": { "not": { "pattern": r"^[^@]*@([^ ]* )?[^:]*://\*(:|/|$)" } } },
        }),
    );
}

#[cfg(test)]
mod tests;

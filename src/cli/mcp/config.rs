//! `skillhost mcp config`: what to put into the configuration of a client.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};
use skillhost::grant::shell_word;
use url::Url;

use crate::cli::Session;
use crate::cli::complaint::Complaint;
use crate::cli::console::print;
use crate::cli::database::DatabaseArgs;
use crate::cli::exit::Exit;
use crate::cli::secrets::SourceArgs;

/// By this variable of the environment, a process finds the database.
const DATABASE: &str = "SKILLHOST_DATABASE";

const EXAMPLES: &str = "\
Examples:
  skillhost mcp config claude-code
  skillhost mcp config vscode text-stats csv-query
  skillhost mcp config cursor --http http://127.0.0.1:7411/mcp
  skillhost mcp config codex >> ~/.codex/config.toml";

/// Print the configuration of a client, so that it offers skills
///
/// Prints what to run, or what to put into which file. Where it goes stands on standard error, so that
/// standard output can be redirected.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    /// The client
    #[arg(value_enum, default_value_t = Client::Json, hide_possible_values = false)]
    client: Client,
    /// Offer these skills only, rather than all installed ones
    #[arg(value_name = "SKILL", value_hint = ValueHint::AnyPath)]
    skills: Vec<PathBuf>,
    /// Let the agent search for tools, rather than offering each by itself
    #[arg(long)]
    search: bool,
    /// On whose behalf calls run and tasks are done: an organisation or account
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// Connect to `skillhost serve` at this URL, rather than start a process
    ///
    /// TOKEN stands where a token goes (`skillhost tokens create`). Without tokens, leave that header out.
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        default_missing_value = "http://127.0.0.1:7411/mcp",
        value_parser = url,
        value_hint = ValueHint::Url,
        conflicts_with_all = ["skills", "search", "tenant", "certificate", "secret_from"]
    )]
    http: Option<String>,
    /// Trust the certificate authorities of a file in PEM form, too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Grants")]
    certificate: Vec<PathBuf>,
    /// Where secrets come from.
    #[command(flatten)]
    sources: SourceArgs,
}

impl ConfigArgs {
    /// Where it goes; a command in that asks for all that this one does.
    fn in_place(&self, place: &str) -> String {
        const JSON: &str = "`skillhost mcp config json`";
        let mut words = Vec::new();
        let mut option = |name: &str, value: String| {
            words.push(name.to_owned());
            words.push(shell_word(&value).into_owned());
        };
        if let Some(url) = &self.http {
            option("--http", url.clone());
        }
        for file in &self.certificate {
            option("--certificate", file.display().to_string());
        }
        for (name, source) in &self.sources.secret_from {
            option("--secret-from", format!("{name}={source}"));
        }
        if let Some(tenant) = &self.tenant {
            option("--tenant", tenant.clone());
        }
        words.extend(self.search.then(|| "--search".to_owned()));
        let skills = self.skills.iter().map(|skill| skill.to_string_lossy());
        words.extend(skills.map(|skill| shell_word(&skill).into_owned()));
        let mut command = JSON.trim_end_matches('`').to_owned();
        for word in words {
            command.push(' ');
            command.push_str(&word);
        }
        place.replace(JSON, &format!("{command}`"))
    }
}

fn url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        // Whoever leaves the path out has most likely forgotten it.
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && (url.path() != "/" || text.ends_with('/')) =>
        {
            Ok(url.into())
        }
        _ => Err("write such as https://skills.example.com/mcp".to_owned()),
    }
}

/// A client whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Claude Code
    ClaudeCode,
    /// Claude Desktop
    ClaudeDesktop,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    Vscode,
    /// Codex
    Codex,
    /// Gemini CLI
    Gemini,
    /// Windsurf
    Windsurf,
    /// Zed
    Zed,
    /// The form that most other clients understand
    Json,
}

/// Prints the configuration.
///
/// # Errors
/// Where this program cannot find itself, or a path of a skill.
pub fn config(
    args: &ConfigArgs,
    database: &DatabaseArgs,
    session: &Session,
) -> anyhow::Result<Exit> {
    if let Some(url) = &args.http {
        let (text, place) = reached(args.client, url);
        print(format_args!("{}\n", text.trim_end()))?;
        session.console.note(args.in_place(place));
        session.console.note(
            "TOKEN is one of `skillhost tokens create`; where `serve` has none, leave its header out",
        );
        return Ok(Exit::Success);
    }
    let program = in_text(&std::env::current_exe()?)?;
    let mut arguments = vec!["mcp".to_owned()];
    if let Some(home) = &session.home {
        arguments.extend(["--home".to_owned(), absolute(home)?]);
    }
    if let Some(policy) = &session.policy {
        arguments.extend(["--policy".to_owned(), absolute(policy)?]);
    }
    if let Some(database) = database.file()? {
        arguments.extend(["--database".to_owned(), database]);
    }
    for certificate in &args.certificate {
        arguments.extend(["--certificate".to_owned(), absolute(certificate)?]);
    }
    for (name, source) in &args.sources.secret_from {
        arguments.extend(["--secret-from".to_owned(), format!("{name}={source}")]);
    }
    if let Some(tenant) = &args.tenant {
        // One that begins with a dash is none of its options.
        arguments.push(format!("--tenant={tenant}"));
    }
    if args.search {
        arguments.push("--search".to_owned());
    }
    for skill in &args.skills {
        // A client starts it in whatever folder it likes.
        arguments.push(match skill.exists() {
            true => absolute(skill)?,
            false => in_text(skill)?,
        });
    }
    let (text, place) = shown(args.client, &program, &arguments, database.url());
    print(format_args!("{}\n", text.trim_end()))?;
    session.console.note(args.in_place(place));
    if database.url().is_some() {
        session.console.note(format_args!(
            "what reaches the database stands in it, as {DATABASE}: keep it from others"
        ));
    }
    Ok(Exit::Success)
}

fn absolute(path: &std::path::Path) -> anyhow::Result<String> {
    Ok(in_text(&std::path::absolute(path)?)?)
}

/// A path as a configuration has it, where it can: another one in its place would lead the client elsewhere.
fn in_text(path: &std::path::Path) -> Result<String, Complaint> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!(
            "the path `{}` is not UTF-8, as a configuration is",
            path.display()
        );
        Complaint::usage(message).hint("name another, or a link to it whose path is: `ln -s`")
    })
}

/// What to put where. A database that is named by a URL goes into the environment, as everybody on the machine
/// sees arguments.
fn shown(
    client: Client,
    program: &str,
    arguments: &[String],
    database: Option<&str>,
) -> (String, &'static str) {
    let mut plain = json!({"command": program, "args": arguments});
    if let Some(database) = database {
        plain["env"] = json!({DATABASE: database});
    }
    let within = |key: &str, server: Value| pretty(&json!({key: {"skillhost": server}}));
    match client {
        Client::ClaudeCode => {
            let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
            let words: Vec<_> = words.map(shell_word).collect();
            // What takes several values stands before another option, or it would take the name as well.
            let environment = database.map(|database| {
                let set = shell_word(&format!("{DATABASE}={database}")).into_owned();
                format!("--env {set} ")
            });
            let line = format!(
                "claude mcp add {}--scope user skillhost -- {}",
                environment.unwrap_or_default(),
                words.join(" ")
            );
            (
                line,
                "run this; or put the output of `skillhost mcp config json` into .mcp.json",
            )
        }
        Client::ClaudeDesktop => (
            within("mcpServers", plain),
            "into claude_desktop_config.json (Settings, Developer, Edit Config); then restart it",
        ),
        Client::Cursor => (
            within("mcpServers", plain),
            "into ~/.cursor/mcp.json, or .cursor/mcp.json of a project",
        ),
        Client::Vscode => (
            within("servers", {
                plain["type"] = json!("stdio");
                plain
            }),
            "into .vscode/mcp.json of a project, or `MCP: Open User Configuration`",
        ),
        Client::Codex => {
            let arguments: Vec<_> = arguments.iter().map(|word| toml_text(word)).collect();
            let environment = database.map(|database| {
                let database = toml_text(database);
                format!("env = {{ {DATABASE} = {database} }}\n")
            });
            let text = format!(
                "[mcp_servers.skillhost]\ncommand = {}\nargs = [{}]\n{}",
                toml_text(program),
                arguments.join(", "),
                environment.unwrap_or_default()
            );
            (text, "into ~/.codex/config.toml")
        }
        Client::Gemini => (
            within("mcpServers", plain),
            "into ~/.gemini/settings.json, or .gemini/settings.json of a project",
        ),
        Client::Windsurf => (
            within("mcpServers", plain),
            "into ~/.codeium/windsurf/mcp_config.json",
        ),
        Client::Zed => (
            within("context_servers", plain),
            "into Zed's settings.json (`zed: open settings file`)",
        ),
        Client::Json => (
            within("mcpServers", plain),
            "into the client's configuration; `skillhost mcp config --help` names clients",
        ),
    }
}

/// What to put where, for a server that is reached at a URL.
fn reached(client: Client, url: &str) -> (String, &'static str) {
    const BEARER: &str = "Bearer TOKEN";
    let headers = json!({"Authorization": BEARER});
    let within = |key: &str, server: Value| pretty(&json!({key: {"skillhost": server}}));
    let (_, place) = shown(client, "", &[], None);
    let text = match client {
        Client::ClaudeCode => format!(
            "claude mcp add --transport http --scope user skillhost {} --header 'Authorization: {BEARER}'",
            shell_word(url)
        ),
        // Its file knows only what it starts itself.
        Client::ClaudeDesktop => within(
            "mcpServers",
            json!({"command": "npx", "args": [
                "-y", "mcp-remote", url, "--header", format!("Authorization:{BEARER}")]}),
        ),
        Client::Vscode => within(
            "servers",
            json!({"type": "http", "url": url, "headers": headers}),
        ),
        Client::Codex => format!(
            "[mcp_servers.skillhost]\nurl = {}\nhttp_headers = {{ Authorization = {} }}\n",
            toml_text(url),
            toml_text(BEARER)
        ),
        Client::Gemini => within("mcpServers", json!({"httpUrl": url, "headers": headers})),
        Client::Windsurf => within("mcpServers", json!({"serverUrl": url, "headers": headers})),
        Client::Cursor => within("mcpServers", json!({"url": url, "headers": headers})),
        Client::Zed => within("context_servers", json!({"url": url, "headers": headers})),
        Client::Json => within(
            "mcpServers",
            json!({"type": "http", "url": url, "headers": headers}),
        ),
    };
    (text, place)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn toml_text(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each names where it is, and has a place for a token.
    #[test]
    fn every_form_says_where_to_connect() {
        for client in Client::value_variants() {
            let (text, place) = reached(*client, "https://skills.example.com/mcp");
            assert!(!place.is_empty());
            assert!(text.contains("https://skills.example.com/mcp"), "{text}");
            assert!(text.contains("Bearer TOKEN"), "{text}");
            match client {
                Client::ClaudeCode => {}
                Client::Codex => {
                    text.parse::<toml_edit::DocumentMut>().unwrap();
                }
                _ => {
                    serde_json::from_str::<Value>(&text).unwrap();
                }
            }
        }
    }

    /// The other way to tell a client asks for all that this one does.
    #[test]
    fn what_was_asked_for_is_repeated() {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            args: ConfigArgs,
        }
        for (typed, command) in [
            (&["claude-code"][..], "`skillhost mcp config json`"),
            (
                &["claude-code", "--http", "http://127.0.0.1:7411/mcp"],
                "`skillhost mcp config json --http http://127.0.0.1:7411/mcp`",
            ),
            (
                &[
                    "claude-code",
                    "--search",
                    "--tenant",
                    "acme inc",
                    "--secret-from",
                    "a=env:A",
                    "text-stats",
                    "b c",
                ],
                "`skillhost mcp config json --secret-from a=env:A --tenant 'acme inc' --search text-stats 'b c'`",
            ),
        ] {
            let typed = ["config"].iter().chain(typed);
            let Typed { args } = clap::Parser::try_parse_from(typed).unwrap();
            let (_, place) = shown(args.client, "skillhost", &[], None);
            let place = args.in_place(place);
            assert!(place.contains(command), "{place}");
        }
    }

    /// No argument has a password in it, which everybody on the machine would see.
    #[test]
    fn a_database_with_a_password_goes_into_the_environment() {
        let url = "postgres://me:p'ss@host/jobs";
        for client in Client::value_variants() {
            let (text, _) = shown(*client, "skillhost", &["mcp".to_owned()], Some(url));
            match client {
                Client::ClaudeCode => {
                    let expected = r#"claude mcp add --env 'SKILLHOST_DATABASE=postgres://me:p'\''ss@host/jobs' --scope user skillhost -- skillhost mcp"#;
                    assert_eq!(text, expected);
                }
                Client::Codex => {
                    let read: toml_edit::DocumentMut = text.parse().unwrap();
                    let server = &read["mcp_servers"]["skillhost"];
                    assert_eq!(server["env"][DATABASE].as_str(), Some(url));
                    assert!(!server["args"].to_string().contains("host/jobs"));
                }
                _ => {
                    let read: Value = serde_json::from_str(&text).unwrap();
                    let servers = read.as_object().unwrap().values().next().unwrap();
                    let server = &servers["skillhost"];
                    assert_eq!(server["env"][DATABASE], url);
                    assert_eq!(server["args"], json!(["mcp"]));
                }
            }
        }
    }

    /// What each says can be read back, whatever stands in a path.
    #[test]
    fn every_form_says_the_same() {
        let program = "/opt/my \"tools\"/skillhost";
        let arguments = ["mcp".to_owned(), "it's".to_owned()];
        for client in Client::value_variants() {
            let (text, place) = shown(*client, program, &arguments, None);
            assert!(!place.is_empty());
            let (command, args) = match client {
                Client::ClaudeCode => {
                    let expected = r#"claude mcp add --scope user skillhost -- '/opt/my "tools"/skillhost' mcp 'it'\''s'"#;
                    assert_eq!(text, expected);
                    continue;
                }
                Client::Codex => {
                    let read: toml_edit::DocumentMut = text.parse().unwrap();
                    let server = &read["mcp_servers"]["skillhost"];
                    let args = server["args"].as_array().unwrap();
                    let args = args.iter().map(|word| word.as_str().unwrap().to_owned());
                    (
                        server["command"].as_str().unwrap().to_owned(),
                        args.collect::<Vec<_>>(),
                    )
                }
                _ => {
                    let read: Value = serde_json::from_str(&text).unwrap();
                    let servers = read.as_object().unwrap().values().next().unwrap();
                    let server = &servers["skillhost"];
                    let args = serde_json::from_value::<Vec<String>>(server["args"].clone());
                    (
                        server["command"].as_str().unwrap().to_owned(),
                        args.unwrap(),
                    )
                }
            };
            assert_eq!(
                (command.as_str(), args.as_slice()),
                (program, &arguments[..])
            );
        }
    }
}

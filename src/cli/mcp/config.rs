//! `skillhost mcp config`: what to put into the configuration of a client.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};
use skillhost::grant::shell_word;

use crate::cli::Session;
use crate::cli::console::print;
use crate::cli::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  skillhost mcp config claude-code
  skillhost mcp config vscode text-stats csv-query
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
pub fn config(args: &ConfigArgs, session: &Session) -> anyhow::Result<Exit> {
    let program = std::env::current_exe()?.display().to_string();
    let mut arguments = vec!["mcp".to_owned()];
    if let Some(home) = &session.home {
        arguments.extend(["--home".to_owned(), absolute(home)?]);
    }
    if let Some(policy) = &session.policy {
        arguments.extend(["--policy".to_owned(), absolute(policy)?]);
    }
    if args.search {
        arguments.push("--search".to_owned());
    }
    for skill in &args.skills {
        // A client starts it in whatever folder it likes.
        arguments.push(match skill.exists() {
            true => absolute(skill)?,
            false => skill.display().to_string(),
        });
    }
    let (text, place) = shown(args.client, &program, &arguments);
    print(format_args!("{}\n", text.trim_end()))?;
    session.console.note(place);
    Ok(Exit::Success)
}

fn absolute(path: &std::path::Path) -> anyhow::Result<String> {
    Ok(std::path::absolute(path)?.display().to_string())
}

/// What to put where.
fn shown(client: Client, program: &str, arguments: &[String]) -> (String, &'static str) {
    let plain = json!({"command": program, "args": arguments});
    let within = |key: &str, server: Value| pretty(&json!({key: {"skillhost": server}}));
    match client {
        Client::ClaudeCode => {
            let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
            let words: Vec<_> = words.map(shell_word).collect();
            let line = format!(
                "claude mcp add --scope user skillhost -- {}",
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
            within(
                "servers",
                json!({"type": "stdio", "command": program, "args": arguments}),
            ),
            "into .vscode/mcp.json of a project, or `MCP: Open User Configuration`",
        ),
        Client::Codex => {
            let arguments: Vec<_> = arguments.iter().map(|word| toml_text(word)).collect();
            let text = format!(
                "[mcp_servers.skillhost]\ncommand = {}\nargs = [{}]\n",
                toml_text(program),
                arguments.join(", ")
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

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn toml_text(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each says can be read back, whatever stands in a path.
    #[test]
    fn every_form_says_the_same() {
        let program = "/opt/my \"tools\"/skillhost";
        let arguments = ["mcp".to_owned(), "it's".to_owned()];
        for client in Client::value_variants() {
            let (text, place) = shown(*client, program, &arguments);
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

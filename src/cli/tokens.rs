//! `skillhost tokens`: who may come in over the network.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;
use skillhost::queue::Queue;
use skillhost::serve::{NewToken, Scope, Scopes, TokenError, TokenInfo, Tokens};
use skillhost::text::printable;

use super::complaint::Complaint;
use super::console::{GOOD, print, print_json, styled};
use super::database::DatabaseArgs;
use super::exit::Exit;
use super::jobs::{Moment, moment, written};
use super::table::Table;
use super::tenant::warn_of_misspelt;
use super::{Session, explain};

const EXAMPLES: &str = "\
Examples:
  Let a program of the tenant acme execute skills and submit jobs, for 90 days:
    skillhost tokens create --tenant acme --scope execute --scope jobs \\
        --expires 90d
  See which there are, and take one back:
    skillhost tokens list
    skillhost tokens revoke 0f3a6c2e91b4";

/// Make, list and revoke tokens for `skillhost serve`
///
/// A token acts for one tenant, and may do what its scopes say. It is shown once, when it is made;
/// what is kept of it, in the queue's database, is its SHA-256. Once there was a token, nobody gets in
/// without one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct TokensArgs {
    #[command(subcommand)]
    command: TokensCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    Create(CreateArgs),
    /// List tokens: never their secrets
    List(ListArgs),
    /// Revoke a token: within a second, nobody gets in with it
    Revoke(RevokeArgs),
}

/// Make a token, and print it: it is shown this once
#[derive(Debug, Args)]
struct CreateArgs {
    /// The tenant that it acts for: it sees and touches this tenant's jobs alone
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: String,
    /// What it may do: execute, jobs, install, approve or administer; may be given several times
    ///
    /// `install` and `administer` concern everybody: `install` puts skills in and takes them out,
    /// `administer` pauses and bounds queues, and reads the policy, all statistics and metrics.
    #[arg(long, value_name = "SCOPE", required = true, value_parser = str::parse::<Scope>)]
    scope: Vec<Scope>,
    /// When it stops to hold: a time, or so long from now, such as 90d; not by itself unless given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment)]
    expires: Option<Moment>,
    /// A name for people
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// Print the token and what is kept of it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The token's id, as `tokens list` shows it
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: String,
}

/// Carries one of the commands out.
///
/// # Errors
/// Where the queue's database cannot be used, or what was typed makes no sense.
pub fn tokens(args: TokensArgs, session: &Session) -> anyhow::Result<Exit> {
    let TokensArgs { command, database } = args;
    database.with(session, async |queue, _| match command {
        TokensCommand::Create(args) => create(args, queue, session).await,
        TokensCommand::List(args) => list(&args, queue, session).await,
        TokensCommand::Revoke(args) => revoke(&args, queue, session).await,
    })
}

async fn create(args: CreateArgs, queue: Queue, session: &Session) -> anyhow::Result<Exit> {
    let now = queue.now();
    let policy = session.policy_file()?.read().ok().flatten();
    warn_of_misspelt(&args.tenant, policy.as_ref(), session.console);
    let new = NewToken {
        name: args.name,
        tenant: args.tenant,
        scopes: args.scope.into_iter().collect(),
        expires_at: args.expires.map(|expires| expires.from(now)),
    };
    let made = Tokens::new(queue).create(new).await;
    let (token, info) = made.map_err(|error| match error {
        TokenError::Queue(error) => explain::queue(error),
        TokenError::Random(_) => Complaint::new(Exit::Host, error.to_string()),
        error => Complaint::usage(error.to_string()),
    })?;
    if args.json {
        let kept = shown(&info);
        print_json(
            session.console,
            &json!({"token": token.reveal(), "kept": kept}),
        )?;
        return Ok(Exit::Success);
    }
    print(format_args!("{}\n", token.reveal()))?;
    session.console.note(format_args!(
        "{} token {} for tenant `{}`; it is not shown again",
        styled(GOOD, "✓"),
        info.id,
        printable(&info.tenant, false)
    ));
    Ok(Exit::Success)
}

/// What is shown of a token: everything but its hash.
fn shown(info: &TokenInfo) -> serde_json::Value {
    json!({
        "id": info.id, "name": info.name, "tenant": info.tenant, "scopes": info.scopes,
        "created_at": info.created_at, "expires_at": info.expires_at,
        "revoked_at": info.revoked_at,
    })
}

async fn list(args: &ListArgs, queue: Queue, session: &Session) -> anyhow::Result<Exit> {
    let now = queue.now();
    let tokens = Tokens::new(queue).list().await.map_err(explain::queue)?;
    if args.json {
        let tokens: Vec<_> = tokens.iter().map(shown).collect();
        print_json(session.console, &tokens)?;
        return Ok(Exit::Success);
    }
    if tokens.is_empty() {
        session.console.note("no tokens");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(0);
    table.row(["id", "tenant", "scopes", "holds", "made", "name"].map(str::to_owned));
    for token in tokens {
        let holds = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(at)) if at <= now => "expired".to_owned(),
            (None, Some(at)) => format!("until {}", written(at)),
            (None, None) => "yes".to_owned(),
        };
        table.row([
            token.id,
            printable(&token.tenant, false).into_owned(),
            names(token.scopes),
            holds,
            written(token.created_at),
            printable(&token.name, false).into_owned(),
        ]);
    }
    print(table)?;
    Ok(Exit::Success)
}

fn names(scopes: Scopes) -> String {
    let names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
    names.join(",")
}

async fn revoke(args: &RevokeArgs, queue: Queue, session: &Session) -> anyhow::Result<Exit> {
    let revoked = Tokens::new(queue).revoke(&args.id).await;
    let info = revoked.map_err(|error| {
        explain::queue(error).hint("`skillhost tokens list` shows which there are")
    })?;
    session.console.note(format_args!(
        "{} token {} is revoked",
        styled(GOOD, "✓"),
        info.id
    ));
    Ok(Exit::Success)
}

//! The flags that grant something, for every command that takes them.

use clap::{Args, ValueHint};
use skillhost::grant::{Clock, DirectoryGrant, Grants, Random};

/// What can be granted on the command line.
#[derive(Debug, Default, Args)]
pub struct GrantArgs {
    /// Grant a folder, read-only unless it ends in :rw
    ///
    /// The skill sees it under GUEST, or where that is left out, under the path that is written
    /// here.
    #[arg(
        long,
        value_name = "HOST[:GUEST][:ro|rw]",
        value_parser = str::parse::<DirectoryGrant>,
        value_hint = ValueHint::DirPath,
        help_heading = "Grants"
    )]
    pub dir: Vec<DirectoryGrant>,
    /// Give the skill an empty folder at /scratch that is gone afterwards
    #[arg(long, help_heading = "Grants")]
    pub scratch: bool,
    /// Grant an environment variable; none is inherited
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable, help_heading = "Grants")]
    pub env: Vec<(String, String)>,
    /// Give a configuration key a value
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting, help_heading = "Grants")]
    pub config: Vec<(String, String)>,
    /// `system`, or the time at which the skill's clocks stand still, such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = str::parse::<Clock>, help_heading = "Grants")]
    pub clock: Option<Clock>,
    /// `system`, or `seed:N` for random numbers that are the same each time
    #[arg(
        long,
        value_name = "SOURCE",
        value_parser = str::parse::<Random>,
        help_heading = "Grants"
    )]
    pub random: Option<Random>,
}

impl GrantArgs {
    /// What is granted by all flags together.
    pub fn grants(self) -> Grants {
        let mut grants = Grants {
            directories: self.dir,
            scratch: self.scratch,
            clock: self.clock.unwrap_or_default(),
            random: self.random.unwrap_or_default(),
            ..Grants::default()
        };
        for (key, value) in self.env {
            grants = grants.environment(key, value);
        }
        for (key, value) in self.config {
            grants = grants.config(key, value);
        }
        grants
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name is empty; write KEY=VALUE".into()),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!(
            "nothing is inherited from this environment; write the value out: {text}=VALUE"
        )),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_value_says_that_nothing_is_inherited() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("HOME").unwrap_err().contains("HOME=VALUE"));
        assert!(variable("=x").is_err());
        assert!(setting("x").is_err());
    }
}

//! `flows token new`: a token for its holder, and the section that lets them read.

use std::io::{self, Write};

use flows::config::{EXPIRY, Expiry, TOKEN_NAME, is_stream_name, is_token_name};
use flows::token;

/// A token that is to be made.
#[derive(clap::Args)]
pub(crate) struct New {
    /// What the log calls it: letters, digits, '_', '.' and '-'
    #[arg(value_parser = name)]
    name: String,
    /// The streams that it may read [default: all, also those that are added]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = stream)]
    streams: Vec<String>,
    /// A day, whose midnight UTC it means, or an instant (RFC 3339), after which it is of no use [default: never]
    #[arg(long, value_name = "DATE", value_parser = expiry)]
    expires: Option<String>,
}

impl New {
    /// Makes it, and prints it.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let token = token::new()?;
        let hash = token::hex(&token::sha256(&token));
        let mut out = io::stdout().lock();
        writeln!(out, "{token}\n")?;
        writeln!(
            out,
            "[[auth.tokens]]\nname = \"{}\"\nsha256 = \"{hash}\"",
            self.name
        )?;
        if !self.streams.is_empty() {
            writeln!(out, "streams = [\"{}\"]", self.streams.join("\", \""))?;
        }
        if let Some(expires) = &self.expires {
            writeln!(out, "expires = \"{expires}\"")?;
        }
        Ok(out.flush()?)
    }
}

fn name(text: &str) -> Result<String, String> {
    let name = is_token_name(text).then(|| text.to_owned());
    name.ok_or_else(|| format!("it must be {TOKEN_NAME}"))
}

fn stream(text: &str) -> Result<String, String> {
    let name = is_stream_name(text).then(|| text.to_owned());
    name.ok_or_else(|| "it must be names of streams, with commas between them".to_owned())
}

fn expiry(text: &str) -> Result<String, String> {
    let expiry = Expiry::read(text).filter(|expiry| !expiry.is_over());
    let expiry = expiry.map(|expiry| expiry.text);
    expiry.ok_or_else(|| format!("it must be {EXPIRY}, in the future"))
}

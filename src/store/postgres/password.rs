//! The password of a server: out of the URL, the environment, or a file as libpq reads it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::{Host, PostgresUrl};

/// The password for a server, if there is one. What is wrong with the file of passwords is told in the log, as
/// libpq tells it.
pub(super) fn password(
    url: &PostgresUrl,
    host: &Host,
    user: &str,
    database: &str,
) -> Option<String> {
    if url.password.is_some() {
        return url.password.clone();
    }
    if let Some(password) = env::var("PGPASSWORD").ok().filter(|text| !text.is_empty()) {
        return Some(password);
    }
    let at_home = || Some(PathBuf::from(env::var_os("HOME")?).join(".pgpass"));
    let in_environment = || env::var_os("PGPASSFILE").map(PathBuf::from);
    let file = url.password_file.clone();
    let file = file.or_else(in_environment).or_else(at_home)?;
    let mode = fs::metadata(&file).ok()?.mode();
    if mode & 0o077 != 0 {
        let file = file.display();
        tracing::warn!("{file} is not used, since others may read it: chmod 600 {file}");
        return None;
    }
    let text = fs::read_to_string(&file).ok()?;
    let name = if host.is_socket() {
        "localhost"
    } else {
        &host.name
    };
    let wanted = [name, &host.port.to_string(), database, user];
    text.lines().find_map(|line| of_line(line, &wanted))
}

/// The password of a line `host:port:database:user:password`, if it is for this one. `*` is for all, and a
/// backslash makes a colon, or a backslash, a part of a field.
fn of_line(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            // The password is all of the rest.
            ':' if !escaped && fields.len() <= wanted.len() => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
        escaped = false;
    }
    let (password, fields) = fields.split_last()?;
    let matches = |(field, wanted): (&String, &&str)| field == "*" || field == wanted;
    let is_for_it = fields.len() == wanted.len() && fields.iter().zip(wanted).all(matches);
    is_for_it.then(|| password.clone())
}

#[cfg(test)]
mod tests {
    use super::of_line;

    #[test]
    fn lines_of_a_password_file() {
        let wanted = ["db", "5432", "flows", "me"];
        for (line, password) in [
            ("db:5432:flows:me:secret", Some("secret")),
            ("*:*:*:me:a\\:b:c\\\\", Some("a:b:c\\")),
            ("db:5432:flows:you:secret", None),
            ("#db:5432:flows:me:secret", None),
            ("db:5432:flows:me", None),
        ] {
            assert_eq!(of_line(line, &wanted).as_deref(), password, "{line}");
        }
    }
}

//! What `flows formats` prints of the registry.

use flows_formats::{Format, Registry};
use serde_json::{Value, json};

use crate::suggest::nearest;

/// There is no format of that name.
#[derive(Debug, thiserror::Error)]
#[error("there is no format {name:?}{}; there are: {}", suggestion.as_ref().map(|s| format!(" (did you mean {s}?)")).unwrap_or_default(), names.join(", "))]
pub struct NoFormat {
    name: String,
    suggestion: Option<String>,
    names: Vec<&'static str>,
}

/// All formats in a table, or all about the one that is named; or the same as JSON.
///
/// # Errors
/// When there is no format of that name.
pub fn formats(registry: &Registry, name: Option<&str>, json: bool) -> Result<String, NoFormat> {
    let Some(name) = name else {
        return Ok(if json {
            let all: Value = registry.iter().map(described).collect();
            format!("{all:#}\n")
        } else {
            table(registry)
        });
    };
    let format = named(registry, name)?;
    Ok(if json {
        format!("{:#}\n", described(format))
    } else {
        page(format)
    })
}

/// The format of that name.
///
/// # Errors
/// When there is none.
pub fn named(registry: &Registry, name: &str) -> Result<&'static Format, NoFormat> {
    registry.get(name).ok_or_else(|| {
        let names: Vec<_> = registry.iter().map(|format| format.name).collect();
        NoFormat {
            suggestion: nearest(name, &names).map(str::to_owned),
            name: name.to_owned(),
            names,
        }
    })
}

fn table(registry: &Registry) -> String {
    let mut table = format!(
        "{:8} {:63} {:15} SUMMARY\n",
        "NAME", "MEDIA TYPES", "EXTENSIONS"
    );
    for format in registry.iter() {
        let (media_types, extensions) = (media_types(format), extensions(format));
        let (name, summary) = (format.name, format.summary);
        table += &format!("{name:8} {media_types:63} {extensions:15} {summary}\n");
    }
    table
}

fn media_types(format: &Format) -> String {
    format.named_by().collect::<Vec<_>>().join(", ")
}

fn extensions(format: &Format) -> String {
    let extensions = format.extensions.iter();
    let extensions: Vec<_> = extensions
        .map(|extension| format!(".{extension}"))
        .collect();
    extensions.join(", ")
}

fn page(format: &Format) -> String {
    let mut page = format!(
        "{}: {}\nmedia types: {}\nextensions:  {}\n",
        format.name,
        format.summary,
        media_types(format),
        extensions(format)
    );
    if !format.options.is_empty() {
        page += "options, as query parameters:\n";
    }
    for option in format.options {
        let (allowed, default) = (option.allowed.listed().join("  "), option.default);
        page += &format!("  {}.{}={default}\n", format.name, option.name);
        page += &format!("      {}. One of: {allowed}\n", option.summary);
    }
    page
}

fn described(format: &Format) -> Value {
    let options = format.options.iter().map(|option| {
        json!({
            "name": format!("{}.{}", format.name, option.name),
            "allowed": option.allowed.listed(),
            "default": option.default,
            "summary": option.summary,
        })
    });
    json!({
        "name": format.name,
        "media_types": format.named_by().collect::<Value>(),
        "extension": format.extension(),
        "extensions": format.extensions,
        "summary": format.summary,
        "compressed": format.compressed,
        "raw": format.raw,
        "options": options.collect::<Value>(),
    })
}

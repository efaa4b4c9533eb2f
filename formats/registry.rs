//! The registry: every format linked into the program, by name.

use crate::Format;

/// All formats of the program, sorted by name.
///
/// ```
/// let registry = flows_formats::Registry::load()?;
/// assert!(registry.get("json").is_some());
/// assert!(registry.get("cobol").is_none());
/// # Ok::<(), flows_formats::RegistryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry(Vec<&'static Format>);

/// Two formats claim the same name or the same extension.
#[derive(Debug, thiserror::Error)]
#[error(
    "two formats register the {what} {key:?}: {first} and {second}; rename one of them in formats/"
)]
pub struct RegistryError {
    what: &'static str,
    key: &'static str,
    first: &'static str,
    second: &'static str,
}

impl Registry {
    /// Collects what was submitted to `inventory`.
    ///
    /// # Errors
    /// When two formats share a name or an extension: a client could not tell them apart.
    pub fn load() -> Result<Registry, RegistryError> {
        let mut formats: Vec<_> = inventory::iter::<Format>.into_iter().collect();
        formats.sort_by_key(|format| format.name);
        for (i, second) in formats.iter().enumerate() {
            for first in &formats[..i] {
                let mut shared = second.extensions.iter();
                let extension = shared.find(|extension| first.extensions.contains(extension));
                let extension = extension.map(|extension| ("extension", *extension));
                let name = (first.name == second.name).then_some(("name", first.name));
                if let Some((what, key)) = name.or(extension) {
                    let (first, second) = (first.summary, second.summary);
                    return Err(RegistryError {
                        what,
                        key,
                        first,
                        second,
                    });
                }
            }
        }
        Ok(Registry(formats))
    }

    /// The format of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<&'static Format> {
        self.iter().find(|format| format.name == name)
    }

    /// The format whose files end in `.extension`, if there is one.
    pub fn by_extension(&self, extension: &str) -> Option<&'static Format> {
        self.iter()
            .find(|format| format.extensions.contains(&extension))
    }

    /// Every format, by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Format> + '_ {
        self.0.iter().copied()
    }
}

//! What a client may ask of a format beyond its name: [`FormatOption`], [`Options`].

/// An option of a format. Clients set it by the query parameter `FORMAT.OPTION`.
#[derive(Debug)]
pub struct FormatOption {
    /// The part of the parameter's name after the format's. Lower-case letters, digits and `_`.
    pub name: &'static str,
    /// What a client may ask for.
    pub allowed: Allowed,
    /// What a client gets that does not ask.
    pub default: &'static str,
    /// One line that says what it decides.
    pub summary: &'static str,
}

/// The values that an option may have.
#[derive(Debug)]
pub enum Allowed {
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A decimal integer, both bounds included.
    Integer {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
    },
}

/// `true` or `false`.
pub const BOOLEAN: Allowed = Allowed::OneOf(&["true", "false"]);

impl Allowed {
    /// Whether a value is allowed.
    ///
    /// ```
    /// use flows_formats::Allowed;
    /// let rows = Allowed::Integer { least: 1, most: 10 };
    /// assert!(rows.allows("7") && !rows.allows("+7") && !rows.allows("11"));
    /// ```
    pub fn allows(&self, value: &str) -> bool {
        match self {
            Allowed::OneOf(values) => values.contains(&value),
            Allowed::Integer { least, most } => {
                value.bytes().all(|byte| byte.is_ascii_digit())
                    && value
                        .parse()
                        .is_ok_and(|value| (*least..=*most).contains(&value))
            }
        }
    }

    /// Every value, or the range of them, for messages and documentation.
    ///
    /// ```
    /// use flows_formats::Allowed;
    /// assert_eq!(Allowed::OneOf(&[",", "\t"]).listed(), [",", "%09 (tab)"]);
    /// assert_eq!(Allowed::Integer { least: 1, most: 10 }.listed(), ["1 to 10"]);
    /// ```
    pub fn listed(&self) -> Vec<String> {
        match self {
            // A tab cannot be typed: as it is written in a URL.
            Allowed::OneOf(values) => values
                .iter()
                .map(|value| value.replace('\t', "%09 (tab)"))
                .collect(),
            Allowed::Integer { least, most } => vec![format!("{least} to {most}")],
        }
    }
}

/// The options of one document: what the client asked for, and the defaults for the rest.
#[derive(Clone, Debug)]
pub struct Options {
    declared: &'static [FormatOption],
    /// For each declared option.
    values: Vec<String>,
}

impl Options {
    /// The defaults of these options.
    pub fn new(declared: &'static [FormatOption]) -> Options {
        let values = declared.iter().map(|option| option.default.to_owned());
        Options {
            declared,
            values: values.collect(),
        }
    }

    /// Sets an option. `Err` says what is allowed instead: the option's values, or if there is no
    /// such option `None`.
    ///
    /// # Errors
    /// When there is no such option, or it has no such value; nothing has changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Option<&'static Allowed>> {
        let at = self.at(name).ok_or(None)?;
        let allowed = &self.declared[at].allowed;
        if !allowed.allows(value) {
            return Err(Some(allowed));
        }
        value.clone_into(&mut self.values[at]);
        Ok(())
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.declared.iter().position(|option| option.name == name)
    }

    /// The value of an option that the format declares.
    ///
    /// # Panics
    /// When the format does not declare it.
    pub fn get(&self, name: &str) -> &str {
        let at = self.at(name);
        let at = at.unwrap_or_else(|| panic!("the format does not declare the option {name}"));
        &self.values[at]
    }

    /// The value of an option that is an integer.
    ///
    /// # Panics
    /// When the format does not declare it, or not as an integer.
    pub fn integer(&self, name: &str) -> u32 {
        let value = self.get(name).parse();
        value.unwrap_or_else(|_| panic!("the format does not declare {name} as an integer"))
    }
}

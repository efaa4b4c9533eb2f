//! The text of a configuration file is taken or refused, and what is taken can be served.
#![no_main]

use std::sync::{Arc, LazyLock};

use flows::config::Config;
use flows::http::App;
use flows::selection::View;
use flows::store::sqlite::Sqlite;
use flows_formats::{Options, Registry};
use libfuzzer_sys::fuzz_target;

static FORMATS: LazyLock<Registry> = LazyLock::new(|| Registry::load().unwrap());

fuzz_target!(|text: &str| {
    let config = match Config::parse(text, &FORMATS) {
        Ok(config) => config,
        Err(error) => {
            // Whoever has to fix it reads one line.
            let message = error.to_string();
            assert!(
                !message.is_empty() && !message.contains('\n'),
                "{message:?}"
            );
            return;
        }
    };
    for stream in &config.streams {
        assert!(!stream.schema.columns.is_empty());
        let format = FORMATS.get(&stream.default_format).unwrap();
        let view = View::all(Arc::clone(stream));
        // A format may refuse a schema, but says why.
        if let Err(error) = format.new_encoder(&view.schema, &Options::new(format.options)) {
            assert!(!error.to_string().is_empty());
        }
        assert!(config.served().iter().any(|(database, streams)| {
            database.name == stream.database
                && streams.iter().any(|known| Arc::ptr_eq(known, stream))
        }));
    }
    let app = App::new(&config, FORMATS.clone(), |database| {
        Arc::new(Sqlite::new(database))
    });
    match app.and_then(|app| app.changed(&config, FORMATS.clone())) {
        Ok(_) => {}
        // Its certificate is not there.
        Err(error) => assert!(config.server.tls.is_some(), "{error}"),
    }
});

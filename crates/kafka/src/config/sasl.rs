//! Checks the options about authentication against what this build of librdkafka can do.

use crate::{Error, Options};

/// The values of `security.protocol`.
pub(super) const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

const MECHANISMS: &str = "set one that this build has: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";

/// Returns the `security.protocol` of these options.
pub(super) fn protocol(options: &Options) -> &str {
    options.get("security.protocol").map_or(PROTOCOLS[0], String::as_str)
}

/// Returns the protocol that differs from `protocol` only in that it has no TLS, if there is one.
pub(super) fn without_tls(protocol: &str) -> Option<&'static str> {
    match protocol {
        "ssl" => Some("plaintext"),
        "sasl_ssl" => Some("sasl_plaintext"),
        _ => None,
    }
}

/// Refuses mechanisms that this build of librdkafka lacks, before librdkafka does so in words about
/// its compilation or, with OAUTHBEARER, waits for a token that nothing provides.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    let is_oidc = |method: &String| method.eq_ignore_ascii_case("oidc");
    if options.get("sasl.oauthbearer.method").is_some_and(is_oidc) {
        let reason = format!("OIDC is not built in; {MECHANISMS}");
        return Err(Error::Setting { setting: "sasl.oauthbearer.method", reason });
    }
    // The first is an alias of the second.
    let (setting, given) = match options.get("sasl.mechanism") {
        Some(given) => ("sasl.mechanism", Some(given)),
        None => ("sasl.mechanisms", options.get("sasl.mechanisms")),
    };
    let refused = |reason: String| Err(Error::Setting { setting, reason });
    let uses_sasl = protocol(options).to_ascii_lowercase().starts_with("sasl");
    match given.map(String::as_str) {
        None if uses_sasl => refused(format!(
            "it is needed with `security.protocol` = {:?}; {MECHANISMS}",
            protocol(options)
        )),
        Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512") | None => Ok(()),
        // Tokens without a signature, for tests, are the only ones that librdkafka makes by itself.
        Some("OAUTHBEARER")
            if options.get("enable.sasl.oauthbearer.unsecure.jwt").map(String::as_str)
                == Some("true") =>
        {
            Ok(())
        }
        Some(name) => refused(format!("{name} is not built in; {MECHANISMS}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::{SinkConfig, SourceConfig};

    fn checked(options: &[(&str, &str)]) -> Result<(), String> {
        let mut source = SourceConfig::new("kafka:9092", "requests", "g");
        let mut sink = SinkConfig::new("kafka:9092", "replies");
        for (name, value) in options {
            for options in [&mut source.options, &mut sink.options] {
                options.insert((*name).to_owned(), (*value).to_owned());
            }
        }
        let checked = source.validate().map_err(|error| error.to_string());
        assert_eq!(checked, sink.validate().map_err(|error| error.to_string()));
        checked
    }

    #[test]
    fn mechanisms_that_this_build_lacks_are_refused() {
        let sasl = ("security.protocol", "SASL_SSL");
        for (mechanism, expected) in [
            ("GSSAPI", "GSSAPI is not built in; set one that this build has: PLAIN, "),
            ("OAUTHBEARER", "OAUTHBEARER is not built in; "),
            ("AWS_MSK_IAM", "AWS_MSK_IAM is not built in; "),
            ("plain", "plain is not built in; set one that this build has: PLAIN, "),
        ] {
            for option in ["sasl.mechanisms", "sasl.mechanism"] {
                let error = checked(&[sasl, (option, mechanism)]).unwrap_err();
                let expected = format!("invalid {option}: {expected}");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
        let error = checked(&[sasl]).unwrap_err();
        assert!(error.contains("it is needed with `security.protocol` = \"SASL_SSL\""), "{error}");
        let error = checked(&[sasl, ("sasl.oauthbearer.method", "oidc")]).unwrap_err();
        assert!(
            error.starts_with("invalid sasl.oauthbearer.method: OIDC is not built in"),
            "{error}"
        );
    }

    #[test]
    fn mechanisms_that_this_build_has_are_accepted() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let options = [
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanisms", mechanism),
                ("sasl.username", "u"),
                ("sasl.password", "p"),
                // The file need not exist where a pipeline is only checked.
                ("ssl.ca.location", "/no/such/file.pem"),
            ];
            assert_eq!(checked(&options), Ok(()));
        }
    }
}

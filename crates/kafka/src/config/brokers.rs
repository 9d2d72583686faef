//! Checks the addresses of bootstrap servers.

use super::sasl;
use crate::{Error, Options};

/// Returns the addresses of bootstrap servers without spaces.
///
/// librdkafka ignores an address that it cannot read, or takes parts of it for something else, and
/// the only symptom is that no broker answers.
pub(super) fn addresses(brokers: &str, options: &Options) -> Result<String, Error> {
    if brokers.trim().is_empty() {
        return Err(invalid("at least one host:port is needed".to_owned()));
    }
    let addresses = brokers.split(',').map(|address| {
        let address = address.trim();
        check(address, sasl::protocol(options))?;
        Ok(address)
    });
    Ok(addresses.collect::<Result<Vec<_>, Error>>()?.join(","))
}

fn invalid(reason: String) -> Error {
    Error::Setting { setting: "brokers", reason }
}

fn check(address: &str, security_protocol: &str) -> Result<(), Error> {
    if address.is_empty() {
        return Err(invalid("an entry is empty; remove the comma too many".to_owned()));
    }
    let host = match address.split_once("://") {
        Some((scheme, rest)) if !scheme.eq_ignore_ascii_case(security_protocol) => {
            let rest = rest.split('/').next().unwrap_or(rest);
            let is_known = sasl::PROTOCOLS.iter().any(|name| name.eq_ignore_ascii_case(scheme));
            let option = if is_known {
                let protocol = scheme.to_ascii_uppercase();
                format!(", and \"security.protocol\" = \"{protocol}\" among the options")
            } else {
                String::new()
            };
            let reason = format!("{address:?} has a scheme; write \"{rest}\"{option}");
            return Err(invalid(reason));
        }
        Some((_, rest)) => rest,
        None => address,
    };
    let Some((name, port)) = host.rsplit_once(':') else {
        return Err(invalid(format!("{address:?} has no port; write it as \"{address}:9092\"")));
    };
    if !matches!(port.parse::<u16>(), Ok(1..)) || port.starts_with('+') {
        return Err(invalid(format!(
            "{port:?} in {address:?} is not a port, which is a number from 1 to 65535"
        )));
    }
    if name.is_empty() {
        return Err(invalid(format!("{address:?} has no host before its port")));
    }
    if name.contains(':') && !(name.starts_with('[') && name.ends_with(']')) {
        return Err(invalid(format!(
            "{address:?} has several colons; write the entries as host:port, separated by commas, and an IPv6 address \
             in brackets, as in \"[::1]:9092\""
        )));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || "/;\"'".contains(c)) {
        return Err(invalid(format!("{name:?} in {address:?} is not the name of a host")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::addresses;
    use crate::Options;

    fn checked(brokers: &str) -> Result<String, String> {
        addresses(brokers, &Options::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_that_work_are_accepted() {
        for (brokers, expected) in [
            ("kafka:9092", "kafka:9092"),
            ("10.0.0.1:9092, kafka-2.example.com:9093 ", "10.0.0.1:9092,kafka-2.example.com:9093"),
            ("[::1]:9092", "[::1]:9092"),
            ("PLAINTEXT://kafka:9092", "PLAINTEXT://kafka:9092"),
        ] {
            assert_eq!(checked(brokers).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_with_the_reason() {
        for (brokers, expected) in [
            (" ", "at least one host:port"),
            ("a:9092,,b:9092", "an entry is empty"),
            ("a:9092,", "an entry is empty"),
            ("http://kafka:9092", "\"http://kafka:9092\" has a scheme; write \"kafka:9092\""),
            ("http://kafka:9092/topics", "has a scheme; write \"kafka:9092\""),
            ("SSL://kafka:9093", "write \"kafka:9093\", and \"security.protocol\" = \"SSL\""),
            ("kafka", "\"kafka\" has no port; write it as \"kafka:9092\""),
            ("a:9092,b", "\"b\" has no port"),
            ("kafka:", "\"\" in \"kafka:\" is not a port"),
            ("kafka:9092/", "\"9092/\" in \"kafka:9092/\" is not a port"),
            ("kafka:99999", "is not a port"),
            ("kafka:0", "is not a port"),
            ("kafka:+1", "is not a port"),
            (":9092", "has no host"),
            ("a:9092 b:9092", "has several colons"),
            ("a:9092;b:9092", "has several colons"),
            ("::1:9092", "an IPv6 address in brackets"),
            ("my kafka:9092", "is not the name of a host"),
        ] {
            let error = checked(brokers).unwrap_err();
            assert!(error.starts_with("invalid brokers: ") && error.contains(expected), "{error}");
        }
    }
}

//! `DropHeaders`: the headers of a request that its reply does not get.

/// Names of headers that a reply does not take over from its request.
///
/// A name is compared exactly; one that ends in `*` stands for all names that begin with the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropHeaders(Vec<String>);

impl DropHeaders {
    /// Headers that describe the request's value and would be wrong for the reply: the classes that
    /// Spring deserialises a value to, a compression, the attributes of a `CloudEvents` event; and
    /// Forebay's own, such as an error code that an earlier pipeline has left.
    pub const DEFAULT: [&str; 6] = [
        "__TypeId__",
        "__KeyTypeId__",
        "__ContentTypeId__",
        "content-encoding",
        "ce_*",
        "forebay-*",
    ];

    /// Drops the headers with these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    pub(crate) fn contains(&self, header: &str) -> bool {
        self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(prefix) => header.starts_with(prefix),
            None => header == name,
        })
    }
}

impl Default for DropHeaders {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::DropHeaders;

    #[test]
    fn a_name_is_compared_exactly_and_a_prefix_by_its_start() {
        let drop = DropHeaders::default();
        for name in ["__TypeId__", "ce_id", "ce_", "forebay-error-code", "content-encoding"] {
            assert!(drop.contains(name), "{name}");
        }
        for name in ["__typeid__", "__TypeId__2", "ce", "kafka_correlationId", "traceparent", ""] {
            assert!(!drop.contains(name), "{name}");
        }
        assert!(DropHeaders::new(["*"]).contains("anything"));
        assert!(!DropHeaders::new([""; 0]).contains("forebay-error-code"));
    }
}

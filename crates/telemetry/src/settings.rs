//! Where telemetry goes.
//!
//! Here live the settings, read from the environment in the words of OpenTelemetry, and from `[telemetry]` of the
//! configuration. Headers may hold a key, so they come from the environment only.

use percent_encoding::percent_decode_str;
use quorate_model::{Error, Result};
use std::time::Duration;

/// How often something is sent, unless `OTEL_BSP_SCHEDULE_DELAY` says so (in milliseconds).
const SEND_EVERY: Duration = Duration::from_secs(5);
/// And at most.
const SEND_LEAST: Duration = Duration::from_millis(100);

/// Where telemetry goes, and as whose.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub(crate) is_encrypted: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before `/v1/traces`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// What describes the sender: `service.name` and whatever else is asked for.
    pub(crate) resource: Vec<(String, String)>,
    /// How often something is sent.
    pub(crate) send_every: Duration,
}

/// Shows no header: it may hold a key.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings({}:{}{})", self.host, self.port, self.path)
    }
}

impl Settings {
    /// Reads the settings; `None` if no endpoint is named. The environment comes before the configuration.
    ///
    /// # Errors
    /// `Invalid` for an address or a protocol that is not known.
    pub fn read(configured: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Option<Settings>> {
        let set = |name: &str| env(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| configured.map(str::to_owned));
        let Some(endpoint) = endpoint else { return Ok(None) };
        match set("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
            None | Some("http/protobuf") => {}
            Some(other) => {
                return Err(Error::invalid(format!("OTEL_EXPORTER_OTLP_PROTOCOL `{other}` is not spoken"))
                    .hint(
                        "leave it out, or set it to `http/protobuf`; collectors listen for it on port 4318",
                    ));
            }
        }
        let (is_encrypted, host, port, path) = address(&endpoint)?;
        let headers = pairs(&set("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default());
        let mut resource = pairs(&set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        resource.retain(|(key, _)| key != crate::names::SERVICE_NAME);
        let name = set("OTEL_SERVICE_NAME").unwrap_or_else(|| crate::names::SCOPE.to_owned());
        resource.insert(0, (crate::names::SERVICE_NAME.to_owned(), name));
        let delay = set("OTEL_BSP_SCHEDULE_DELAY").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        let send_every = delay.map_or(SEND_EVERY, |delay| delay.max(SEND_LEAST));
        Ok(Some(Settings { is_encrypted, host, port, path, headers, resource, send_every }))
    }
}

fn address(text: &str) -> Result<(bool, String, u16, String)> {
    let wrong = || {
        Error::invalid("the OTLP endpoint is no address that is known")
            .hint("write where a collector listens for HTTP, as in `http://127.0.0.1:4318`")
    };
    let (is_encrypted, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(wrong()),
    };
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (place, if is_encrypted { 443 } else { 80 }),
    };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
    if host.is_empty() || !host.chars().all(is_plain) || !path.chars().all(is_plain) {
        return Err(wrong());
    }
    Ok((is_encrypted, host.to_owned(), port, path.trim_end_matches('/').to_owned()))
}

/// Reads `key=value,key=value`, values percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((key.trim().to_owned(), value.into_owned())).filter(|(key, _)| !key.is_empty())
    };
    text.split(',').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(configured: Option<&str>, env: &[(&str, &str)]) -> Result<Option<Settings>> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::read(configured, get)
    }

    #[test]
    fn without_an_endpoint_it_is_off() {
        assert_eq!(read(None, &[]), Ok(None));
        assert_eq!(read(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "  ")]), Ok(None));
        assert_eq!(read(Some("http://a:1"), &[("OTEL_SDK_DISABLED", "true")]), Ok(None));
    }

    #[test]
    fn the_environment_comes_before_the_configuration() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/otlp/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, x-scope = a=b ,=c"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_SERVICE_NAME", "team"),
        ];
        let found = read(Some("http://127.0.0.1:4318"), &env).expect("read").expect("on");
        assert_eq!((found.is_encrypted, found.host.as_str(), found.port), (true, "collector.example", 443));
        assert_eq!(found.path, "/otlp");
        let texts = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect()
        };
        assert_eq!(texts(&found.headers), ["authorization: Bearer x", "x-scope: a=b"]);
        assert_eq!(texts(&found.resource), ["service.name: team", "deployment.environment.name: test"]);
        assert!(!format!("{found:?}").contains("Bearer"));
    }

    #[test]
    fn an_address_is_read_or_refused() {
        let here = read(Some("http://127.0.0.1:4318"), &[]).expect("read").expect("on");
        assert_eq!((here.host.as_str(), here.port, here.path.as_str()), ("127.0.0.1", 4318, ""));
        let six = read(Some("http://[::1]:4318"), &[]).expect("read").expect("on");
        assert_eq!((six.host.as_str(), six.port), ("[::1]", 4318));
        for wrong in
            ["127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:x", "http://user@a", "http://a b"]
        {
            assert!(read(Some(wrong), &[]).is_err(), "{wrong}");
        }
        assert!(read(Some("http://a:1"), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
    }
}

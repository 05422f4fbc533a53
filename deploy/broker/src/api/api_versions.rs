//! `ApiVersions`: what is answered here, so that a client chooses its versions.
//!
//! No feature is finalized: without `transaction.version` a client keeps to the first transaction protocol, whatever versions
//! of `Produce` and `EndTxn` are offered (KIP-890), and without `group.version` to the classic group protocol.
//! Source: `ApiVersionsRequest`, `ApiVersionsResponse` and `DefaultApiVersionManager` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::{Context, Supported, TABLE};
use crate::node::Node;

pub(crate) fn handle(_: &mut Node, request: ApiVersionsRequest, context: &Context) -> ApiVersionsResponse {
    let is_named =
        is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if context.version >= 3 && !is_named {
        return refuse(&request, ResponseError::InvalidRequest, context.version);
    }
    ApiVersionsResponse::default().with_api_keys(TABLE.iter().map(advertised).collect())
}

pub(crate) fn refuse(_: &ApiVersionsRequest, error: ResponseError, _: i16) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(error.code())
}

/// The answer to a version that is not known here, for the client to ask again in one that is (KIP-511).
pub(super) fn unsupported_version() -> ApiVersionsResponse {
    let own = TABLE.iter().filter(|api| api.key == ApiKey::ApiVersions).map(advertised).collect();
    ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()).with_api_keys(own)
}

/// `Produce` is advertised from version 0 on though none below 3 is answered: librdkafka before 2.11 takes a broker without
/// them for one that lacks the codecs of later versions (KAFKA-18659).
fn advertised(api: &Supported) -> ApiVersion {
    let min = if api.key == ApiKey::Produce { 0 } else { api.min };
    ApiVersion::default().with_api_key(api.key as i16).with_min_version(min).with_max_version(api.max)
}

/// Letters, digits, and inside also hyphens and dots; not empty.
fn is_software_name(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_kafkas() {
        for (name, expected) in [
            ("librdkafka", true),
            ("2.12.1-fips", true),
            ("a", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
        ] {
            assert_eq!(is_software_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn produce_is_advertised_from_version_0() {
        let produce = Supported { key: ApiKey::Produce, min: 3, max: 13 };
        assert_eq!((advertised(&produce).min_version, advertised(&produce).max_version), (0, 13));
    }

    #[test]
    fn an_unknown_version_is_told_which_are_known() {
        let response = unsupported_version();
        assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
        assert_eq!(response.api_keys, [ApiVersion::default().with_api_key(18).with_max_version(4)]);
    }
}

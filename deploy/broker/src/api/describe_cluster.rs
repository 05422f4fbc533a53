//! `DescribeCluster`: the one node (KIP-700).
//!
//! Source: `KafkaApis.handleDescribeCluster` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, authorized_operations};
use crate::node::{NODE_ID, Node};

/// Clients connect to brokers; controllers have an endpoint of their own, which is not here.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(node: &mut Node, request: DescribeClusterRequest, _: &Context) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message =
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return refused(ResponseError::MismatchedEndpointType, message.to_owned());
        }
        other => {
            return refused(ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"));
        }
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(i32::from(node.port));
    let mut response = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(StrBytes::from_string(node.cluster_id.clone()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![broker]);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    response
}

pub(crate) fn refuse(_: &DescribeClusterRequest, error: ResponseError, _: i16) -> DescribeClusterResponse {
    DescribeClusterResponse::default().with_error_code(error.code()).with_error_message(None)
}

fn refused(error: ResponseError, message: String) -> DescribeClusterResponse {
    let message = Some(StrBytes::from_string(message));
    DescribeClusterResponse::default().with_error_code(error.code()).with_error_message(message)
}

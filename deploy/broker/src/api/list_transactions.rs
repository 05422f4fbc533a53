//! `ListTransactions`: all transactional ids, filtered (KIP-664, KIP-994).
//!
//! Source: `TransactionStateManager.listTransactionStates` of Apache Kafka. Version 2 (a pattern for the ids, in RE2's
//! syntax) is not answered.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::Node;
use crate::transactions::transaction::{State, Transaction};

pub(crate) fn handle(node: &mut Node, request: ListTransactionsRequest, context: &Context) -> ListTransactionsResponse {
    let shown = |(id, transaction): (&str, &Transaction)| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(id.to_owned())))
            .with_producer_id(ProducerId(transaction.producer.id))
            .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
    };
    let asked_for = node.transactions.iter().filter(|(_, known)| is_asked_for(&request, known, context.now.unix_ms));
    let states = asked_for.map(shown).collect();
    let is_unknown = |name: &StrBytes| !State::NAMES.contains(&name.as_str());
    ListTransactionsResponse::default()
        .with_transaction_states(states)
        .with_unknown_state_filters(request.state_filters.into_iter().filter(is_unknown).collect())
}

pub(crate) fn refuse(_: &ListTransactionsRequest, error: ResponseError, _: i16) -> ListTransactionsResponse {
    ListTransactionsResponse::default().with_error_code(error.code())
}

/// An empty filter lets everything through. One that has begun nothing counts as running since 1970, as in Kafka.
fn is_asked_for(request: &ListTransactionsRequest, transaction: &Transaction, now_ms: i64) -> bool {
    let ListTransactionsRequest { state_filters, producer_id_filters, duration_filter, .. } = request;
    let running_ms = now_ms.saturating_sub(transaction.started_ms.unwrap_or(-1));
    (producer_id_filters.is_empty() || producer_id_filters.contains(&ProducerId(transaction.producer.id)))
        && (state_filters.is_empty() || state_filters.iter().any(|name| name.as_str() == transaction.state.name()))
        && (*duration_filter < 0 || running_ms > *duration_filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_kafkas() {
        let mut transaction = Transaction::new(7, 1_000, 0);
        let asked =
            |request: &ListTransactionsRequest, transaction: &Transaction| is_asked_for(request, transaction, 100);
        let all = ListTransactionsRequest::default();
        assert!(asked(&all, &transaction));

        let of_producer = |id| ListTransactionsRequest::default().with_producer_id_filters(vec![ProducerId(id)]);
        assert!(asked(&of_producer(7), &transaction) && !asked(&of_producer(8), &transaction));

        let in_state =
            |name| ListTransactionsRequest::default().with_state_filters(vec![StrBytes::from_static_str(name)]);
        assert!(asked(&in_state("Empty"), &transaction));
        // A name that nobody knows is still a filter: nothing is in that state.
        assert!(!asked(&in_state("Ongoing"), &transaction) && !asked(&in_state("empty"), &transaction));

        let longer_than = |ms| ListTransactionsRequest::default().with_duration_filter(ms);
        assert!(asked(&longer_than(100), &transaction), "nothing begun");
        transaction.started_ms = Some(60);
        assert!(asked(&longer_than(39), &transaction) && !asked(&longer_than(40), &transaction));
    }
}

//! Framed messages into Arrow record batches.

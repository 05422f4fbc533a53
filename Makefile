# The one list of commands. `make test` is what CI runs.

.PHONY: demo test format lint unit docs deny

demo:
	cargo run --release

test: format lint unit docs

format:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Runs on the embedded broker and on a real Apache Kafka, which it starts (needs a JDK 17, Maven and kcat); nothing else has to be running.
unit:
	cargo test --workspace --locked --no-fail-fast

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Licences, advisories and sources of dependencies; needs `cargo install cargo-deny`.
deny:
	cargo deny check

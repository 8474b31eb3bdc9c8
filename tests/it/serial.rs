//! Tests that need the machine for themselves; `make test` runs them one after another.

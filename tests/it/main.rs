//! The one integration binary: one link step, one harness.

//! The fuzz targets: the check of each, and a test that replays each corpus.
//!
//! The checks are in the library, in `src/*/fuzzing.rs`, because they use private parts. They are
//! compiled only with `--cfg fuzzing`. The test needs no fuzzer:
//!
//! ```sh
//! RUSTFLAGS="--cfg fuzzing" cargo test --manifest-path fuzz/Cargo.toml
//! ```

#[cfg(not(fuzzing))]
compile_error!("the fuzz targets need RUSTFLAGS=\"--cfg fuzzing\"");

#[cfg(fuzzing)]
mod targets;
#[cfg(fuzzing)]
pub use targets::{TARGETS, Target, run};

//! The fuzz targets: what each checks, and a test that replays each corpus.
//!
//! The checks themselves are in the library, in `src/*/fuzzing.rs`, where they may look at private
//! parts; they are compiled with `--cfg fuzzing` alone. The test needs no fuzzer:
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

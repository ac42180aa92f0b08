#!/bin/sh
# Builds all fuzz targets with the stable toolchain, into
# fuzz/target/x86_64-unknown-linux-gnu/release.
#
# The flags are those of cargo-fuzz without the address sanitizer, which needs a nightly compiler.
# libFuzzer gets its coverage from the sanitizer-coverage pass of LLVM. Of these targets, only
# ring_ops runs code with `unsafe` blocks.
#
#     fuzz/build.sh && mkdir -p fuzz/artifacts
#     fuzz/target/x86_64-unknown-linux-gnu/release/pattern_match -dict=fuzz/patterns.dict \
#         -max_len=160 -max_total_time=60 fuzz/artifacts fuzz/corpus/pattern_match
set -eu
cd "$(dirname "$0")"

# codegen-units=1 and the linker's option nostart-stop-gc keep the sections of the counters when the
# linker removes functions that are not called. With --target, build scripts do not get the flags.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Ccodegen-units=1 -Clink-arg=-Wl,-z,nostart-stop-gc ${RUSTFLAGS:-}"
exec cargo build --release --bins --target "${FUZZ_TRIPLE:-x86_64-unknown-linux-gnu}" "$@"

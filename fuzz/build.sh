#!/bin/sh
# Builds all fuzz targets with the stable toolchain, into fuzz/target/x86_64-unknown-linux-gnu/release.
#
# This is what cargo-fuzz passes, less the address sanitizer, which only a nightly compiler links:
# libFuzzer itself gets its coverage from the sanitizer-coverage pass of LLVM. The library has no
# unsafe code in what these targets run.
#
#     fuzz/build.sh && mkdir -p fuzz/artifacts
#     fuzz/target/x86_64-unknown-linux-gnu/release/pattern_match -dict=fuzz/patterns.dict \
#         -max_len=160 -max_total_time=60 fuzz/artifacts fuzz/corpus/pattern_match
set -eu
cd "$(dirname "$0")"

# codegen-units=1 and the linker's nostart-stop-gc keep the counters' sections when the linker drops
# what nobody calls. --target keeps the flags away from build scripts.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Ccodegen-units=1 -Clink-arg=-Wl,-z,nostart-stop-gc ${RUSTFLAGS:-}"
exec cargo build --release --bins --target "${FUZZ_TRIPLE:-x86_64-unknown-linux-gnu}" "$@"

//! The binary `fanout`: the engine at the command line. What it does is told by `fanout --help` and in `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

//! The command `ipc`.

fn main() -> std::process::ExitCode {
    ipc_cli::main()
}

//! Starts a server as a process of its own, and ends it with the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running server; dropping it kills the process.
pub struct Server {
    process: Child,
    /// Held open: a server whose standard output is closed could not print.
    _stdout: BufReader<ChildStdout>,
    /// `127.0.0.1:port`.
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts `program` on a free port and waits until it is ready.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(["--announce", "json", "--voices-dir"])
            .arg(folder.path().join("voices"))
            .args(arguments)
            // An `.env` file or a variable of the developer's is no part of a test.
            .current_dir(folder.path())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| {
                [
                    "PATH",
                    "HOME",
                    "LANG",
                    "TMPDIR",
                    "VIRTUAL_ENV",
                    "LD_LIBRARY_PATH",
                ]
                .iter()
                .any(|kept| name == kept)
            }))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).unwrap();
            assert!(
                read > 0,
                "the server ended before it was ready: {:?}",
                process.wait()
            );
            if let Ok(announced) = serde_json::from_str::<serde_json::Value>(&line) {
                assert_eq!(announced["event"], "ready");
                let (host, port) = (announced["host"].as_str().unwrap(), &announced["port"]);
                break format!("{host}:{port}");
            }
        };
        Self {
            process,
            _stdout: stdout,
            address,
            _folder: folder,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

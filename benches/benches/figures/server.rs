//! A server in a process of its own, so that its CPU and memory are told from the harness's.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lakesync::Lake;
use lakesync::server::Server;
use lakesync_benches::load::{TABLE, config};
use lakesync_benches::{cpu_time_of, resident_bytes};
use tokio::runtime::Runtime;

/// The argument that makes this program such a server.
pub(crate) const SERVE: &str = "serve-for-bench";

/// Serves `dir` until standard input ends; its URL is the first line on standard output.
#[expect(clippy::print_stdout, reason = "the harness reads the URL there")]
pub(crate) fn serve(dir: &Path) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let lake = Lake::builder(dir)
            .with_config(config())
            .open()
            .await
            .expect("a lake");
        lake.create_table(TABLE).await.expect("a table");
        let server = Server::bind(lake, SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a port");
        println!("{}", server.url());
        let ended =
            tokio::task::spawn_blocking(|| drop(std::io::stdin().read_to_end(&mut Vec::new())));
        server
            .run(async move { drop(ended.await) })
            .await
            .expect("it served");
    });
}

/// A running one; it ends when this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) url: String,
}

impl ServerProcess {
    pub(crate) fn start(dir: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg(SERVE)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut url).expect("its URL");
        Self {
            child,
            url: url.trim().to_owned(),
        }
    }

    pub(crate) fn cpu_time(&self) -> Duration {
        cpu_time_of(&self.child.id().to_string())
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(&self.child.id().to_string())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

//! Starts that fail and starts that go on: each trouble is a sentence with its cause and its cure.
//!
//! Not here: the messages of `check` in detail (unit tests of config).

use crate::support::Driver;
use crate::support::Folder;
use crate::support::Run;
use crate::support::drivers;
use crate::support::eventually;
use crate::support::everywhere;
use crate::support::gateway::binary;
use crate::support::on_every_driver;
use crate::support::process;
use crate::support::upstream::upstream;
use crate::support::within;
use std::fs::File;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// Exit code, stdout and stderr of one command.
fn ringgate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_wrong_path_is_named() {
    for command in ["run", "check"] {
        let (code, _, stderr) = ringgate(&[command, "-c", "/nonexistent/ringgate.yaml"]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("/nonexistent/ringgate.yaml"), "{stderr}");
        assert!(stderr.to_lowercase().contains("no such file"), "{stderr}");
    }
}

#[test]
fn a_taken_port_is_named() {
    on_every_driver(|run| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let up = upstream().run();
        for (builder, key) in [
            (run.gateway().listen(&address).to("up", &up), "`listen`"),
            (
                run.gateway().top(format!("admin: {{address: \"{address}\"}}")).to("up", &up),
                "`admin.address`",
            ),
        ] {
            let command = builder.command();
            let Err((code, stderr)) = builder.start(command) else { panic!("it started on a taken port") };
            assert_eq!(code, Some(1), "{stderr}");
            assert!(stderr.contains(&address) && stderr.to_lowercase().contains("in use"), "{stderr}");
            assert!(stderr.contains(&format!("or change {key}")), "{stderr}");
        }
    });
}

/// io_uring forbidden by the kernel or a sandbox: the start says so and names `--driver epoll`.
#[test]
fn a_forbidden_io_uring_is_named() {
    if !drivers().contains(&Driver::Uring) {
        return;
    }
    let run = Run { driver: Driver::Uring, era: crate::support::Era::Modern };
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no strace to forbid io_uring with");
        return;
    }
    for error in ["EPERM", "ENOSYS"] {
        let up = upstream().run();
        let inject = format!("inject=io_uring_setup:error={error}");
        let builder = run.gateway().to("up", &up);
        let command = builder.command_of(&[
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=io_uring_setup",
            "-e",
            &inject,
            binary(),
        ]);
        let Err((code, stderr)) = builder.start(command) else { panic!("it started without io_uring") };
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("io_uring") && stderr.contains("--driver epoll"), "{error}: {stderr}");
    }
}

/// An upstream that cannot be reached keeps nobody from starting; its calls say what is wrong.
#[test]
fn an_unreachable_upstream_is_told_to_the_caller() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let gw = run
            .gateway()
            .server("unknown", &["url: \"http://no-such-host.invalid:1/mcp\"", "plaintext: true"])
            .server("refusing", &["url: \"http://127.0.0.1:1/mcp\""])
            .to("up", &up)
            .run();
        assert_eq!(gw.admin("/readyz").status, 200);
        for name in ["unknown", "refusing"] {
            let answer = gw.call(name, "echo").send();
            answer.refused(503, "upstream_unavailable");
            assert!(answer.head.field("retry-after").is_some(), "{answer:?}");
        }
        assert_eq!(gw.call("up", "echo").send().status, 200);
    });
}

/// A full disk under the call log: calls go on, the log says so, and when there is room again each call has its
/// line. Lines of the time without room were lost.
#[test]
fn a_full_disk_loses_no_call() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let builder = run.gateway();
        let log = builder.folder.path().join("calls.jsonl");
        std::os::unix::fs::symlink("/dev/full", &log).unwrap();
        let gw = builder.call_log(&log).to("up", &up).run();
        for _ in 0..20 {
            assert_eq!(gw.modern("up", "echo").send().status, 200);
        }
        eventually("the log names cause and place", || {
            gw.stderr().contains("calls.jsonl") && gw.stderr().contains("No space left")
        });
        std::fs::remove_file(&log).unwrap();
        let written = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        eventually("each call has its line", || written() == 20);
        assert_eq!(gw.metric("ringgate_call_log_lost_total", &[]), 0.0);
    });
}

/// The program's own log cannot be written: that costs its lines and nothing else. Its macro panicked in whatever
/// thread had something to say, and took reloads, workers and the drain with it.
#[test]
fn a_full_stderr_ends_nothing() {
    everywhere(|run| {
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        // A pipe whose reader went away.
        let dead = || Stdio::from(std::io::pipe().unwrap().1);
        for stderr in [full(), dead()] {
            let up = upstream().tool("echo").run();
            let builder =
                run.gateway().server("refusing", &["url: \"http://127.0.0.1:1/mcp\""]).to("up", &up);
            let mut command = builder.command();
            command.env("RUST_LOG", "trace").stderr(stderr);
            let mut gw = builder.run_as(command);
            gw.call("refusing", "echo").send().refused(503, "upstream_unavailable");
            for count in [1.0, 2.0] {
                gw.hang_up();
                eventually("the reload is counted", || gw.reloads("ok") == count);
            }
            gw.call("refusing", "echo").send().refused(503, "upstream_unavailable");
            assert_eq!(gw.call("up", "echo").send().status, 200);
            gw.terminate();
            assert_eq!(gw.exit_code(), Some(0));
        }
    });
}

/// A worker that cannot start ends the process, whichever it is: descriptors run out at each step of the start in
/// turn. `listening on` is said by no gateway that lacks a worker.
#[test]
fn a_worker_that_fails_ends_the_start() {
    const WORKERS: usize = 4;
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let mut failed = 0;
        for limit in 8..100 {
            let builder = run.gateway().workers(WORKERS).to("up", &up);
            let limited = format!("ulimit -n {limit}; exec \"$@\"");
            let command = builder.command_of(&["sh", "-c", &limited, "sh", binary()]);
            match builder.start(command) {
                Ok(gw) => {
                    let lacks = || process::threads(gw.pid(), "worker-") < WORKERS;
                    assert!(!within(Duration::from_millis(100), lacks), "{limit}: {}", gw.stderr());
                    break;
                }
                Err((code, stderr)) => {
                    assert_eq!(code, Some(1), "{limit}: {stderr}");
                    assert!(stderr.contains("raise") || stderr.contains("open files"), "{limit}: {stderr}");
                    failed += usize::from(stderr.contains("worker"));
                }
            }
        }
        assert!(failed >= WORKERS, "only {failed} starts ended at a worker");
    });
}

/// Feature: every mistake at once, each with its place and the nearest known key.
#[test]
fn agentgateway_1266_no_ignored_key() {
    let folder = Folder::new();
    let lines = [
        "listne: 127.0.0.1:0",
        "http: {maxBody: 4MB2, headerTimeuot: 5s}",
        "workers: some",
        "mcpServers:",
        "  a__b: {url: \"http://127.0.0.1:1/mcp\"}",
        "  c: {url: \"ftp://127.0.0.1/mcp\"}",
        "  d: {url: \"http://127.0.0.1:1/mcp\", timeuot: {connect: 1s}}",
        "  e: {}",
        "  f: {url: \"http://127.0.0.1:1/mcp\", headers: {\"bad name\": x}}",
        "  g: {url: \"http://127.0.0.1:1/mcp\", maxBody: 4MiB}",
        "identity: {apiKeys: {flie: keys.yaml}}",
    ];
    let file = folder.file("bad.yaml", &lines.join("\n"));
    let (code, _, stderr) = ringgate(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{stderr}");
    for line in [1, 2, 3, 5, 6, 7, 8, 9, 10, 11] {
        assert!(stderr.contains(&format!("bad.yaml:{line}:")), "nothing about line {line}:\n{stderr}");
    }
    for cure in ["listen", "headerTimeout", "timeout", "file"] {
        assert!(stderr.contains(&format!("`{cure}`")), "no {cure} in:\n{stderr}");
    }
    let (code, _, same) = ringgate(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(same.contains("bad.yaml:1:"), "run says less than check:\n{same}");
}

/// Feature: `listen: 127.0.0.1:…` is not reachable on any other address.
#[test]
fn agentgateway_3378_binds_loopback() {
    on_every_driver(|run| {
        let up = upstream().tool("echo").run();
        let gw = run.gateway().to("up", &up).run();
        assert_eq!(gw.call("up", "echo").send().status, 200);
        let mut others: Vec<std::net::IpAddr> = vec!["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
        // The address that the machine would use to reach the world; nothing is sent.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        if probe.connect("192.0.2.1:9").is_ok() {
            others.push(probe.local_addr().unwrap().ip());
        }
        for address in [gw.address, gw.admin.unwrap()] {
            assert!(address.ip().is_loopback());
            for other in &others {
                let other = SocketAddr::new(*other, address.port());
                assert!(
                    TcpStream::connect_timeout(&other, Duration::from_secs(1)).is_err(),
                    "{other} is open"
                );
            }
        }
    });
}

/// Feature: starts on a bare machine: no environment, no home, nothing in the path.
#[test]
fn docker_45_no_foreign_desktop() {
    everywhere(|run| {
        let up = upstream().tool("echo").run();
        let builder = run.gateway().to("up", &up);
        let mut command = builder.command();
        command.env_clear().current_dir("/");
        let gw = builder.run_as(command);
        assert_eq!(gw.call("up", "echo").send().status, 200);
    });
}

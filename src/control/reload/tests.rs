//! Tests of reloads: signals and file events against files of their own.
//!
//! Not here: real gateways under load (tests/exchange/reload.rs).

use super::*;
use crate::control::change::flags;
use crate::control::tests::CONFIG;
use crate::control::tests::Folder;
use crate::control::tests::state;
use std::fs;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

fn reloader(folder: &Folder) -> Reloader {
    let path = folder.path("gw.yaml");
    fs::write(&path, CONFIG).expect("written");
    Reloader::new(Arc::new(state(1)), Some(path), Vec::new(), None)
}

fn counts(reloader: &Reloader) -> (u64, u64) {
    (reloader.state.reloads_ok.read(), reloader.state.reloads_rejected.read())
}

fn with_header(value: &str) -> String {
    CONFIG.replace("/mcp\"}", &format!("/mcp\", headers: {{X-Version: \"{value}\"}}}}"))
}

fn header(reloader: &Reloader) -> Vec<u8> {
    let plan = reloader.state.plan();
    plan.servers[0].headers.first().map(|header| header.value.to_vec()).unwrap_or_default()
}

#[tokio::test]
async fn a_good_file_is_adopted_and_announced() {
    let folder = Folder::new("reload-good");
    let mut reloader = reloader(&folder);
    let epoch = reloader.state.shared.epoch();
    fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
    reloader.reload(Cause::Signal).await;
    assert_eq!((counts(&reloader), header(&reloader)), ((1, 0), b"1".to_vec()));
    assert_eq!(reloader.state.shared.epoch(), epoch + 1);
}

#[tokio::test]
async fn faults_are_adopted_only_where_they_are_allowed() {
    let folder = Folder::new("reload-faults");
    let reloader = reloader(&folder);
    let faulty = CONFIG.replace("/mcp\"}", "/mcp\", faults: [{ratio: 0.5, cut: true}]}");
    fs::write(folder.path("gw.yaml"), faulty).expect("written");
    let mut strict = reloader.allowing_faults(false);
    strict.reload(Cause::Signal).await;
    assert_eq!((counts(&strict), strict.state.plan().has_faults()), ((0, 1), false));
    let mut allowing = strict.allowing_faults(true);
    allowing.reload(Cause::Signal).await;
    assert_eq!((counts(&allowing), allowing.state.plan().has_faults()), ((1, 1), true));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_counted() {
    let folder = Folder::new("reload-bad");
    let mut reloader = reloader(&folder);
    let (plan, epoch) = (reloader.state.plan(), reloader.state.shared.epoch());
    let bad = [CONFIG.replace("url", "urll"), "{".to_owned(), String::from("\0")];
    for text in &bad {
        fs::write(folder.path("gw.yaml"), text).expect("written");
        reloader.reload(Cause::Signal).await;
    }
    fs::remove_file(folder.path("gw.yaml")).expect("removed");
    reloader.reload(Cause::Signal).await;
    assert_eq!(counts(&reloader), (0, 4));
    assert!(Arc::ptr_eq(&plan, &reloader.state.plan()));
    assert_eq!(reloader.state.shared.epoch(), epoch);
    assert_eq!(reloader.state.last_reload_failed.read(), 1);
    fs::write(folder.path("gw.yaml"), with_header("2")).expect("written");
    reloader.reload(Cause::Signal).await;
    assert_eq!((counts(&reloader), reloader.state.last_reload_failed.read()), ((1, 4), 0));
}

#[tokio::test]
async fn a_file_event_without_a_change_is_no_reload_and_a_signal_always_is() {
    let folder = Folder::new("reload-same");
    let mut reloader = reloader(&folder);
    fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
    let table = [
        (Cause::Signal, (1, 0)),
        (Cause::File, (1, 0)),
        (Cause::File, (1, 0)),
        (Cause::Signal, (2, 0)),
        (Cause::File, (2, 0)),
    ];
    for (cause, expected) in table {
        reloader.reload(cause).await;
        assert_eq!(counts(&reloader), expected, "{cause:?}");
    }
    fs::write(folder.path("gw.yaml"), "{").expect("written");
    reloader.reload(Cause::File).await;
    reloader.reload(Cause::File).await;
    assert_eq!(counts(&reloader), (2, 1), "one bad content is rejected once");
}

/// On a loaded machine a file event is acted on before the signal comes: the change was counted twice.
#[tokio::test]
async fn a_signal_after_the_file_event_of_its_change_is_the_same_reload() {
    let folder = Folder::new("reload-join");
    let mut reloader = reloader(&folder);
    let good = with_header("1");
    for (text, joined, later) in [(good.as_str(), (1, 0), (2, 0)), ("{", (2, 1), (2, 2))] {
        fs::write(folder.path("gw.yaml"), text).expect("written");
        for cause in [Cause::File, Cause::Signal] {
            reloader.reload(cause).await;
            assert_eq!(counts(&reloader), joined, "{cause:?} {text}");
        }
        reloader.reload(Cause::Signal).await;
        assert_eq!(counts(&reloader), later, "only one signal joins: {text}");
    }
    fs::write(folder.path("gw.yaml"), with_header("3")).expect("written");
    reloader.reload(Cause::File).await;
    fs::write(folder.path("gw.yaml"), with_header("4")).expect("written");
    reloader.reload(Cause::Signal).await;
    assert_eq!((counts(&reloader), header(&reloader)), ((4, 2), b"4".to_vec()), "the signal of 3, late");
    reloader.reload(Cause::Signal).await;
    assert_eq!(counts(&reloader), (4, 2), "the signal of 4");
    fs::write(folder.path("gw.yaml"), with_header("5")).expect("written");
    reloader.reload(Cause::File).await;
    reloader.joined_until = Some(Moment::ZERO);
    reloader.reload(Cause::Signal).await;
    assert_eq!(counts(&reloader), (6, 2), "much later");
}

/// A bare SIGHUP seconds after a file event was taken for its signal, and not counted.
#[tokio::test]
async fn a_signal_long_after_the_file_event_is_a_reload_of_its_own() {
    let folder = Folder::new("reload-late");
    let mut reloader = reloader(&folder);
    for (value, count) in [("1", 1), ("2", 3)] {
        fs::write(folder.path("gw.yaml"), with_header(value)).expect("written");
        reloader.reload(Cause::File).await;
        assert_eq!(counts(&reloader), (count, 0));
        let later = clock::now().plus_millis(1_500);
        while clock::now() < later {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        reloader.reload(Cause::Signal).await;
        assert_eq!(counts(&reloader), (count + 1, 0), "1.5 s later");
    }
}

/// A file that is written all the time was never read: each write put the reload off again.
#[tokio::test]
async fn writes_without_a_pause_do_not_put_a_reload_off_for_ever() {
    let folder = Folder::new("reload-busy");
    let reloader = reloader(&folder);
    let state = Arc::clone(&reloader.state);
    fs::write(folder.path("gw.yaml"), with_header("1")).expect("written");
    let (told, changes) = flags();
    // Other tests of this process send SIGHUP.
    let signals = signal(SignalKind::user_defined1()).expect("a handler");
    let running = tokio::spawn(reloader.run(signals, changes));
    let start = clock::now();
    while state.reloads_ok.read() == 0 {
        assert!(clock::now() < start.plus_millis(6_000), "put off for 6 s");
        told.tell(Change::Config);
        tokio::time::sleep(Duration::from_millis(limits::RELOAD_DEBOUNCE_MS / 10)).await;
    }
    let waited = clock::now().nanos_since(start) / 1_000_000;
    assert!(waited > limits::RELOAD_DEBOUNCE_MS, "not put off at all: {waited} ms");
    running.abort();
}

#[tokio::test]
async fn a_bad_key_file_rejects_the_whole() {
    let folder = Folder::new("reload-keys");
    let mut reloader = reloader(&folder);
    fs::write(folder.path("keys.yaml"), "keys: 7").expect("written");
    let text = format!("{}identity: {{apiKeys: {{file: keys.yaml}}}}\n", with_header("1"));
    fs::write(folder.path("gw.yaml"), &text).expect("written");
    reloader.reload(Cause::Signal).await;
    assert_eq!((counts(&reloader), header(&reloader)), ((0, 1), Vec::new()));
}

#[tokio::test]
async fn what_needs_a_restart_stays_and_the_rest_applies() {
    let folder = Folder::new("reload-restart");
    let mut reloader = reloader(&folder);
    let before = reloader.state.plan();
    let text = with_header("1")
        .replace("workers: 1", "workers: 2")
        .replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:9");
    fs::write(folder.path("gw.yaml"), text).expect("written");
    reloader.reload(Cause::Signal).await;
    let after = reloader.state.plan();
    let addresses = |plan: &Plan| plan.listeners.iter().map(|one| one.address).collect::<Vec<_>>();
    assert_eq!((after.workers, addresses(&after)), (before.workers, addresses(&before)));
    assert_eq!(header(&reloader), b"1");
}

#[tokio::test]
async fn an_old_plan_lives_as_long_as_a_worker_holds_it_and_dies_with_control() {
    let folder = Folder::new("reload-graveyard");
    let mut reloader = reloader(&folder);
    let held = reloader.state.plan();
    for version in ["1", "2", "3"] {
        fs::write(folder.path("gw.yaml"), with_header(version)).expect("written");
        reloader.reload(Cause::Signal).await;
    }
    assert_eq!(reloader.state.unheld().len(), 2);
    drop(held);
    assert_eq!(reloader.state.unheld().len(), 1);
    assert_eq!(reloader.state.unheld().len(), 0);
}

/// Sends a signal to this process; the handler was set by `signal` before.
fn send(signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::getpid(), signal).expect("sent");
}

/// Watched at the same time: the events of the writes must not count once more.
#[tokio::test]
async fn a_thousand_signals_one_after_another_are_a_thousand_reloads() {
    let folder = Folder::new("reload-signals");
    let (told, changes) = flags();
    let path = folder.path("gw.yaml");
    fs::write(&path, CONFIG).expect("written");
    let watcher = Watcher::start(told).expect("inotify");
    let reloader = Reloader::new(Arc::new(state(1)), Some(path), Vec::new(), Some(watcher));
    let state = Arc::clone(&reloader.state);
    let signals = signal(SignalKind::hangup()).expect("a handler");
    let running = tokio::spawn(reloader.run(signals, changes));
    for count in 1..=1_000 {
        // In one step, as editors and volume mounts do: an event of before may be acted on now.
        fs::write(folder.path("next"), with_header(&count.to_string())).expect("written");
        fs::rename(folder.path("next"), folder.path("gw.yaml")).expect("renamed");
        send(rustix::process::Signal::HUP);
        while state.reloads_ok.read() < count {
            tokio::task::yield_now().await;
        }
        assert_eq!(state.plan().servers[0].headers[0].value.as_ref(), count.to_string().as_bytes());
    }
    assert_eq!((state.reloads_ok.read(), state.reloads_rejected.read()), (1_000, 0));
    running.abort();
}

fn key_file(ids: &[u8]) -> String {
    let entry = |id: &u8| {
        format!("  - {{id: k{id}, principal: agent, hash: \"sha256:{}\"}}\n", format!("{id:02x}").repeat(32))
    };
    format!("keys: {}\n{}", if ids.is_empty() { "[]" } else { "" }, ids.iter().map(entry).collect::<String>())
}

/// A gateway with two keys, and its files.
async fn with_two_keys(folder: &Folder) -> Reloader {
    let mut reloader = reloader(folder);
    fs::write(folder.path("keys.yaml"), key_file(&[1, 2])).expect("written");
    let text = format!("{CONFIG}identity: {{apiKeys: {{file: keys.yaml}}}}\n");
    fs::write(folder.path("gw.yaml"), text).expect("written");
    reloader.reload(Cause::Signal).await;
    assert_eq!(reloader.state.shared.keys.load().by_hash.len(), 2);
    reloader
}

/// Where the configuration was rejected the key file was not read: a revoked key went on for good.
#[tokio::test]
async fn a_rejected_configuration_holds_no_revocation_back() {
    let folder = Folder::new("reload-revoked");
    let mut reloader = with_two_keys(&folder).await;
    for (cause, left) in [(Cause::Signal, [1].as_slice()), (Cause::File, &[])] {
        fs::write(folder.path("gw.yaml"), format!("{{{}", " ".repeat(left.len()))).expect("written");
        fs::write(folder.path("keys.yaml"), key_file(left)).expect("written");
        reloader.reload(cause).await;
        assert_eq!(reloader.state.shared.keys.load().by_hash.len(), left.len(), "{cause:?}");
    }
    assert_eq!(counts(&reloader), (1, 2));
}

/// A signal threw away that the keys had changed, and found a configuration that it rejected.
#[tokio::test]
async fn a_signal_takes_no_change_of_the_keys_away() {
    let folder = Folder::new("reload-both");
    let reloader = with_two_keys(&folder).await;
    let state = Arc::clone(&reloader.state);
    let signals = signal(SignalKind::user_defined2()).expect("a handler");
    let mut heard = signal(SignalKind::user_defined2()).expect("a handler");
    let (told, changes) = flags();
    fs::write(folder.path("gw.yaml"), "{").expect("written");
    fs::write(folder.path("keys.yaml"), key_file(&[])).expect("written");
    told.tell(Change::Keys);
    send(rustix::process::Signal::USR2);
    // From here on the signal waits beside the change.
    heard.recv().await.expect("delivered");
    let running = tokio::spawn(reloader.run(signals, changes));
    let rejected = async {
        while state.reloads_rejected.read() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rejected).await.expect("the signal is acted on");
    assert!(state.shared.keys.load().by_hash.is_empty());
    running.abort();
}

/// A file that is written in place is empty for a moment; read then, it was counted as rejected.
#[tokio::test]
async fn what_a_writer_has_not_finished_is_read_again() {
    let folder = Folder::new("reload-in-place");
    let reloader = reloader(&folder);
    let path = folder.path("gw.yaml");
    for (cause, good) in [(Cause::File, true), (Cause::Signal, false)] {
        fs::write(&path, "").expect("emptied");
        let (reading, path) = (reloader.reading(cause, path.clone()), path.clone());
        let read = move || {
            let attempt = reading();
            fs::write(&path, with_header("1")).expect("written");
            attempt
        };
        let attempt = settled(cause, read).await.expect("a change");
        assert_eq!(attempt.result.is_ok(), good, "{cause:?}");
    }
}

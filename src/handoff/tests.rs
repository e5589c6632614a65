//! The four paths, each between two threads.
//!
//! Not here: what travels on them.

use super::*;
use crate::config;
use std::io::Read;
use std::path::Path;
use std::thread;

const CONFIG: &str = "listen: 127.0.0.1:0\nmcpServers: {up: {url: \"https://upstream.test/mcp\"}}\n";

fn plan(workers: usize) -> Plan {
    let mut plan = config::load_text(CONFIG, "test.yaml", Path::new("")).expect("a good config").plan;
    plan.workers = workers;
    plan.call_log = CallLog::Stdout;
    plan
}

fn shared(workers: usize) -> (Arc<Shared>, Vec<UnixStream>) {
    Shared::new(Arc::new(plan(workers)), KeyRing::default(), Addresses::default(), Keys { seeds: [1, 2] })
        .expect("sockets")
}

/// Reads the bell until `done`: how a worker waits.
fn wait(end: &mut UnixStream, mut done: impl FnMut() -> bool) {
    let mut rings = [0; 64];
    while !done() {
        assert!(end.read(&mut rings).expect("the bell") > 0, "the other side is gone");
    }
}

/// Path 1: a plan and its epoch, seen by a worker that only reads.
#[test]
fn a_new_plan_wakes_the_worker_and_is_whole() {
    let (shared, mut ends) = shared(1);
    let mut end = ends.remove(0);
    let control = Arc::clone(&shared);
    let worker = thread::spawn(move || {
        let (mut seen, mut plans) = (shared.epoch(), 0);
        while plans < 100 {
            wait(&mut end, || shared.epoch() != seen);
            // The epoch first: a plan that comes after it is announced again.
            seen = shared.epoch();
            let number = shared.plan.load().digest.parse::<u64>().expect("a number");
            assert!(number >= plans, "plans never go back");
            plans = number;
        }
    });
    for number in 1..=100 {
        let mut next = plan(1);
        next.digest = format!("{number}");
        control.plan.store(Arc::new(next));
        control.announce();
    }
    worker.join().expect("no panic");
}

#[test]
fn the_end_of_the_start_does_not_undo_a_drain() {
    let (shared, _ends) = shared(1);
    for (entered, expected) in [
        (Phase::Draining, Phase::Draining),
        (Phase::Serving, Phase::Draining),
        (Phase::Stopping, Phase::Stopping),
        (Phase::Draining, Phase::Stopping),
    ] {
        shared.enter(entered);
        assert_eq!(shared.phase(), expected, "{entered:?}");
    }
}

/// Path 2: what does not fit is counted, what fits arrives in order.
#[test]
fn records_arrive_in_order_and_losses_are_exact() {
    let (shared, _ends) = shared(1);
    let total = 200_000;
    let worker = Arc::clone(&shared);
    let pushing = thread::spawn(move || {
        for number in 0..total {
            worker.posts[0].hand_up(Record { bytes_in: number, ..Record::default() });
        }
    });
    let (mut taken, mut newest) = (0, None);
    loop {
        let over = pushing.is_finished();
        while let Some(record) = shared.posts[0].next_record() {
            assert!(newest < Some(record.bytes_in), "in order");
            (taken, newest) = (taken + 1, Some(record.bytes_in));
        }
        if over {
            break;
        }
    }
    pushing.join().expect("no panic");
    assert_eq!(taken + shared.posts[0].metrics.records_lost.read(), total);
}

#[test]
fn a_full_ring_counts_each_record_it_refuses() {
    let (shared, _ends) = shared(1);
    for _ in 0..limits::RECORD_RING + 7 {
        shared.posts[0].hand_up(Record::default());
    }
    let metrics = &shared.posts[0].metrics;
    assert_eq!((metrics.records_lost.read(), metrics.hits(Bound::RecordRing)), (7, 7));
}

/// The rings are there before a worker can see the plan that needs them.
#[test]
fn rings_of_records_are_made_for_the_first_plan_with_a_call_log() {
    let silent = || Arc::new(Plan { call_log: CallLog::Off, ..plan(2) });
    let (shared, _ends) =
        Shared::new(silent(), KeyRing::default(), Addresses::default(), Keys { seeds: [1, 2] })
            .expect("sockets");
    let have_rings = || shared.posts.iter().filter(|post| post.records.get().is_some()).count();
    assert_eq!((have_rings(), shared.posts[0].next_record().is_none()), (0, true));
    for (plan, expected) in [(silent(), 0), (Arc::new(plan(2)), 2), (silent(), 2)] {
        shared.set_plan(plan);
        assert_eq!(have_rings(), expected);
    }
}

fn question(ticket: u64) -> Question {
    Question { worker: 0, ticket, what: Asked::Resolve { host: "a".into(), port: 1, key: "a:1".into() } }
}

/// Path 3: a question rings control, its answer rings the asker.
#[test]
fn every_question_is_answered_to_its_asker() {
    let (shared, mut ends) = shared(1);
    let mut end = ends.remove(0);
    let control = Arc::clone(&shared);
    let mut bell = control.question_bell().expect("a descriptor");
    let answering = thread::spawn(move || {
        bell.set_nonblocking(false).expect("blocking");
        let mut answered = 0;
        while answered < 1_000 {
            let mut next = None;
            wait(&mut bell, || {
                next = control.next_question();
                next.is_some()
            });
            let Question { worker, ticket, .. } = next.expect("just seen");
            control.posts[worker]
                .mailbox
                .post(Letter::Answered { ticket, answer: Answer::Known(true) })
                .expect("room");
            answered += 1;
        }
    });
    for ticket in 0..1_000 {
        shared.ask(question(ticket)).expect("room");
        let mut letter = None;
        wait(&mut end, || {
            letter = shared.posts[0].mailbox.take();
            letter.is_some()
        });
        assert!(
            matches!(letter, Some(Letter::Answered { ticket: of, answer: Answer::Known(true) }) if of == ticket)
        );
    }
    answering.join().expect("no panic");
}

#[test]
fn a_full_queue_gives_the_question_back() {
    let (shared, _ends) = shared(1);
    for ticket in 0..limits::QUESTION_RING as u64 {
        shared.ask(question(ticket)).expect("room");
    }
    assert_eq!(shared.ask(question(7_777_777)).expect_err("full").ticket, 7_777_777);
    assert_eq!(shared.next_question().expect("the oldest").ticket, 0);
}

/// Path 4: letters between workers, both ways at the same time.
#[test]
fn workers_answer_each_others_letters() {
    let (shared, ends) = shared(2);
    let workers: Vec<_> = (0..2_usize)
        .zip(ends)
        .map(|(own, mut end)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let other = &shared.posts[1 - own].mailbox;
                let (mut answers, mut served) = (0, 0);
                other.post(Letter::Ping { ticket: 0, reply: Some(own) }).expect("room");
                while answers < 1_000 || served < 1_000 {
                    let mut letter = None;
                    wait(&mut end, || {
                        letter = shared.posts[own].mailbox.take();
                        letter.is_some()
                    });
                    match letter {
                        Some(Letter::Ping { ticket, reply: Some(asker) }) => {
                            let answer = Letter::Ping { ticket, reply: None };
                            shared.posts[asker].mailbox.post(answer).expect("room");
                            served += 1;
                        }
                        Some(Letter::Ping { ticket, reply: None }) => {
                            assert_eq!(ticket, answers, "each answer once, in order");
                            answers += 1;
                            if answers < 1_000 {
                                let next = Letter::Ping { ticket: answers, reply: Some(own) };
                                other.post(next).expect("room");
                            }
                        }
                        other => panic!("unexpected {other:?}"),
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
}

#[test]
fn a_full_mailbox_gives_the_letter_back() {
    let (mailbox, _end) = Mailbox::new(2).expect("sockets");
    for ticket in 0..2 {
        mailbox.post(Letter::Ping { ticket, reply: None }).expect("room");
    }
    let back = mailbox.post(Letter::Ping { ticket: 9, reply: None }).expect_err("full");
    assert!(matches!(back, Letter::Ping { ticket: 9, .. }));
}

#[test]
fn waking_a_reader_that_does_not_read_never_blocks() {
    let (mailbox, _end) = Mailbox::new(1).expect("sockets");
    for _ in 0..100_000 {
        mailbox.wake();
    }
}

//! A worker for tests, alone: nobody answers what it asks.
//!
//! Not here: a gateway (tests/support).

use crate::config;
use crate::config::keys::KeyRing;
use crate::handoff::Addresses;
use crate::handoff::Shared;
use crate::net::runtime;
use crate::net::runtime::Driver;
use crate::policy::limits::keys::Keys;
use crate::worker::Worker;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Runs this on the first worker of a configuration, and returns what it does.
pub(super) fn on_worker<T>(driver: Driver, config: &str, run: impl AsyncFnOnce(Rc<Worker>) -> T) -> T {
    let plan = config::load_text(config, "test.yaml", Path::new("")).expect("a good config").plan;
    let keys = Keys { seeds: [1, 2] };
    let (shared, _bells) =
        Shared::new(Arc::new(plan), KeyRing::default(), Addresses::default(), keys).expect("sockets");
    let mut result = None;
    let main = async || {
        let worker = Rc::new(Worker::new(0, shared).expect("descriptors"));
        result = Some(run(worker).await);
    };
    runtime::block_on(driver, main).expect("a runtime");
    result.expect("it ran")
}

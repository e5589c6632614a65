//! What happened: records of calls, counters and histograms, every metric name once.
//!
//! Not here: sockets and files; control exports what is gathered here.

pub mod expose;
pub mod family;
pub mod line;
pub mod metrics;
pub mod record;
pub mod tally;
pub mod words;

//! Many calls of one tool over one kept connection, and many such at once.
//!
//! Not here: single calls (call), and what a caller should get.

use super::call::Call;
use super::client::Answer;
use super::client::Broken;
use super::client::Client;

/// Calls one tool on one connection. In the older era without a session, as the clients of a server that mints none:
/// so that nothing but the calls themselves reaches the upstream.
pub struct Line {
    like: Call,
    client: Option<Client>,
}

impl Line {
    pub fn new(like: Call) -> Self {
        Self { like, client: None }
    }

    /// Over this connection, while it lives.
    pub fn over(like: Call, client: Client) -> Self {
        Self { like, client: Some(client) }
    }

    /// The next call, to be changed before it is made.
    pub fn next(&self) -> Call {
        self.like.again()
    }

    /// Calls with this argument (raw JSON).
    #[track_caller]
    pub fn call(&mut self, argument: &str) -> Answer {
        let call = self.next().argument(argument);
        self.make(&call).unwrap_or_else(|broken| panic!("{argument}: {broken:?}"))
    }

    /// Makes this very call. A connection that is over is replaced before the next one.
    pub fn make(&mut self, call: &Call) -> Result<Answer, Broken> {
        let mut client = self.client.take().unwrap_or_else(|| self.like.connect());
        if !client.send(&call.raw().bytes()) {
            return Err(Broken::Closed);
        }
        let answer = client.try_answer()?;
        if !answer.head.says_close() {
            self.client = Some(client);
        }
        Ok(answer)
    }
}

/// Runs `work` in so many threads at once; what each of them made.
pub fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Makes calls at the same time, each on a connection of its own: no answer is read before all are sent. In the older era
/// without sessions.
pub fn at_once(calls: impl IntoIterator<Item = Call>) -> Vec<Answer> {
    let sent = calls.into_iter().map(|call| {
        let mut client = call.connect();
        assert!(client.send(&call.raw().bytes()));
        client
    });
    let clients: Vec<Client> = sent.collect();
    clients.into_iter().map(|mut client| client.answer()).collect()
}

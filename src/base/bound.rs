//! `Bound`: the bounds of the system that are counted when they are hit, by name.
//!
//! Not here: their values (`config::limits`) and the counters (`telemetry`).

/// A bound of `config::limits` that a worker can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Head,
    Target,
    Fields,
    Body,
    ChunkLine,
    ChunkExtension,
    Trailer,
    BodyBudget,
    AnswerHead,
    InterimAnswers,
    JsonDepth,
    BatchCalls,
    Name,
    Id,
    AnswerScan,
    HeldAnswer,
    Connections,
    Handshakes,
    CallsPerConnection,
    PoolIdle,
    Pool,
    Linger,
    AbandonedAnswer,
    /// Frames of an HTTP/2 connection that bring nothing.
    Http2Frames,
    Http2Resets,
    /// The client of an HTTP/2 stream or connection took nothing of what waited for it.
    Http2Window,
    RecordRing,
    QuestionRing,
    /// Calls that wait for control's answer to one question, or the time that it has.
    Answers,
    Mailbox,
    /// `accept` failed: most often no descriptor was left.
    AcceptErrors,
}

impl Bound {
    /// In the order of their declaration, so that `bound as usize` is the place of a bound in it.
    pub const ALL: [Self; Self::AcceptErrors as usize + 1] = [
        Self::Head,
        Self::Target,
        Self::Fields,
        Self::Body,
        Self::ChunkLine,
        Self::ChunkExtension,
        Self::Trailer,
        Self::BodyBudget,
        Self::AnswerHead,
        Self::InterimAnswers,
        Self::JsonDepth,
        Self::BatchCalls,
        Self::Name,
        Self::Id,
        Self::AnswerScan,
        Self::HeldAnswer,
        Self::Connections,
        Self::Handshakes,
        Self::CallsPerConnection,
        Self::PoolIdle,
        Self::Pool,
        Self::Linger,
        Self::AbandonedAnswer,
        Self::Http2Frames,
        Self::Http2Resets,
        Self::Http2Window,
        Self::RecordRing,
        Self::QuestionRing,
        Self::Answers,
        Self::Mailbox,
        Self::AcceptErrors,
    ];

    /// Value of the label `bound`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Target => "target",
            Self::Fields => "fields",
            Self::Body => "body",
            Self::ChunkLine => "chunk_line",
            Self::ChunkExtension => "chunk_extension",
            Self::Trailer => "trailer",
            Self::BodyBudget => "body_budget",
            Self::AnswerHead => "answer_head",
            Self::InterimAnswers => "interim_answers",
            Self::JsonDepth => "json_depth",
            Self::BatchCalls => "batch_calls",
            Self::Name => "name",
            Self::Id => "id",
            Self::AnswerScan => "answer_scan",
            Self::HeldAnswer => "held_answer",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::CallsPerConnection => "calls_per_connection",
            Self::PoolIdle => "pool_idle",
            Self::Pool => "pool",
            Self::Linger => "linger",
            Self::AbandonedAnswer => "abandoned_answer",
            Self::Http2Frames => "http2_frames",
            Self::Http2Resets => "http2_resets",
            Self::Http2Window => "http2_window",
            Self::RecordRing => "record_ring",
            Self::QuestionRing => "question_ring",
            Self::Answers => "answers",
            Self::Mailbox => "mailbox",
            Self::AcceptErrors => "accept_errors",
        }
    }
}

//! HTTP/1.1 as a strict reader sees it: heads, lengths, chunks. It judges what the gateway writes, on
//! both sides, and shares no code with the gateway's own codec.
//!
//! Not here: sockets, leniency. What RFC 9112 forbids a sender is an error.

/// Start line and fields of one message.
#[derive(Clone, Default)]
pub struct Head {
    /// Method, target, version of a request; version, status, reason of an answer.
    pub start: [String; 3],
    /// In order, names as written.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes on the wire, the empty line included.
    pub size: usize,
}

/// As text, for failed tests.
impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.start.join(" "))?;
        self.fields
            .iter()
            .try_for_each(|(name, value)| write!(f, " | {name}: {}", String::from_utf8_lossy(value)))
    }
}

impl Head {
    /// The head at the front of `bytes`, if it is whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let mut lines = Vec::new();
        let mut rest = &bytes[..end];
        while let Some(at) = find(rest, b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        lines.push(rest);
        let start = start_line(lines[0])?;
        let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>()?;
        Ok(Some(Self { start, fields, size: end + 4 }))
    }

    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let same = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_slice()).collect()
    }

    /// The only field of that name; panics where there are more.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times: {self:?}", all.len());
        all.first().map(|value| std::str::from_utf8(value).unwrap())
    }

    pub fn status(&self) -> u16 {
        self.start[1].parse().unwrap()
    }

    pub fn says_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }
}

fn start_line(line: &[u8]) -> Result<[String; 3], String> {
    let text = clean(line)?;
    let parts: Vec<&str> = text.splitn(3, ' ').collect();
    let [first, second, third] = parts[..] else { return Err(format!("start line {text:?}")) };
    if first.starts_with("HTTP/") {
        let digits = second.len() == 3 && second.bytes().all(|b| b.is_ascii_digit());
        if !matches!(first, "HTTP/1.1" | "HTTP/1.0") || !digits {
            return Err(format!("status line {text:?}"));
        }
    } else if third != "HTTP/1.1" || second.is_empty() || !is_token(first) {
        return Err(format!("request line {text:?}"));
    }
    Ok([first.into(), second.into(), third.into()])
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let show = || String::from_utf8_lossy(line).into_owned();
    let colon = find(line, b":").ok_or_else(|| format!("no colon in {:?}", show()))?;
    let name = std::str::from_utf8(&line[..colon]).map_err(|_| format!("name of {:?}", show()))?;
    if !is_token(name) {
        return Err(format!("name of {:?}", show()));
    }
    let value = line[colon + 1..].trim_ascii();
    if value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(format!("control character in {:?}", show()));
    }
    Ok((name.into(), value.into()))
}

fn clean(line: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(line).map_err(|_| format!("not UTF-8: {line:?}"))?;
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        Err(format!("control character in {text:?}"))
    } else {
        Ok(text)
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

/// Takes the body of one message off the front of a buffer, in whatever pieces it comes.
#[derive(Debug)]
pub enum Body {
    Length(u64),
    /// Bytes left of the current chunk; `None` between chunks.
    Chunked(Option<u64>),
    UntilClose,
    Done,
}

impl Body {
    pub fn of_request(head: &Head) -> Result<Self, String> {
        if head.start[2] == "HTTP/1.1" && head.all("host").len() != 1 {
            return Err(format!("{} Host fields", head.all("host").len()));
        }
        Ok(Self::declared(head)?.unwrap_or(Self::Done))
    }

    /// `to` is the method of the request that is answered.
    pub fn of_answer(head: &Head, to: &str) -> Result<Self, String> {
        let bodiless = matches!(head.status(), 100..=199 | 204 | 304) || to == "HEAD";
        let declared = Self::declared(head)?;
        if matches!(head.status(), 100..=199 | 204) && declared.is_some() {
            return Err(format!("a {} declares a body", head.status()));
        }
        Ok(if bodiless { Self::Done } else { declared.unwrap_or(Self::UntilClose) })
    }

    fn declared(head: &Head) -> Result<Option<Self>, String> {
        let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(None),
            ([], [b"chunked"]) => Ok(Some(Self::Chunked(None))),
            ([value], []) if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let text = String::from_utf8_lossy(value);
                let length = text.parse().map_err(|_| format!("Content-Length {text}"))?;
                Ok(Some(if length == 0 { Self::Done } else { Self::Length(length) }))
            }
            _ => Err(format!("Content-Length {lengths:?}, Transfer-Encoding {codings:?}")),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Moves what is there from `input` to `sink`.
    pub fn take(&mut self, input: &mut Vec<u8>, sink: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        loop {
            let used = match self {
                Self::Done => return Ok(()),
                Self::UntilClose => pass(input, u64::MAX, sink),
                Self::Length(left) => {
                    let used = pass(input, *left, sink);
                    *left -= used as u64;
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    used
                }
                Self::Chunked(Some(left)) if *left > 0 => {
                    let used = pass(input, *left, sink);
                    *left -= used as u64;
                    used
                }
                Self::Chunked(_) => self.between_chunks(input)?,
            };
            if used == 0 {
                return Ok(());
            }
            input.drain(..used);
        }
    }

    /// The CRLF after a chunk's data, or a size line; the bytes used, 0 if more are needed.
    fn between_chunks(&mut self, input: &[u8]) -> Result<usize, String> {
        if matches!(self, Self::Chunked(Some(_))) {
            return match input {
                [b'\r', b'\n', ..] => {
                    *self = Self::Chunked(None);
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(format!("no CRLF after a chunk: {:?}", String::from_utf8_lossy(input))),
            };
        }
        let Some(end) = find(input, b"\r\n") else {
            return if input.len() > 16 { Err("chunk size line without end".into()) } else { Ok(0) };
        };
        let line = std::str::from_utf8(&input[..end]).map_err(|_| "chunk size is not text")?;
        let digits = !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(line, 16).ok().filter(|_| digits);
        match size.ok_or_else(|| format!("chunk size {line:?}"))? {
            0 if input.len() < end + 4 => Ok(0),
            0 if input[end + 2..].starts_with(b"\r\n") => {
                *self = Self::Done;
                Ok(end + 4)
            }
            0 => Err("trailers, which nobody asked for".into()),
            size => {
                *self = Self::Chunked(Some(size));
                Ok(end + 2)
            }
        }
    }
}

fn pass(input: &[u8], most: u64, sink: &mut dyn FnMut(&[u8])) -> usize {
    let used = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    if used > 0 {
        sink(&input[..used]);
    }
    used
}

//! The registers of the stages after an attempt: `n.review`, `n.merge`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{RECORD_MAX, to_bytes};

/// What a stage after the attempt decided: `n.review`, `n.merge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Version of the record.
    pub v: u32,
    /// `pass` or `bounce`.
    pub verdict: StageVerdict,
    /// Of a bounce: whether attempt n+1 may be claimed.
    #[serde(default)]
    pub retry: bool,
    /// Who.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: String,
    /// Of a bounce: what the next attempt must know (the conflict, the last of the check's output).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// Of a bounce: what the attempts changed that came back, this one and those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Of a merge: the commit on the target branch that brought it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// When (RFC 3339).
    #[serde(default)]
    pub at: String,
    /// Fields of newer programs.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Stage {
    /// An answer with its reason.
    pub fn new(verdict: StageVerdict, why: &str) -> Stage {
        let (why, none) = (why.to_owned(), String::new);
        let (by, context, commit, at) = (none(), none(), none(), none());
        let (retry, scope, more) = (false, Vec::new(), Map::new());
        Stage { v: 1, verdict, retry, by, why, context, scope, commit, at, more }
    }

    /// Cuts what would make the record too long to be read: it would mean a bounce.
    #[must_use]
    pub fn fitting(mut self) -> Stage {
        if to_bytes(&self).len() >= RECORD_MAX {
            self.context = self
                .context
                .chars()
                .rev()
                .take(10_000)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
        }
        self
    }
}

/// The two answers of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageVerdict {
    /// Go on.
    Pass,
    /// Send it back.
    Bounce,
}

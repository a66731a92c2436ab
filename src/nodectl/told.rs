//! What a verb has to say when it has done what it was asked to: the text, and an exit code of its own.

/// What is to be printed, and the exit code.
#[derive(Debug)]
pub struct Told {
    /// What is to be printed.
    pub text: String,
    /// 0, but for `check`.
    pub code: u8,
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Told { text, code: 0 }
    }
}

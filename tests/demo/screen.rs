//! What the viewer sees: headings, text, a spinner, and pictures that are drawn anew in place.
//!
//! On anything but a terminal every line is final: no colour, no spinner, nothing is redrawn.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No line is longer than this.
pub const WIDTH: usize = 78;

const INDENT: &str = "  ";

/// Where everything is shown; copies are the same screen.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Inner>,
}

struct Inner {
    /// Lines can be taken back.
    live: bool,
    colour: bool,
    unicode: bool,
    started: Instant,
    /// Nothing more is to be shown.
    muted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is being waited for, and since when.
    busy: Option<(String, Instant)>,
    turn: usize,
    /// Lines of the picture that the next one replaces.
    drawn: usize,
}

/// How a piece of text looks, where there is colour.
#[derive(Clone, Copy)]
pub enum Tone {
    /// What matters.
    Bold,
    /// What does not, much.
    Dim,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Something of the n-th node.
    Node(usize),
}

impl Screen {
    /// The screen on stdout; the clock starts now.
    pub fn new() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default().to_lowercase();
        let live = terminal && set("TERM").is_some_and(|term| term != "dumb");
        let inner = Inner {
            live,
            colour: live && set("NO_COLOR").is_none(),
            unicode: live && (locale.contains("utf-8") || locale.contains("utf8")),
            started: Instant::now(),
            muted: AtomicBool::new(false),
            state: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Whether lines can be taken back, that is whether somebody is watching.
    pub fn is_live(&self) -> bool {
        self.inner.live
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// The text in this tone.
    pub fn paint(&self, tone: Tone, text: impl Display) -> String {
        let code = match tone {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Node(n) => ["36", "33", "35", "34"][n % 4],
        };
        if self.inner.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    /// What a bar is made of: the full part and the rest.
    pub fn bar(&self) -> (&'static str, &'static str) {
        if self.inner.unicode {
            ("█", "░")
        } else {
            ("#", ".")
        }
    }

    /// Says what all this is.
    pub fn title(&self, title: &str) {
        self.put(&self.paint(Tone::Bold, title));
    }

    /// Begins a step.
    pub fn heading(&self, title: &str) {
        let clock = format!("{:.1} s", self.elapsed().as_secs_f64());
        let gap = " ".repeat(WIDTH.saturating_sub(title.len() + clock.len()));
        let (title, clock) = (self.paint(Tone::Bold, title), self.paint(Tone::Dim, clock));
        self.put(&format!("\n{title}{gap}{clock}"));
    }

    /// A paragraph, broken where it must be.
    pub fn text(&self, words: &str) {
        for line in wrap(words, WIDTH - INDENT.len()) {
            self.line(line);
        }
    }

    /// A command that shows an operator the same, and what it shows.
    pub fn command(&self, command: &str, shows: &str) {
        let rest = self.paint(Tone::Dim, format!("# {shows}"));
        let command = format!("{command:<24}");
        self.line(format!("$ {} {rest}", self.paint(Tone::Bold, command)));
    }

    /// Something that happened, so long after the beginning of what is being timed.
    pub fn event(&self, after: Duration, what: &str) {
        let indent = " ".repeat(12);
        for (n, line) in wrap(what, WIDTH - INDENT.len() - indent.len())
            .iter()
            .enumerate()
        {
            if n == 0 {
                let clock = format!("{:7.2} s   ", after.as_secs_f64());
                self.line(format!("{}{line}", self.paint(Tone::Dim, clock)));
            } else {
                self.line(format!("{indent}{line}"));
            }
        }
    }

    /// A line as it is.
    pub fn line(&self, line: impl Display) {
        self.put(format!("{INDENT}{line}").trim_end());
    }

    /// An empty line.
    pub fn gap(&self) {
        self.put("");
    }

    /// Draws a picture over the last one, where that can be done.
    pub fn draw(&self, lines: &[String]) {
        if self.inner.live {
            let mut state = self.state();
            let mut text = back(state.drawn);
            for line in lines {
                text += &format!("\x1b[K{INDENT}{line}\n");
            }
            state.drawn = lines.len();
            self.write(&text);
        }
    }

    /// Draws the last picture of its kind, to stay.
    pub fn draw_last(&self, lines: &[String]) {
        let drawn = std::mem::take(&mut self.state().drawn);
        if drawn > 0 {
            self.write(&format!("{}\x1b[J", back(drawn)));
        }
        for line in lines {
            self.line(line);
        }
    }

    /// Shows that something takes its time, until the guard is dropped.
    pub fn busy(&self, what: &str) -> Busy {
        self.state().busy = Some((what.into(), Instant::now()));
        let stop = Arc::new(AtomicBool::new(false));
        let spinner = self.inner.live.then(|| {
            let (screen, stop) = (self.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    screen.spin();
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            })
        });
        Busy {
            screen: self.clone(),
            stop,
            spinner,
        }
    }

    /// Shows nothing any more.
    pub fn mute(&self, last: &str) {
        self.put(last);
        self.inner.muted.store(true, Ordering::Relaxed);
    }

    /// Whether [`Screen::mute`] was called.
    pub fn is_muted(&self) -> bool {
        self.inner.muted.load(Ordering::Relaxed)
    }

    fn spin(&self) {
        let mut state = self.state();
        state.turn += 1;
        let turns: &[char] = if self.inner.unicode {
            &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
        } else {
            &['|', '/', '-', '\\']
        };
        let turn = turns[state.turn % turns.len()];
        if let Some((what, since)) = &state.busy {
            let seconds = since.elapsed().as_secs_f64();
            let line: String = format!("{INDENT}{turn} {seconds:5.1} s  {what}");
            let line: String = line.chars().take(WIDTH).collect();
            self.write(&format!("\r\x1b[K{}", self.paint(Tone::Dim, line)));
        }
    }

    fn put(&self, line: &str) {
        let state = self.state();
        // The spinner's line is taken back; it comes again with its next turn.
        let clear = if self.inner.live && state.busy.is_some() {
            "\r\x1b[K"
        } else {
            ""
        };
        self.write(&format!("{clear}{line}\n"));
    }

    fn write(&self, text: &str) {
        if self.is_muted() {
            return;
        }
        let mut out = std::io::stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            // Nobody reads any more; the lab ends with this process.
            std::process::exit(1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that takes its time.
pub struct Busy {
    screen: Screen,
    stop: Arc<AtomicBool>,
    spinner: Option<JoinHandle<()>>,
}

impl Busy {
    /// What is being waited for now.
    pub fn now(&self, what: &str) {
        if let Some((text, _)) = &mut self.screen.state().busy {
            *text = what.into();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(spinner) = self.spinner.take() {
            spinner.thread().unpark();
            // It draws and nothing else; were it to panic, the demo would go on without.
            let _ = spinner.join();
            self.screen.write("\r\x1b[K");
        }
        self.screen.state().busy = None;
    }
}

/// To the beginning of the picture, so many lines up.
fn back(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r"),
    }
}

/// Breaks words into lines of at most `width` letters.
pub fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// A number as people read it: 3,000.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_numbers_are_grouped() {
        assert_eq!(wrap("to be or not to be", 8), ["to be or", "not to", "be"]);
        let written = [0, 999, 3000, 1_234_567].map(thousands);
        assert_eq!(written, ["0", "999", "3,000", "1,234,567"]);
    }
}

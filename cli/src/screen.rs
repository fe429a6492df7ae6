//! Text for people, on standard output.
//!
//! 80 columns; colour only on a terminal and not with `NO_COLOR`. With `--json -` standard output belongs to the JSON,
//! and a [`Screen`] is mute. A reader that goes away (`vmstack | head`) mutes it too: the work goes on to its exit status.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};

/// The width that everything fits, in columns.
pub const COLUMNS: usize = 80;

/// What a piece of text means; how that looks is the screen's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The heading of a part.
    Heading,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Beside the point.
    Faint,
    /// Nothing special.
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Heading => Style::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Plain => Style::new(),
        }
    }
}

/// Where text for people goes.
pub struct Screen {
    out: Option<Box<dyn Write>>,
    colour: bool,
}

impl core::fmt::Debug for Screen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Screen").field("mute", &self.out.is_none()).field("colour", &self.colour).finish()
    }
}

impl Screen {
    /// Standard output, or nothing when that belongs to something else.
    #[must_use]
    pub fn standard(mute: bool) -> Self {
        let stdout = std::io::stdout();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = stdout.is_terminal() && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { out: (!mute).then(|| Box::new(stdout) as Box<dyn Write>), colour }
    }

    /// A screen that writes to `out`, without colour; for tests.
    #[must_use]
    pub fn to(out: Box<dyn Write>) -> Self {
        Self { out: Some(out), colour: false }
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) {
        if let Some(out) = &mut self.out
            && writeln!(out, "{text}").is_err()
        {
            self.out = None;
        }
    }

    /// Prints an empty line and a heading.
    pub fn heading(&mut self, text: &str) {
        let text = self.paint(Tone::Heading, text);
        self.line("");
        self.line(&text);
    }

    /// `text` in the colours of `tone`, or as it is where there is no colour.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let style = if self.colour { tone.style() } else { Style::new() };
        format!("{style}{text}{style:#}")
    }
}

/// Breaks `text` at spaces into lines of at most `width` columns; a longer word gets a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let space = if line.is_empty() { "" } else { " " };
            line.push_str(space);
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Screen, wrap};
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// Text that a screen wrote, shared with the test that reads it.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        /// A screen that writes here.
        pub(crate) fn screen(&self) -> Screen {
            Screen::to(Box::new(self.clone()))
        }

        /// What was written.
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("a verylongword b", 6), ["a", "verylongword", "b"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn a_reader_that_went_away_mutes_the_screen() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen::to(Box::new(Gone));
        screen.line("text");
        assert!(screen.out.is_none());
    }
}

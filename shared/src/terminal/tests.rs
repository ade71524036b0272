use std::io::{self, Write};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

/// A terminal that understands what the canvas writes. It does not break lines anew when it is resized.
#[derive(Clone, Default)]
struct Terminal(Arc<Mutex<Screen>>);

#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    row: usize,
    column: usize,
}

impl Screen {
    fn put(&mut self, char: char) {
        while self.lines.len() <= self.row {
            self.lines.push(String::new());
        }
        let line = &mut self.lines[self.row];
        let mut chars: Vec<char> = line.chars().collect();
        while chars.len() <= self.column {
            chars.push(' ');
        }
        chars[self.column] = char;
        *line = chars.into_iter().collect();
        self.column += 1;
    }

    fn control(&mut self, number: usize, kind: char) {
        match kind {
            'A' => self.row = self.row.saturating_sub(number),
            'B' => self.row += number,
            'J' => {
                self.lines.truncate(self.row);
            }
            'K' => {
                if let Some(line) = self.lines.get_mut(self.row) {
                    line.clear();
                }
            }
            other => panic!("the terminal does not know {other:?}"),
        }
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut screen = self.0.lock().unwrap();
        let mut chars = str::from_utf8(bytes).unwrap().chars();
        while let Some(char) = chars.next() {
            match char {
                '\r' => screen.column = 0,
                '\n' => (screen.row, screen.column) = (screen.row + 1, 0),
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = 0;
                    let kind = loop {
                        let char = chars.next().unwrap();
                        match char.to_digit(10) {
                            Some(digit) => number = number * 10 + digit as usize,
                            None => break char,
                        }
                    };
                    screen.control(number, kind);
                }
                char => screen.put(char),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Terminal {
    fn shows(&self) -> Vec<String> {
        self.0.lock().unwrap().lines.clone()
    }
}

fn small() -> Size {
    Size {
        columns: 10,
        rows: 5,
    }
}

fn console(size: fn() -> Size) -> (Console, Terminal) {
    let terminal = Terminal::default();
    let console = Console::new(Mode::Redraw(size), terminal.clone(), terminal.clone());
    (console, terminal)
}

#[test]
fn a_drawing_replaces_the_one_before_whatever_its_height() {
    let (console, terminal) = console(small);
    console.draw("a\nb\n\nc\n");
    assert_eq!(terminal.shows(), ["a", "b", "", "c"]);
    console.draw("d\n");
    assert_eq!(terminal.shows(), ["d"]);
    console.draw("e\nf\ng");
    assert_eq!(terminal.shows(), ["e", "f", "g"]);
}

#[test]
fn lines_written_beside_it_stay_above_it() {
    let (console, terminal) = console(small);
    console.draw("table\nend");
    console.say("said").unwrap();
    console.remark("remarked");
    let mut event = tracing_subscriber::fmt::MakeWriter::make_writer(&console);
    event
        .write_all(b"WARN a line longer than the terminal\n")
        .unwrap();
    drop(event);
    let above = ["said", "remarked", "WARN a line longer than the terminal"];
    assert_eq!(terminal.shows(), [&above[..], &["table", "end"]].concat());
    console.draw("table 2\nend");
    assert_eq!(terminal.shows(), [&above[..], &["table 2", "end"]].concat());
}

#[test]
fn a_row_as_wide_as_the_terminal_keeps_its_last_column() {
    let (console, terminal) = console(small);
    for _ in 0..2 {
        console.draw("0123456789\n0123456789");
        assert_eq!(terminal.shows(), ["0123456789", "0123456789"]);
    }
}

#[test]
fn what_exceeds_the_terminal_is_not_drawn() {
    let (console, terminal) = console(small);
    console.say("above").unwrap();
    for _ in 0..2 {
        console.draw("1\n2\n3\n4\n5\n6");
        assert_eq!(terminal.shows(), ["above", "1", "2", "3", "4"]);
    }
}

#[test]
fn what_is_drawn_last_stays() {
    let (console, terminal) = console(small);
    console.draw("one");
    console.keep();
    console.say("said").unwrap();
    console.draw("two");
    drop(console.clone());
    drop(console);
    assert_eq!(terminal.shows(), ["one", "said", "two"]);

    let (console, terminal) = self::console(small);
    console.say("said").unwrap();
    console.draw("one\ntwo");
    console.clear();
    assert_eq!(terminal.shows(), ["said"]);
}

#[test]
fn a_terminal_that_became_narrower_has_broken_the_rows() {
    static COLUMNS: AtomicU16 = AtomicU16::new(10);
    let mode = Mode::Redraw(|| Size {
        columns: COLUMNS.load(Ordering::Relaxed),
        rows: 9,
    });
    let terminal = Terminal::default();
    let console = Console::with(mode, terminal.clone(), terminal.clone(), true, true);
    console.say("above").unwrap();
    console.draw("0123456789\nshort");
    COLUMNS.store(6, Ordering::Relaxed);
    // As terminals do that keep their text.
    {
        let mut screen = terminal.0.lock().unwrap();
        screen.lines = ["above", "012345", "6789", "short"]
            .map(str::to_owned)
            .into();
        screen.row = 4;
    }
    console.draw("012345\nshort");
    assert_eq!(terminal.shows(), ["above", "012345", "short"]);
}

#[test]
fn a_log_has_the_time_of_day_and_no_drawing() {
    let terminal = Terminal::default();
    let console = Console::new(Mode::Lines, terminal.clone(), terminal.clone());
    console.draw("table");
    console.say("said").unwrap();
    console.print("printed").unwrap();
    let [said, printed] = &terminal.shows()[..] else {
        panic!("{:?}", terminal.shows());
    };
    let (time, text) = said.split_once(' ').unwrap();
    assert_eq!(
        (time.len(), time.matches(':').count(), text),
        (8, 2, "said")
    );
    assert_eq!(printed, "printed");
}

#[test]
fn variables_give_the_size_where_there_is_no_terminal() {
    let size = |columns: &str, lines: &str| {
        let (columns, lines) = (columns.to_owned(), lines.to_owned());
        Size::of_variables(move |name| match name {
            "COLUMNS" => Some(columns.clone()),
            _ => Some(lines.clone()),
        })
    };
    let given = Size {
        columns: 60,
        rows: 24,
    };
    assert_eq!(size("60", "24"), given);
    for nonsense in ["", "0", "-1", "wide", "99999999"] {
        assert_eq!(size(nonsense, nonsense), Size::DEFAULT, "{nonsense:?}");
    }
    assert_eq!(Size::of_variables(|_| None), Size::DEFAULT);
}

#[test]
fn texts_are_fitted_by_columns_not_by_characters() {
    for (text, limit, fits) in [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("顔顔", 4, "顔顔"),
        ("顔顔顔", 4, "顔…"),
        ("ab cd", 4, "ab…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        // An emoji by a selector that has no columns of its own.
        ("\u{2764}\u{fe0f}ab", 2, "\u{2764}\u{fe0f}…"),
    ] {
        assert_eq!(fitted(text, limit), fits);
        assert!(columns(&fitted(text, limit)) <= limit);
    }
}

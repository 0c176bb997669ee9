//! What the commands that show something have in common: tables, colours, numbers in words.
//!
//! Text that comes from shared memory or from file names is escaped before it gets here ([`plain`]): it may hold what a
//! terminal would obey.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use indicatif::{BinaryBytes, HumanCount};
use rustix::termios::tcgetwinsize;

/// How a cell looks on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Look {
    #[default]
    Plain,
    Bold,
    Good,
    Warning,
    Bad,
    Faint,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Faint => "\x1b[2m",
        }
    }
}

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) colour: bool,
    /// Columns of the terminal, if it is one.
    pub(crate) width: Option<usize>,
    pub(crate) height: Option<usize>,
}

impl Screen {
    /// That of standard output. No colour where it is no terminal, or where the user wants none.
    pub(crate) fn of_stdout() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = terminal.then(|| tcgetwinsize(&out).ok()).flatten();
        let size = size.filter(|size| size.ws_col > 0);
        Self {
            colour: terminal && !set("NO_COLOR") && !dumb,
            width: size.map(|size| size.ws_col.into()),
            height: size.map(|size| size.ws_row.into()),
        }
    }

    /// The text as it looks.
    pub(crate) fn paint(&self, text: &str, look: Look) -> String {
        if !self.colour || look == Look::Plain {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", look.code())
    }
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, look: Look) -> Self {
        Self {
            text: text.into(),
            look,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Look::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Look::Plain)
    }
}

/// Lines whose columns stand below each other.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    /// Columns of numbers are flush right.
    right: Vec<bool>,
    lines: Vec<Vec<Cell>>,
    indent: usize,
}

/// A column is not made narrower than this.
const NARROWEST: usize = 6;

impl Table {
    /// Columns of these heads; those that begin with `>` are flush right.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self {
            right: heads.iter().map(|head| head.starts_with('>')).collect(),
            heads: heads
                .iter()
                .map(|head| head.trim_start_matches('>'))
                .collect(),
            lines: Vec::new(),
            indent: 0,
        }
    }

    /// Every line begins with so many spaces.
    pub(crate) fn indent(mut self, spaces: usize) -> Self {
        self.indent = spaces;
        self
    }

    pub(crate) fn line(&mut self, cells: Vec<Cell>) {
        self.lines.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The table. On a terminal that is too narrow, the widest columns are cut; nothing is cut anywhere else.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        let columns = self.heads.len();
        let widest = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            let cells = cells.map(|cell| length(&cell.text));
            cells.chain([length(self.heads[column])]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(widest).collect();
        if let Some(screen) = screen.width {
            let between = self.indent + 2 * columns.saturating_sub(1);
            fit(&mut widths, screen.saturating_sub(between));
        }
        let mut text = String::new();
        let heads: Vec<Cell> = self
            .heads
            .iter()
            .map(|head| Cell::new(*head, Look::Bold))
            .collect();
        for line in std::iter::once(&heads).chain(&self.lines) {
            let mut out = " ".repeat(self.indent);
            for (column, cell) in line.iter().take(columns).enumerate() {
                let shown = cut(&cell.text, widths[column]);
                let pad = " ".repeat(widths[column] - length(&shown));
                let painted = screen.paint(&shown, cell.look);
                let _ = match self.right[column] {
                    true => write!(out, "{pad}{painted}"),
                    false if column + 1 == columns => write!(out, "{painted}"),
                    false => write!(out, "{painted}{pad}"),
                };
                if column + 1 < columns {
                    out.push_str("  ");
                }
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Takes from the widest until they fit, but leaves each its least.
fn fit(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

/// Columns that the text takes. What is shown here is made of characters of one column each.
pub(crate) fn length(text: &str) -> usize {
    text.chars().count()
}

/// The text in so many columns; what does not fit is told by an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// Text of strangers, without anything that a terminal would obey, and of bounded length.
pub(crate) fn plain(text: &str) -> String {
    const LONGEST: usize = 4096;
    let escaped = |c: char| match c {
        // What is wide, combines, or turns the direction of the text would put tables out of order.
        ' '..='~' => c.to_string(),
        _ => c.escape_default().to_string(),
    };
    text.chars().take(LONGEST).map(escaped).collect()
}

/// A name as the last word of a command that is told for a shell: as it is, or in quotes; and never an option.
pub(crate) fn quoted(name: &str) -> String {
    if name.starts_with('-') {
        return format!("-- {}", word(name));
    }
    word(name)
}

fn word(name: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._-+/@%=:,".contains(c);
    if !name.is_empty() && name.chars().all(harmless) {
        return name.to_owned();
    }
    let escaped = name.chars().map(|c| match c {
        '\'' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    });
    let escaped: String = escaped.collect();
    // Only what has escapes in it needs the quotes that know them.
    let dollar = if escaped.contains('\\') { "$" } else { "" };
    format!("{dollar}'{escaped}'")
}

/// The tag of a kind as text. Any process may have written it.
pub(crate) fn tag(tag: [u8; 8]) -> String {
    let end = tag
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    tag[..end].escape_ascii().to_string()
}

/// A number with commas.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Bytes in a unit that keeps them short.
pub(crate) fn bytes(number: u64) -> String {
    BinaryBytes(number).to_string()
}

/// A number of a rate in four digits or so: `12.3 k`.
pub(crate) fn short(number: f64) -> String {
    match number {
        _ if number < 1e3 => format!("{number:.0}"),
        _ if number < 1e6 => format!("{:.1} k", number / 1e3),
        _ if number < 1e9 => format!("{:.1} M", number / 1e6),
        _ => format!("{:.1} G", number / 1e9),
    }
}

/// How much of the whole, from 0 to 1.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64).min(1.0)
}

/// A bar of so many columns.
pub(crate) fn bar(share: f64, columns: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * columns as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(columns - full))
}

/// One column for each value, as high as it is compared with the highest.
pub(crate) fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.clone().fold(0.0, f64::max);
    let step = |value: f64| match highest > 0.0 && value > 0.0 {
        true => STEPS[((value / highest * 8.0).ceil() as usize).clamp(1, 8) - 1],
        false => ' ',
    };
    values.map(step).collect()
}

/// Bytes as `hexdump -C` shows them: the offset, sixteen bytes, what of them can be printed.
pub(crate) fn hex(bytes: &[u8], indent: usize) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "{:indent$}{:08x}  ", "", index * 16);
        for column in 0..16 {
            let _ = match line.get(column) {
                Some(byte) => write!(text, "{byte:02x} "),
                None => write!(text, "   "),
            };
            if column == 7 {
                text.push(' ');
            }
        }
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => *byte as char,
            _ => '.',
        };
        let _ = writeln!(text, " |{}|", line.iter().map(shown).collect::<String>());
    }
    text
}

/// Bytes as text, a line in quotes for each of its own; `None` if they are none. A character that is cut off at either end is
/// no fault: the text may go on in another message.
pub(crate) fn text(bytes: &[u8], indent: usize) -> Option<String> {
    const CUT: usize = 2 * 3;
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let pieces = || bytes.utf8_chunks();
    let odd: usize = pieces().map(|piece| piece.invalid().len()).sum();
    if odd > CUT || pieces().any(|piece| piece.valid().chars().any(is_control)) {
        return None;
    }
    let mut text = String::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let _ = write!(text, "{:indent$}\"", "");
        for piece in line.utf8_chunks() {
            // What would turn the line round or cannot be seen is escaped as well.
            let quoted = format!("{:?}", piece.valid());
            text.push_str(&quoted[1..quoted.len() - 1]);
            let _ = write!(text, "{}", piece.invalid().escape_ascii());
        }
        text.push_str("\"\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Screen = Screen {
        colour: false,
        width: None,
        height: None,
    };

    // Would catch a table whose columns do not stand below each other, and one that is cut where nobody looks at it.
    #[test]
    fn a_table_is_cut_on_narrow_terminals_only() {
        let mut table = Table::new(&["NAME", ">SIZE", "STATE"]);
        table.line(vec!["a-name-that-is-long".into(), "1".into(), "x".into()]);
        table.line(vec!["b".into(), "1,000".into(), "in use".into()]);
        assert_eq!(
            table.render(&WIDE),
            "NAME                  SIZE  STATE\na-name-that-is-long      1  x\nb                    1,000  in use\n"
        );
        let narrow = Screen {
            width: Some(24),
            ..WIDE
        };
        for line in table.render(&narrow).lines() {
            assert!(length(line) <= 24, "{line:?}");
        }
        assert!(table.render(&narrow).contains("a-name-t…"));
    }

    // Would catch text of strangers that moves the cursor or turns the line round.
    #[test]
    fn what_strangers_wrote_obeys_nothing() {
        assert_eq!(plain("a\x1b[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
    }

    // Would catch a command that a shell takes apart, or that does another thing, when it is pasted as it was told.
    #[test]
    fn a_name_in_a_command_is_one_word() {
        assert_eq!(quoted("feed-1.x"), "feed-1.x");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("-x y"), "-- '-x y'");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
        assert_eq!(quoted("it's"), "$'it\\'s'");
        assert_eq!(quoted("\u{e9}"), "$'\\U000000e9'");
    }

    // Would catch text that obeys, text taken for bytes because a piece of it is elsewhere, and bytes taken for text.
    #[test]
    fn text_is_told_from_bytes() {
        let seen = |bytes: &[u8]| text(bytes, 2);
        assert_eq!(
            seen(b"a\t'b\nc").as_deref(),
            Some("  \"a\\t'b\\n\"\n  \"c\"\n")
        );
        let cut = &"é…".as_bytes()[..4];
        assert_eq!(seen(cut).as_deref(), Some("  \"é\\xe2\\x80\"\n"));
        assert_eq!(
            seen("\u{202e}".as_bytes()).as_deref(),
            Some("  \"\\u{202e}\"\n")
        );
        assert_eq!(seen(b"\x1b[2J"), None);
        assert_eq!(seen(&[0xff; 7]), None);
    }

    // Would catch a bar that is longer than its room, and a line that divides by nothing.
    #[test]
    fn bars_keep_to_their_room() {
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(sparkline([0.0, 1.0, 8.0].into_iter()), " ▁█");
        assert_eq!(sparkline([0.0].into_iter()), " ");
        assert_eq!(share(1, 0), 0.0);
    }
}

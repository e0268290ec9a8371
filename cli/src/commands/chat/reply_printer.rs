//! Replies on the terminal, as they come.

use std::io::{self, IsTerminal};

use crate::error::CommandError;
use crate::terminal;
use selvedge::generate::{Delta, Turn};
use selvedge::runtime::Engine;
use selvedge::text::Piece;

/// Prints a reply as it comes; gives its answer.
pub(super) async fn print_reply(engine: &mut Engine, turn: &mut Turn) -> Result<String, CommandError> {
    let mut answer = String::new();
    let mut printer = ReplyPrinter::new();
    while let Some(Delta { pieces, .. }) = turn.next(engine).await? {
        for piece in pieces {
            printer.print(&piece, &mut answer)?;
        }
    }
    printer.end()?;
    Ok(answer)
}

/// Printer of a reply on stdout, as it comes. Thinking is dim; where that cannot be shown, it goes to stderr, in lines
/// of its own.
struct ReplyPrinter {
    dim: bool,
    thinking: bool,
    /// The thinking on stderr is amid a line.
    amid_line: bool,
}

impl ReplyPrinter {
    fn new() -> Self {
        Self { dim: io::stdout().is_terminal(), thinking: false, amid_line: false }
    }

    fn print(&mut self, piece: &Piece, answer: &mut String) -> Result<(), CommandError> {
        match piece {
            Piece::Thinking(text) if self.dim => {
                terminal::print_styled(if self.thinking { "" } else { "\x1b[2m" }, text)?;
            }
            Piece::Thinking(text) => {
                terminal::aside(text);
                self.amid_line = !text.ends_with('\n');
            }
            Piece::Answer(text) => {
                self.end_line();
                answer.push_str(text);
                terminal::print_styled(if self.thinking && self.dim { "\x1b[0m\n" } else { "" }, text)?;
            }
        }
        self.thinking = matches!(piece, Piece::Thinking(_));
        Ok(())
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.amid_line) {
            terminal::aside("\n");
        }
    }

    fn end(&mut self) -> Result<(), CommandError> {
        self.end_line();
        terminal::print_styled(if self.thinking && self.dim { "\x1b[0m" } else { "" }, "\n")
    }
}

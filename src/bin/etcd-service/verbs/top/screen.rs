//! The alternate screen of the terminal.

use std::io;

use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType};
use ratatui::{DefaultTerminal, Frame};

use crate::failure::Failure;

/// The terminal while `top` uses it: raw, and on its alternate screen. It is restored if the program panics.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        let terminal = ratatui::try_init().map_err(terminal_failed)?;
        Ok(Screen { terminal })
    }

    /// Gives the terminal back as it was.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        let shown = self.terminal.show_cursor();
        let restored = ratatui::try_restore();
        shown.and(restored).map_err(terminal_failed)
    }

    /// Takes the terminal again after others have used it.
    pub(super) fn reopen(&mut self) -> Result<(), Failure> {
        // Raw mode is only set anew when it was left.
        let _ = ratatui::try_restore();
        self.terminal = ratatui::try_init().map_err(terminal_failed)?;
        // `Terminal::clear` would ask the terminal for the position of its cursor, and not every terminal answers.
        execute!(io::stdout(), Clear(ClearType::All)).map_err(terminal_failed)
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        let drawn = self.terminal.draw(picture);
        drawn.map(|_| ()).map_err(terminal_failed)
    }
}

/// The failure of a call of the terminal.
pub(super) fn terminal_failed(error: io::Error) -> Failure {
    Failure::failed(format!("use the terminal: {error}"))
}

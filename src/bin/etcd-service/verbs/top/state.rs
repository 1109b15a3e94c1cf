//! What the user has chosen, and what keys change. Pure.

use std::sync::Arc;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::registry::{Picture, ServicePicture};

/// The longest filter.
const LONGEST_FILTER: usize = 60;

/// What the user has chosen.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The name of the chosen service.
    pub(super) chosen: Option<Arc<str>>,
    /// Whether the instances of the chosen service are shown.
    pub(super) is_open: bool,
    /// The part of the names that is shown.
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) is_filtering: bool,
    /// The first instance that is shown.
    pub(super) first: usize,
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Redraw,
    End,
}

impl State {
    /// The services that pass the filter.
    pub(super) fn shown<'a>(
        &'a self,
        picture: &'a Picture,
    ) -> impl Iterator<Item = &'a Arc<ServicePicture>> {
        let services = picture.services.values();
        services.filter(|service| service.name.contains(&self.filter))
    }

    /// Keeps the choice inside of a picture.
    pub(super) fn look_at(&mut self, picture: &Picture) {
        let is_shown = |name: &Arc<str>| self.shown(picture).any(|of| of.name == *name);
        if !self.chosen.as_ref().is_some_and(is_shown) {
            let first = self.shown(picture).next().map(|of| Arc::clone(&of.name));
            self.chosen = first;
            self.is_open = false;
        }
        let chosen = self
            .chosen
            .as_ref()
            .and_then(|name| picture.services.get(name));
        let last = chosen.map_or(0, |service| service.instances.len().saturating_sub(1));
        self.first = self.first.min(last);
    }

    /// Applies an event of the terminal.
    pub(super) fn on(&mut self, event: &Event, picture: &Picture) -> After {
        let after = match event {
            Event::Resize(..) => After::Redraw,
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(*key, picture),
            _ => After::Nothing,
        };
        self.look_at(picture);
        after
    }

    fn on_key(&mut self, key: KeyEvent, picture: &Picture) -> After {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            // The terminal sends no signal for it in this mode.
            KeyCode::Char('c') if is_control => return After::End,
            KeyCode::Char(_) if is_control => return After::Nothing,
            KeyCode::Enter | KeyCode::Esc if self.is_filtering => {
                self.is_filtering = false;
                if key.code == KeyCode::Esc {
                    self.filter.clear();
                }
            }
            KeyCode::Backspace if self.is_filtering => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.is_filtering => {
                if self.filter.len() < LONGEST_FILTER {
                    self.filter.push(c);
                }
            }
            KeyCode::Char('q') => return After::End,
            KeyCode::Char('/') => {
                self.is_filtering = true;
                self.is_open = false;
            }
            KeyCode::Enter | KeyCode::Right => {
                self.is_open = self.chosen.is_some();
                self.first = 0;
            }
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.is_open = false,
            KeyCode::Up => self.step(picture, -1),
            KeyCode::Down => self.step(picture, 1),
            KeyCode::PageUp => self.step(picture, -10),
            KeyCode::PageDown => self.step(picture, 10),
            _ => return After::Nothing,
        }
        After::Redraw
    }

    fn step(&mut self, picture: &Picture, by: isize) {
        if self.is_open {
            self.first = self.first.saturating_add_signed(by);
            return;
        }
        let names: Vec<_> = self.shown(picture).map(|of| Arc::clone(&of.name)).collect();
        let at = names
            .iter()
            .position(|name| Some(name) == self.chosen.as_ref());
        let to = at.unwrap_or(0).saturating_add_signed(by);
        self.chosen = names.get(to.min(names.len().saturating_sub(1))).cloned();
    }
}

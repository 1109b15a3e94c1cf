//! What the user has chosen, and what keys change. Pure.

use std::sync::Arc;

use etcd_blocking::Status;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::registry::{Picture, ServicePicture};

/// The longest filter.
const LONGEST_FILTER: usize = 60;

/// The order of the services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Name,
    /// Those with the most instances first.
    Instances,
    /// Those with the most instances that take no calls first.
    NotUp,
    /// Those of which the most instances expired first.
    Expired,
}

impl Order {
    pub(super) fn word(self) -> &'static str {
        match self {
            Order::Name => "name",
            Order::Instances => "instances",
            Order::NotUp => "instances that are not up",
            Order::Expired => "expired instances",
        }
    }

    fn next(self) -> Self {
        match self {
            Order::Name => Order::Instances,
            Order::Instances => Order::NotUp,
            Order::NotUp => Order::Expired,
            Order::Expired => Order::Name,
        }
    }

    /// The greater comes first; services that are equal stay sorted by name.
    fn weight(self, service: &ServicePicture) -> u64 {
        let count = match self {
            Order::Name => return 0,
            Order::Expired => return service.counts.expired,
            Order::Instances => service.instances.len(),
            Order::NotUp => service.instances.len() - service.with_status(Status::Up),
        };
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

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
    pub(super) order: Order,
    /// The first instance that is shown.
    pub(super) first: usize,
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Redraw,
    /// Stop the job, as Ctrl-Z does.
    Stop,
    End,
}

impl State {
    /// The services that pass the filter, in the order that was chosen.
    pub(super) fn shown<'a>(&self, picture: &'a Picture) -> Vec<&'a Arc<ServicePicture>> {
        let services = picture.services.values();
        let services = services.filter(|service| service.name.contains(&self.filter));
        let mut services: Vec<_> = services.collect();
        services.sort_by_key(|service| std::cmp::Reverse(self.order.weight(service)));
        services
    }

    /// Keeps the choice inside of a picture.
    pub(super) fn look_at(&mut self, picture: &Picture) {
        let shown = self.shown(picture);
        let is_shown = |name: &Arc<str>| shown.iter().any(|of| of.name == *name);
        if !self.chosen.as_ref().is_some_and(is_shown) {
            self.chosen = shown.first().map(|of| Arc::clone(&of.name));
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
            KeyCode::Char('z') if is_control => return After::Stop,
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
            KeyCode::Char('s') => self.order = self.order.next(),
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
        let names: Vec<_> = self
            .shown(picture)
            .iter()
            .map(|of| Arc::clone(&of.name))
            .collect();
        let at = names
            .iter()
            .position(|name| Some(name) == self.chosen.as_ref());
        let to = at.unwrap_or(0).saturating_add_signed(by);
        self.chosen = names.get(to.min(names.len().saturating_sub(1))).cloned();
    }
}

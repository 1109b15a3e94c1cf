//! One frame, for a terminal and as plain text. Pure.

use etcd_blocking::{Freshness, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::state::{Order, State};
use crate::output::{counted, printable};
use crate::registry::{Picture, ServicePicture, Shown};

/// The statuses in the order of their columns.
const COLUMNS: [(Status, &str); 6] = [
    (Status::Up, "UP"),
    (Status::Starting, "STARTING"),
    (Status::Draining, "DRAINING"),
    (Status::OutOfService, "OUT"),
    (Status::Maintenance, "MAINT"),
    (Status::Suspect, "SUSPECT"),
];

/// The widths of the columns for names, ids and addresses.
const NAME: usize = 28;
const ADDRESS: usize = 24;

/// Draws a frame.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, state: &State) {
    let rows = [
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    let style = match picture.is_live() {
        true => Style::new().fg(Color::Green),
        false => Style::new().fg(Color::Yellow),
    };
    let filter = match (state.is_filtering, state.filter.is_empty()) {
        (true, _) => format!("filter: {}_", printable(&state.filter)),
        (false, false) => format!("filter: {}", printable(&state.filter)),
        (false, true) => String::new(),
    };
    let order = match state.order {
        Order::Name => String::new(),
        order => format!("sorted by {}  ", order.word()),
    };
    let heading = vec![
        Line::styled(summary(picture), style),
        Line::raw(order + &filter),
    ];
    frame.render_widget(Paragraph::new(heading), head);
    let height = usize::from(body.height);
    let chosen = state
        .chosen
        .as_ref()
        .and_then(|name| picture.services.get(name));
    let lines = match (state.is_open, chosen) {
        (true, Some(service)) => instances(service, state.first, height),
        _ => services(picture, state, height),
    };
    frame.render_widget(Paragraph::new(lines), body);
    let keys = match state.is_open {
        true => "q end  Esc services  arrows scroll",
        false => "q end  arrows choose  Enter instances  / filter  s sort",
    };
    let keys = Line::styled(keys, Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(keys), foot);
}

fn services(picture: &Picture, state: &State, height: usize) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled(service_heading(), bold)];
    let shown = state.shown(picture);
    let at = shown
        .iter()
        .position(|of| Some(&of.name) == state.chosen.as_ref());
    let room = height.saturating_sub(1).max(1);
    // The chosen one is always in the frame.
    let first = at.unwrap_or(0).saturating_sub(room - 1);
    for service in shown.into_iter().skip(first).take(room) {
        let style = match Some(&service.name) == state.chosen.as_ref() {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        lines.push(Line::styled(service_line(service), style));
    }
    lines
}

fn instances(service: &ServicePicture, first: usize, height: usize) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let heading = format!("{}: {}", printable(&service.name), instance_heading());
    let mut lines = vec![Line::styled(heading, bold)];
    let room = height.saturating_sub(1).max(1);
    for shown in service.instances.iter().skip(first).take(room) {
        let colour = match shown.instance.status {
            Status::Up => Color::Green,
            Status::OutOfService => Color::Red,
            _ => Color::Yellow,
        };
        let colour = Style::new().fg(colour);
        lines.push(Line::from(Span::styled(instance_line(shown), colour)));
    }
    lines
}

/// The whole picture as plain text.
pub(super) fn plain(picture: &Picture) -> Vec<String> {
    let mut lines = vec![summary(picture), String::new(), service_heading()];
    lines.extend(
        picture
            .services
            .values()
            .map(|service| service_line(service)),
    );
    for service in picture.services.values() {
        lines.push(String::new());
        lines.push(format!(
            "{}: {}",
            printable(&service.name),
            instance_heading()
        ));
        lines.extend(service.instances.iter().map(instance_line));
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn summary(picture: &Picture) -> String {
    let instances = picture.services.values().map(|of| of.instances.len());
    let instances: usize = instances.sum();
    let state = match picture.freshness {
        Freshness::Live => "up to date".to_owned(),
        Freshness::Stale { .. } if picture.error.is_some() => {
            "NOT UP TO DATE: etcd is away".to_owned()
        }
        // Such as between the first list and the first answer of the watch.
        Freshness::Stale { .. } => "NOT UP TO DATE".to_owned(),
        _ => "waiting for etcd".to_owned(),
    };
    let why = picture.error.as_deref().filter(|_| !picture.is_live());
    let why = why.map_or_else(String::new, |why| format!(" ({})", printable(why)));
    let bad = match picture.bad_total {
        0 => String::new(),
        bad => format!(", {}", counted(bad, "bad value")),
    };
    format!(
        "{}, {}{bad}, revision {}, {state}{why}",
        counted(picture.services.len(), "service"),
        counted(instances, "instance"),
        picture.revision().get()
    )
}

fn service_heading() -> String {
    let mut line = format!("{:NAME$}", "SERVICE");
    for (_, heading) in COLUMNS {
        line += &format!(" {heading:>8}");
    }
    line + "     LEFT  EXPIRED"
}

fn service_line(service: &ServicePicture) -> String {
    let mut line = column(&service.name, NAME);
    for (status, _) in COLUMNS {
        line += &format!(" {:>8}", service.with_status(status));
    }
    line + &format!(" {:>8} {:>8}", service.counts.left, service.counts.expired)
}

fn instance_heading() -> String {
    "instance, address, status, weight, reason".to_owned()
}

fn instance_line(shown: &Shown) -> String {
    let instance = &shown.instance;
    format!(
        "  {} {} {:14} {:>4} {}",
        column(&instance.id, NAME),
        column(&instance.addr, ADDRESS),
        instance.status.as_str(),
        instance.weight,
        printable(&instance.reason)
    )
}

/// Text in a column: a longer one keeps its length, so that nothing is hidden.
fn column(text: &str, width: usize) -> String {
    format!("{:width$}", printable(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use etcd_blocking::{Instance, Revision};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{Event, KeyCode, KeyEvent};

    use super::super::state::After;
    use super::*;
    use crate::registry::{Counts, Timeline};

    fn picture(names: &[&str]) -> Picture {
        let service = |name: &&str| {
            let instance = Instance::new(*name, "10.0.0.1:80").id("one\u{1b}[2J");
            let instance = instance.status(Status::Draining).reason("by <hand>\n");
            let service = ServicePicture {
                version: 1,
                name: (*name).into(),
                instances: vec![Shown {
                    instance: Arc::new(instance),
                    status_since: None,
                }],
                revision: Revision::default(),
                timeline: Arc::new(Timeline::new(SystemTime::UNIX_EPOCH, Duration::MAX, 1)),
                counts: Counts::default(),
            };
            (Arc::from(*name), Arc::new(service))
        };
        Picture {
            version: 1,
            freshness: Freshness::Live,
            error: None,
            services: names.iter().map(service).collect(),
            bad: Arc::default(),
            bad_total: 0,
        }
    }

    fn screen(picture: &Picture, state: &State) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 8)).unwrap();
        terminal.draw(|frame| draw(frame, picture, state)).unwrap();
        terminal.backend().to_string()
    }

    fn press(state: &mut State, picture: &Picture, keys: &[KeyCode]) -> After {
        let mut after = After::Nothing;
        for key in keys {
            after = state.on(&Event::Key(KeyEvent::from(*key)), picture);
        }
        after
    }

    #[test]
    fn keys_choose_open_filter_and_end() {
        let picture = picture(&["api", "db", "web"]);
        let mut state = State::default();
        state.look_at(&picture);
        assert_eq!(state.chosen.as_deref(), Some("api"));
        press(&mut state, &picture, &[KeyCode::Down, KeyCode::Enter]);
        assert_eq!((state.chosen.as_deref(), state.is_open), (Some("db"), true));
        let shown = screen(&picture, &state);
        assert!(shown.contains("db: instance, address"), "{shown}");
        assert!(shown.contains("one\\u{1b}[2J"), "{shown}");
        assert!(shown.contains("draining"), "{shown}");
        press(
            &mut state,
            &picture,
            &[KeyCode::Esc, KeyCode::Char('/'), KeyCode::Char('w')],
        );
        let shown = screen(&picture, &state);
        assert!(shown.contains("filter: w_"), "{shown}");
        assert!(shown.contains("web") && !shown.contains("api"), "{shown}");
        assert_eq!(state.chosen.as_deref(), Some("web"));
        // A q in the filter is a letter.
        assert_eq!(
            press(&mut state, &picture, &[KeyCode::Char('q')]),
            After::Redraw
        );
        assert_eq!(state.chosen, None);
        press(
            &mut state,
            &picture,
            &[KeyCode::Esc, KeyCode::PageDown, KeyCode::PageDown],
        );
        assert_eq!(state.chosen.as_deref(), Some("web"));
        assert_eq!(
            press(&mut state, &picture, &[KeyCode::Char('q')]),
            After::End
        );
    }

    #[test]
    fn services_are_sorted_by_what_was_chosen() {
        let mut picture = picture(&["a", "b", "c"]);
        let change = |name: &str, of: &mut Picture, change: &dyn Fn(&mut ServicePicture)| {
            let service = of.services.get_mut(name).unwrap();
            change(Arc::make_mut(service));
        };
        change("b", &mut picture, &|of| {
            let more = Shown {
                instance: Arc::new(Instance::new("b", "10.0.0.2:80").id("up")),
                status_since: None,
            };
            of.instances = vec![more.clone(), more];
        });
        change("c", &mut picture, &|of| of.counts.expired = 1);
        let mut state = State::default();
        let mut orders = Vec::new();
        for _ in 0..5 {
            let names = state.shown(&picture).into_iter().map(|of| &*of.name);
            orders.push(names.collect::<String>());
            press(&mut state, &picture, &[KeyCode::Char('s')]);
        }
        // By name, instances, those that are not up, those that expired, and by name again.
        assert_eq!(orders, ["abc", "bac", "acb", "cab", "abc"]);
        let shown = screen(&picture, &state);
        assert!(shown.contains("sorted by instances"), "{shown}");
    }

    #[test]
    fn the_chosen_service_is_in_the_frame_of_a_low_terminal() {
        let names: Vec<String> = (10..40).map(|i| format!("s{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let picture = picture(&names);
        let mut state = State::default();
        state.look_at(&picture);
        press(
            &mut state,
            &picture,
            &[KeyCode::PageDown, KeyCode::PageDown],
        );
        let shown = screen(&picture, &state);
        assert!(shown.contains("s30") && !shown.contains("s20"), "{shown}");
    }

    #[test]
    fn plain_text_has_everything_and_no_control_characters() {
        let mut picture = picture(&["api"]);
        let text = plain(&picture).join("\n");
        assert!(
            text.starts_with("1 service, 1 instance, revision 0, up to date\n"),
            "{text}"
        );
        assert!(text.contains("one\\u{1b}[2J"), "{text}");
        assert!(text.contains("by <hand>\\u{a}"), "{text}");
        picture.freshness = Freshness::Unknown;
        picture.error = Some("refused".into());
        assert!(plain(&picture)[0].ends_with("waiting for etcd (refused)"));
    }
}

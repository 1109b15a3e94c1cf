//! Which request is answered by what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use etcd_blocking::Client;
use serde_json::{Value, json};

use super::access::Access;
use super::changes::{Changes, OperatorChange};
use super::event_stream::send_events;
use super::http::{BadRequest, Connection, Method, Place, Request, Response};
use super::json;
use super::metrics_text::{ServerCounts, metrics_text};
use super::targets::targets;
use crate::registry::{Picture, Registry, ServicePicture};

/// The largest number of event streams. They are fewer than connections, so that pages load while all are taken.
const EVENT_STREAMS: usize = 64;

const PAGE: &str = include_str!("page/page.html");
/// The modules of the script, by their names in paths.
const SCRIPTS: [(&str, &str); 8] = [
    ("announcer.js", include_str!("page/announcer.js")),
    ("basics.js", include_str!("page/basics.js")),
    ("happened.js", include_str!("page/happened.js")),
    ("page.js", include_str!("page/page.js")),
    ("server.js", include_str!("page/server.js")),
    ("services.js", include_str!("page/services.js")),
    ("table.js", include_str!("page/table.js")),
    ("timeline.js", include_str!("page/timeline.js")),
];
const STYLE: &str = include_str!("page/page.css");
const ICON: &str = include_str!("page/icon.svg");

/// What the page may do: nothing but to load its own parts and to talk to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers requests.
#[derive(Debug)]
pub(super) struct Routes {
    client: Client,
    registry: Arc<Registry>,
    access: Access,
    changes: Option<Changes>,
    requests: AtomicUsize,
    event_streams: Arc<AtomicUsize>,
}

impl Routes {
    pub(super) fn new(
        client: Client,
        registry: Arc<Registry>,
        access: Access,
        changes: Option<Changes>,
    ) -> Self {
        Routes {
            client,
            registry,
            access,
            changes,
            requests: AtomicUsize::new(0),
            event_streams: Arc::default(),
        }
    }

    /// Answers the request of a connection.
    pub(super) fn answer(&self, mut connection: Connection, request: Result<Request, BadRequest>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let request = match request {
            Ok(request) => request,
            Err(bad) => return connection.reply(&bad.into(), false),
        };
        let is_head = request.method == Method::Head;
        if let Err(refused) = self.check(&request) {
            return connection.reply(&refused, is_head);
        }
        if request.parts() == ["events"] && request.method != Method::Post {
            let Some(place) = Place::take(&self.event_streams, EVENT_STREAMS) else {
                let refused = Response::error(503, "there are too many event streams");
                return connection.reply(&refused.header("Retry-After", "5"), is_head);
            };
            if connection.begin_stream(is_head).is_ok() {
                let is_once = request.parameter("once").is_some();
                send_events(connection, &self.registry, &self.settings(), is_once);
            }
            drop(place);
            return;
        }
        connection.reply(&self.reply(&request), is_head);
    }

    /// Checks method, name and token.
    fn check(&self, request: &Request) -> Result<(), Response> {
        self.access.check_host(request)?;
        let parts = request.parts();
        let is_change = matches!(parts[..], ["v1", "services", _, "instances", _, _]);
        let is_allowed = match request.method {
            Method::Get | Method::Head => !is_change,
            Method::Post => is_change,
            Method::Other => false,
        };
        if !is_allowed {
            let (allow, text) = match is_change {
                true => ("POST", "this needs the method POST"),
                false => ("GET, HEAD", "this needs the method GET or HEAD"),
            };
            return Err(Response::error(405, text).header("Allow", allow));
        }
        if !is_open(&parts) {
            self.access.check_token(request).map_err(|bad| {
                Response::from(bad).header("WWW-Authenticate", "Bearer realm=\"etcd-service\"")
            })?;
        }
        if is_change {
            self.access.check_change(request)?;
        }
        Ok(())
    }

    /// What the page has to know about its server.
    fn settings(&self) -> Value {
        json!({
            "changes": self.changes.is_some(),
            "endpoints": self.client.metrics().endpoints.iter()
                .map(|endpoint| endpoint.endpoint.to_string()).collect::<Vec<_>>(),
        })
    }

    fn reply(&self, request: &Request) -> Response {
        let picture = self.registry.picture();
        let parts = request.parts();
        if let [name] = parts[..]
            && let Some(text) = script(name)
        {
            return Response::new(200, "text/javascript; charset=utf-8", text);
        }
        match parts[..] {
            [] => Response::new(200, "text/html; charset=utf-8", PAGE)
                .header("Content-Security-Policy", POLICY),
            ["page.css"] => Response::new(200, "text/css; charset=utf-8", STYLE),
            ["icon.svg"] => Response::new(200, "image/svg+xml", ICON),
            ["healthz"] => Response::new(200, PLAIN, "ok\n"),
            ["readyz"] => ready(&picture),
            ["metrics"] => {
                let server = ServerCounts {
                    requests: u64::try_from(self.requests.load(Ordering::Relaxed))
                        .unwrap_or(u64::MAX),
                    event_streams: self.event_streams.load(Ordering::Relaxed),
                };
                let text = metrics_text(&picture, &self.client.metrics(), server);
                Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            ["sd"] => known(&picture, |picture| {
                let services = picture.services.values().map(AsRef::as_ref);
                Response::json(200, &targets(services, request.parameter("status")))
            }),
            // A service without instances has no targets. That is an answer, and not an error.
            ["sd", name] => known(&picture, |picture| {
                let services = picture.services.get(name).map(AsRef::as_ref);
                Response::json(
                    200,
                    &targets(services.into_iter(), request.parameter("status")),
                )
            }),
            ["v1", "services"] => known(&picture, |picture| {
                Response::json(200, &json::services(picture))
            }),
            ["v1", "services", name] => service(&picture, name, |service| {
                Response::json(200, &json::service(&picture, service))
            }),
            ["v1", "services", name, "timeline"] => service(&picture, name, |service| {
                Response::json(200, &json::timeline(service, SystemTime::now()))
            }),
            ["v1", "services", name, "instances", id, verb] => service(&picture, name, |service| {
                self.change(service, id, verb, request)
            }),
            _ => Response::error(
                404,
                "there is nothing here; /v1/services lists the services",
            ),
        }
    }

    fn change(
        &self,
        service: &ServicePicture,
        id: &str,
        verb: &str,
        request: &Request,
    ) -> Response {
        let Some(changes) = &self.changes else {
            return Response::error(
                403,
                "the server is read-only; --allow-changes permits changes",
            );
        };
        let mut shown = service.instances.iter();
        if !shown.any(|shown| shown.instance.id == id) {
            return Response::error(404, "the service has no such instance");
        }
        let change = match verb {
            "drain" => OperatorChange::Drain,
            "undrain" => OperatorChange::Undrain,
            "weight" => match weight(&request.body) {
                Some(weight) => OperatorChange::Weight(weight),
                None => return Response::error(400, "the body is not {\"weight\": NUMBER}"),
            },
            _ => return Response::error(404, "the changes are drain, undrain and weight"),
        };
        match changes.make(&service.name, id, change) {
            Ok(true) => Response::json(200, &json!({ "done": true })),
            Ok(false) => Response::error(409, "others change this instance, too; try again"),
            Err(error) => Response::error(502, error.to_string()),
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Whether everybody may have this: the page has no data, and asks for the token.
fn is_open(parts: &[&str]) -> bool {
    match parts {
        [] | ["page.css" | "icon.svg" | "healthz" | "readyz"] => true,
        [name] => script(name).is_some(),
        _ => false,
    }
}

/// A module of the script of the page.
fn script(name: &str) -> Option<&'static str> {
    let mut scripts = SCRIPTS.iter();
    let (_, text) = scripts.find(|(known, _)| *known == name)?;
    Some(text)
}

fn weight(body: &[u8]) -> Option<u32> {
    let body: Value = serde_json::from_slice(body).ok()?;
    u32::try_from(body.get("weight")?.as_u64()?).ok()
}

/// Whether there is something to serve. The reply has no names, as it needs no token.
fn ready(picture: &Picture) -> Response {
    match picture.age() {
        Some(_) if picture.is_live() => Response::new(200, PLAIN, "live\n"),
        Some(age) => Response::new(200, PLAIN, format!("stale for {} s\n", age.as_secs())),
        None => Response::new(503, PLAIN, "etcd has not answered yet\n"),
    }
}

/// Refuses while nothing is known: an empty list would look like "there are no instances".
fn known(picture: &Picture, reply: impl FnOnce(&Picture) -> Response) -> Response {
    match picture.age() {
        Some(_) => reply(picture),
        None => Response::error(503, "etcd has not answered yet").header("Retry-After", "1"),
    }
}

fn service(
    picture: &Picture,
    name: &str,
    reply: impl FnOnce(&ServicePicture) -> Response,
) -> Response {
    known(picture, |picture| match picture.services.get(name) {
        Some(service) => reply(service),
        None => Response::error(404, "there is no such service"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let scripts = SCRIPTS.map(|(_, text)| text);
        for text in [&[PAGE, STYLE, ICON], &scripts[..]].concat() {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"));
            assert!(!text.contains("//cdn"));
        }
        // The policy forbids them, so they would not work.
        assert!(
            !PAGE.contains("style=\"") && !PAGE.contains("<script>") && !PAGE.contains("<style")
        );
        for unsafe_sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            let is_used = scripts.iter().any(|script| script.contains(unsafe_sink));
            assert!(!is_used, "{unsafe_sink}");
        }
    }

    #[test]
    fn a_weight_is_a_number() {
        assert_eq!(weight(b"{\"weight\": 7}"), Some(7));
        for body in [
            "",
            "7",
            "{}",
            "{\"weight\": -1}",
            "{\"weight\": 1.5}",
            "{\"weight\": 4294967296}",
        ] {
            assert_eq!(weight(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn data_is_never_open() {
        for parts in [
            &["events"][..],
            &["metrics"],
            &["sd"],
            &["v1", "services"],
            &["page.js", "x"],
        ] {
            assert!(!is_open(parts), "{parts:?}");
        }
        assert!(is_open(&[]) && is_open(&["healthz"]));
    }
}

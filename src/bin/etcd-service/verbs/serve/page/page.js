// The page of `etcd-service serve`: the state of the connection, and the service that is shown.

import { $, CAUSES, STATUSES, causeName, clock, element, number, printable, setText, span, statusName } from './basics.js';
import { announce } from './announcer.js';
import { showEvents } from './happened.js';
import { ask, follow } from './server.js';
import { filterServices, markSelected, showServices } from './services.js';
import { begin, filterRows, showRows, showTimes } from './table.js';
import { chooseRange, drawTimeline, setLost, showTimeline } from './timeline.js';

const isOnce = new URLSearchParams(location.search).has('once');

const services = new Map(); // name -> {name, instances: Map, up, counts, ends, dirty: Set}
let settings = { changes: false, endpoints: [] };
let freshness = null; // {state, age_ms, error, at}
let isConnected = false;
let needsToken = false;
let selected = null;
let announcedCounts = '';

// ---- events of the server ----

function receive(name, value) {
  const before = isConnected && freshness ? freshness.state : null;
  isConnected = true;
  needsToken = false;
  setLost(false);
  freshness = { ...value.freshness, at: Date.now() };
  const changed = new Set();
  if (name === 'snapshot') {
    // Rows have controls, or they have none.
    if (settings.changes !== value.settings.changes) select(null);
    settings = value.settings;
    setText($('endpoints'), settings.endpoints.map(printable).join(', '));
    complete(value, changed);
  }
  for (const gone of value.gone || []) {
    services.delete(gone);
    changed.add(gone);
  }
  for (const change of value.services) {
    apply(change);
    changed.add(change.name);
  }
  if (value.bad_values) showBad(value.bad_values);
  showState();
  if (changed.size > 0) showServices(services, changed, selected);
  showNothing();
  choose();
  if (freshness.state !== before || changed.has(selected)) loadTimeline();
}

// What is gone is what a snapshot does not have.
function complete(snapshot, changed) {
  const names = new Set(snapshot.services.map((service) => service.name));
  for (const name of [...services.keys()]) {
    if (names.has(name)) continue;
    services.delete(name);
    changed.add(name);
  }
  for (const change of snapshot.services) {
    const known = services.get(change.name);
    const ids = new Set(change.changed.map((instance) => instance.id));
    change.removed = known ? [...known.instances.keys()].filter((id) => !ids.has(id)) : [];
  }
}

function apply(change) {
  let service = services.get(change.name);
  if (!service) {
    service = { name: change.name, instances: new Map(), dirty: new Set() };
    services.set(change.name, service);
  }
  for (const id of change.removed) {
    service.instances.delete(id);
    service.dirty.add(id);
  }
  for (const instance of change.changed) {
    service.instances.set(instance.id, instance);
    service.dirty.add(instance.id);
  }
  service.ends = change.ends;
  service.counts = {};
  for (const { status } of service.instances.values()) service.counts[status] = (service.counts[status] || 0) + 1;
  service.up = service.counts.up || 0;
}

function lose() {
  isConnected = false;
  needsToken = false;
  setLost(true);
  showState();
}

// ---- the state of the connection ----

function setState(state, text) {
  if (document.body.dataset.state === state && $('state').textContent === text) return;
  // A page that is opened says nothing; what changes later is announced.
  const isFirst = document.body.dataset.state === 'connecting';
  document.body.dataset.state = state;
  setText($('state'), text);
  if (!isFirst || state !== 'live') announce(text);
}

function showState() {
  if (needsToken) return;
  let text = '';
  let age = '';
  let error = '';
  if (!isConnected) {
    setState(freshness ? 'lost' : 'connecting', freshness ? 'Connection lost' : 'Connecting');
    if (freshness) text = 'etcd-service does not answer; trying again. This is what it showed last.';
  } else if (freshness.state === 'live') {
    setState('live', 'Live');
  } else if (freshness.state === 'stale') {
    setState('stale', 'Stale');
    text = 'etcd does not answer. This is the last good list,';
    age = span(freshness.age_ms + Date.now() - freshness.at) + ' old.';
    error = freshness.error || '';
  } else {
    setState('stale', 'Waiting for etcd');
    text = 'etcd has not answered yet. Nothing is known.';
    error = freshness.error || '';
  }
  $('banner').hidden = text === '';
  setText($('banner-text'), text);
  setText($('banner-age'), age);
  setText($('banner-error'), printable(error));
  showAsOf();
}

// What is not up to date is marked where it is read.
function showAsOf() {
  let at = null;
  if (freshness && !isConnected) at = freshness.at;
  else if (freshness && freshness.state === 'stale') at = freshness.at - freshness.age_ms;
  $('as-of').hidden = at === null;
  setText($('as-of'), at === null ? '' : `as of ${clock(at)}`);
}

function showBad(bad) {
  $('bad').hidden = bad.length === 0;
  setText($('bad-count'), `${number(bad.length)} unreadable ${bad.length === 1 ? 'value' : 'values'}`);
  $('bad-list').replaceChildren(...bad.map(({ key, reason }) => element('li', printable(`${key}: ${reason}`))));
}

function showNothing() {
  const isKnown = freshness && freshness.state !== 'unknown';
  $('no-services').hidden = services.size > 0 || !isKnown;
}

// ---- the service that is shown ----

// The service of the address, or else the first.
function choose() {
  let name = null;
  if (location.hash.startsWith('#/')) {
    try {
      name = decodeURIComponent(location.hash.slice(2));
    } catch (error) {
      name = null;
    }
  }
  if (name === null) name = services.has(selected) ? selected : [...services.keys()].sort()[0];
  const isThere = name !== undefined && services.has(name);
  $('service').hidden = !isThere;
  $('nothing').hidden = isThere;
  if (!isThere) {
    select(null);
    const isKnown = freshness && freshness.state !== 'unknown';
    setText($('nothing-text'), !isKnown ? 'Waiting for the first list.'
      : name === undefined ? 'No service is registered. Services appear here once they are.'
      : `There is no service ${printable(name)} now.`);
    $('nothing-hint').hidden = !isKnown || name !== undefined;
    return;
  }
  if (name !== selected) {
    select(name);
    begin(name, settings.changes);
    services.get(name).dirty = new Set(services.get(name).instances.keys());
    loadTimeline();
  }
  showService(services.get(name));
}

function select(name) {
  if (name === selected) return;
  selected = name;
  markSelected(name);
  showTimeline(null);
  showEvents([]);
  announcedCounts = '';
  document.title = name === null ? 'Services' : printable(name) + ' - services';
}

function showService(service) {
  setText($('service-name'), printable(service.name));
  chips($('statuses'), STATUSES.filter((status) => service.counts[status]).map((status) =>
    [`${number(service.counts[status])} ${statusName(status)}`, status]));
  chips($('ends'), Object.keys(CAUSES).filter((cause) => service.ends[cause]).map((cause) =>
    [`${number(service.ends[cause])} ${causeName(cause)}`, null]));
  const total = service.instances.size;
  setText($('instances-count'), number(total));
  $('no-instances').hidden = total > 0;
  $('instances').hidden = total === 0;
  if (service.dirty.size > 0) {
    showRows(service.instances, service.dirty);
    service.dirty.clear();
  }
  const counts = `${printable(service.name)}: ${number(service.up)} of ${number(total)} up`;
  if (announcedCounts !== '' && announcedCounts !== counts) announce(counts);
  announcedCounts = counts;
}

function chips(list, entries) {
  const key = JSON.stringify(entries);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...entries.map(([text, status]) => {
    const item = element('li');
    item.append(element('span', text, status ? { class: 'status', 'data-status': status } : {}));
    return item;
  }));
}

// ---- the timeline ----

let isTimelineAsked = false;
let isTimelineOld = false;
let timelineAt = 0;
let timelinePace = 1000;

// Reads the timeline: once now, and once more later if there was a change meanwhile.
function loadTimeline() {
  isTimelineOld = true;
  if (isTimelineAsked || selected === null) return;
  isTimelineAsked = true;
  const isOther = timelineOf !== selected;
  setTimeout(readTimeline, isOther ? 0 : Math.max(0, timelineAt + timelinePace - Date.now()));
}

let timelineOf = null;

async function readTimeline() {
  const name = selected;
  const begun = performance.now();
  isTimelineOld = false;
  try {
    const response = await ask(`v1/services/${encodeURIComponent(name)}/timeline`);
    const timeline = response.ok ? await response.json() : null;
    if (timeline && name === selected) {
      timelineOf = name;
      showTimeline(timeline);
      showEvents(timeline.events);
    }
  } catch (error) {
    console.warn(String(error));
  }
  timelineAt = Date.now();
  // A timeline that takes long takes at most a fifth of the time.
  timelinePace = Math.max(1000, 4 * (performance.now() - begun));
  isTimelineAsked = false;
  if (isTimelineOld || name !== selected) loadTimeline();
}

// ---- the page ----

window.addEventListener('hashchange', () => {
  // Other fragments are those of the skip link.
  if (location.hash.startsWith('#/')) choose();
});
window.addEventListener('resize', drawTimeline);
$('service-filter').addEventListener('input', filterServices);
$('instance-filter').addEventListener('input', filterRows);
$('ranges').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) chooseRange(Number(button.dataset.minutes));
});
if (!isOnce) {
  setInterval(() => {
    showState();
    if (!document.hidden && isConnected) showTimes();
  }, 1000);
  setInterval(() => {
    if (document.hidden) return;
    drawTimeline();
    // What is older than an hour goes, and a request that failed is repeated.
    if (isConnected && Date.now() - timelineAt > 30000) loadTimeline();
  }, 2000);
}
follow({
  isOnce,
  receive,
  lose,
  needToken() {
    isConnected = false;
    needsToken = true;
    $('banner').hidden = true;
    setState('token', 'A token is needed');
  },
});

'use strict';
// The page of `etcd-service serve`. Text from etcd is set by textContent and by attributes only.

const SVG = 'http://www.w3.org/2000/svg';
const STATUSES = ['up', 'starting', 'draining', 'out_of_service', 'maintenance', 'suspect'];
const CAUSES = {
  left: 'left',
  expired: 'expired: it crashed, hung or lost the network',
  replaced: 'replaced by another address or value',
  resync: 'gone while etcd could not be watched',
  unknown: 'removed for an unknown reason',
};
const LANES = 24;
const isOnce = new URLSearchParams(location.search).has('once');

const services = new Map(); // name -> {name, instances: Map, ids: sorted array, ends}
const rows = new Map(); // id -> row of the table
const links = new Map(); // name -> link of the list
let settings = { changes: false, endpoints: [] };
let freshness = null; // {state, age_ms, error, at}
let isConnected = false;
let selected = null;
let timeline = null;
let timelineAt = 0;
let isTimelineAsked = false;
let minutes = 0; // 0 chooses by what is known
let token = sessionStorage.getItem('token');

const $ = (id) => document.getElementById(id);

function element(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
}

function shape(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title !== undefined) {
    const text = document.createElementNS(SVG, 'title');
    text.textContent = title;
    made.append(text);
  }
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Characters that change the direction of the text around them, or that are not seen, are shown as numbers.
function printable(text) {
  return String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
}

const statusName = (status) => status.replaceAll('_', ' ');
const number = (value) => value.toLocaleString('en');

function span(millis) {
  const seconds = Math.max(0, Math.floor(millis / 1000));
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  if (seconds < 48 * 3600) return Math.floor(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' d';
}

const clock = (millis) => new Date(millis).toLocaleTimeString('en-GB');

// ---- the server ----

function ask(path, options) {
  const headers = { ...(options && options.headers) };
  if (token) headers.Authorization = 'Bearer ' + token;
  return fetch(path, { ...options, headers, cache: 'no-store' });
}

async function follow() {
  let wait = 500;
  for (;;) {
    try {
      const response = await ask(isOnce ? 'events?once' : 'events');
      if (response.status === 401) {
        await askForToken();
        continue;
      }
      if (!response.ok) throw new Error('status ' + response.status);
      wait = 500;
      if (isOnce) receive((await response.text()).trim());
      else await read(response.body);
    } catch (error) {
      console.warn(String(error));
    }
    if (isOnce) return;
    isConnected = false;
    showState();
    await new Promise((resolve) => setTimeout(resolve, wait + Math.random() * wait));
    wait = Math.min(wait * 2, 10000);
  }
}

async function read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    // A stream that is silent for longer than the comments that keep it alive is dead.
    const timeout = setTimeout(() => reader.cancel().catch(() => {}), 40000);
    const { value, done } = await reader.read();
    clearTimeout(timeout);
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) receive(event);
  }
}

function receive(event) {
  let name = '';
  let data = '';
  for (const line of event.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7);
    if (line.startsWith('data: ')) data = line.slice(6);
  }
  if (!data) return;
  const value = JSON.parse(data);
  isConnected = true;
  freshness = { ...value.freshness, at: Date.now() };
  if (name === 'snapshot') {
    settings = value.settings;
    const names = new Set(value.services.map((service) => service.name));
    for (const known of [...services.keys()]) if (!names.has(known)) services.delete(known);
    // What is gone is what the snapshot does not have.
    for (const change of value.services) {
      const known = services.get(change.name);
      const ids = new Set(change.changed.map((instance) => instance.id));
      change.removed = known ? [...known.instances.keys()].filter((id) => !ids.has(id)) : [];
    }
    setText($('endpoints'), settings.endpoints.map(printable).join(', '));
    $('instances').classList.toggle('changeable', settings.changes);
  }
  for (const gone of value.gone || []) services.delete(gone);
  for (const change of value.services) apply(change);
  if (value.bad_values) showBad(value.bad_values);
  showState();
  showServices();
  choose();
}

function apply(change) {
  let service = services.get(change.name);
  if (!service) {
    service = { name: change.name, instances: new Map(), ends: {}, dirty: new Set() };
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
}

function askForToken() {
  sessionStorage.removeItem('token');
  setText($('token-error'), token ? 'This token is wrong.' : '');
  token = null;
  const form = $('token-form');
  form.hidden = false;
  document.querySelector('.columns').hidden = true;
  setState('lost', 'A token is needed');
  $('token').focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      token = $('token').value.trim();
      sessionStorage.setItem('token', token);
      $('token').value = '';
      form.hidden = true;
      document.querySelector('.columns').hidden = false;
      resolve();
    };
  });
}

async function change(id, verb, button, body) {
  const service = selected;
  const controls = button.closest('tr').querySelectorAll('button, input');
  for (const control of controls) control.disabled = true;
  const path = ['v1/services', encodeURIComponent(service), 'instances', encodeURIComponent(id), verb];
  let text = '';
  try {
    const options = { method: 'POST', headers: { 'X-Etcd-Service': '1' } };
    if (body) options.body = JSON.stringify(body);
    const response = await ask(path.join('/'), options);
    if (!response.ok) text = (await response.json()).error;
  } catch (error) {
    text = 'the server does not answer';
  }
  for (const control of controls) control.disabled = false;
  setText($('change-error'), text && printable(`${verb} ${id}: ${text}`));
  button.focus();
}

// ---- state and banner ----

function setState(state, text) {
  $('state').dataset.state = state;
  setText($('state'), text);
}

function showState() {
  const banner = $('banner');
  let text = '';
  let age = '';
  let error = '';
  if (!isConnected) {
    text = 'etcd-service does not answer; trying again.';
    setState('lost', freshness ? 'Connection lost' : 'Connecting');
    banner.hidden = !freshness;
  } else if (freshness.state === 'live') {
    setState('live', 'Live');
    banner.hidden = true;
  } else if (freshness.state === 'stale') {
    const old = span(freshness.age_ms + Date.now() - freshness.at);
    setState('stale', 'Stale');
    text = 'etcd does not answer. This is the last good list,';
    age = old + ' old.';
    error = freshness.error || '';
    banner.hidden = false;
  } else {
    setState('stale', 'Waiting for etcd');
    text = 'etcd has not answered yet. Nothing is known.';
    error = freshness.error || '';
    banner.hidden = false;
  }
  setText($('banner-text'), text);
  setText($('banner-age'), age);
  setText($('banner-error'), printable(error));
}

function showBad(bad) {
  $('bad').hidden = bad.length === 0;
  setText($('bad-count'), number(bad.length));
  $('bad-list').replaceChildren(...bad.map(({ key, reason }) => element('li', printable(`${key}: ${reason}`))));
}

// ---- the list of services ----

function showServices() {
  const names = [...services.keys()].sort();
  const list = $('services');
  const filter = $('service-filter').value.toLowerCase();
  for (const [name, link] of links) {
    if (!services.has(name)) {
      link.item.remove();
      links.delete(name);
    }
  }
  let before = null;
  for (const name of names) {
    let link = links.get(name);
    if (!link) {
      link = { item: element('li'), a: element('a', undefined, { href: '#/' + encodeURIComponent(name) }) };
      link.name = element('span', printable(name), { class: 'name' });
      link.up = element('span', '', { class: 'up' });
      link.a.append(link.name, link.up);
      link.item.append(link.a);
      link.a.title = printable(name);
      links.set(name, link);
      if (before) before.after(link.item);
      else list.prepend(link.item);
    }
    before = link.item;
    const instances = services.get(name).instances;
    let up = 0;
    for (const instance of instances.values()) if (instance.status === 'up') up += 1;
    const text = up === instances.size ? number(up) : `${number(up)} of ${number(instances.size)}`;
    setText(link.up, text);
    link.a.setAttribute('aria-label', `${printable(name)}: ${up} of ${instances.size} up`);
    link.a.classList.toggle('troubled', up === 0);
    link.item.hidden = filter !== '' && !name.toLowerCase().includes(filter);
    if (name === selected) link.a.setAttribute('aria-current', 'page');
    else link.a.removeAttribute('aria-current');
  }
  setText($('services-count'), number(names.length));
  $('service-filter').hidden = names.length < 8 && !filter;
  const isKnown = freshness && freshness.state !== 'unknown';
  $('no-services').hidden = names.length > 0 || !isKnown;
}

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
  if (name === undefined || !services.has(name)) {
    selected = null;
    $('service').hidden = true;
    $('nothing').hidden = false;
    const isKnown = freshness && freshness.state !== 'unknown';
    setText($('nothing'), !isKnown ? 'Waiting for the first list.'
      : name === undefined ? 'Services appear here once they are registered.'
      : `There is no service ${printable(name)} now.`);
    return;
  }
  if (name !== selected) {
    selected = name;
    timeline = null;
    rows.clear();
    $('rows').replaceChildren();
    $('timeline').replaceChildren();
    $('events').replaceChildren();
    setText($('change-error'), '');
    services.get(name).dirty = new Set(services.get(name).instances.keys());
    document.title = printable(name) + ' - services';
    timelineAt = 0;
    showServices();
  }
  $('service').hidden = false;
  $('nothing').hidden = true;
  showService();
}

// ---- one service ----

function showService() {
  const service = services.get(selected);
  setText($('service-name'), printable(service.name));
  const counts = {};
  for (const { status } of service.instances.values()) counts[status] = (counts[status] || 0) + 1;
  chips($('statuses'), STATUSES.filter((status) => counts[status]).map((status) =>
    [`${number(counts[status])} ${statusName(status)}`, status]));
  chips($('ends'), Object.keys(CAUSES).filter((cause) => service.ends[cause]).map((cause) =>
    [`${number(service.ends[cause])} ${cause === 'unknown' ? 'removed' : cause}`, null]));
  setText($('instances-count'), number(service.instances.size));
  $('no-instances').hidden = service.instances.size > 0;
  $('instances').hidden = service.instances.size === 0;
  if (service.dirty.size > 0) {
    showRows(service);
    service.dirty.clear();
    loadTimeline(1000);
  } else if (!timeline) {
    loadTimeline(0);
  }
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

function showRows(service) {
  const body = $('rows');
  const added = [];
  for (const id of service.dirty) {
    const instance = service.instances.get(id);
    let row = rows.get(id);
    if (!instance) {
      if (row) row.node.remove();
      rows.delete(id);
      continue;
    }
    if (!row) {
      row = makeRow(id);
      rows.set(id, row);
      added.push(id);
    }
    fillRow(row, instance);
  }
  if (added.length > 0) {
    // Rows are put where they belong; those that are there stay.
    const order = [...rows.keys()].sort();
    let before = null;
    for (const id of order) {
      const node = rows.get(id).node;
      const next = before ? before.nextSibling : body.firstChild;
      if (next !== node) body.insertBefore(node, next);
      before = node;
    }
  }
  filterRows();
  showTimes();
}

function makeRow(id) {
  const row = { node: element('tr', undefined, { role: 'row' }) };
  const cell = (name, kind) => {
    row[name] = element('td', '', { role: 'cell', class: kind || '' });
    row.node.append(row[name]);
  };
  cell('id');
  cell('addr');
  cell('statusCell');
  cell('since');
  cell('weight', 'number');
  cell('zone');
  cell('version');
  cell('action', 'action');
  row.status = element('span', '', { class: 'status' });
  row.reason = element('span', '', { class: 'reason' });
  row.statusCell.append(row.status, row.reason);
  row.time = element('time', '');
  row.since.append(row.time);
  setText(row.id, printable(id));
  if (settings.changes) {
    row.button = element('button', 'Drain', { type: 'button' });
    row.button.addEventListener('click', () => change(id, row.isDrained ? 'undrain' : 'drain', row.button));
    row.action.append(row.button);
    row.input = element('input', undefined, {
      type: 'number', min: '0', max: '4294967295', step: '1', 'aria-label': 'Weight of ' + printable(id),
    });
    row.input.addEventListener('change', () => {
      if (row.input.checkValidity() && row.input.value !== '') {
        change(id, 'weight', row.input, { weight: Number(row.input.value) });
      }
    });
    row.weight.append(row.input);
  }
  return row;
}

function fillRow(row, instance) {
  row.instance = instance;
  setText(row.addr, printable(instance.addr));
  setText(row.status, statusName(instance.status));
  row.status.dataset.status = instance.status;
  setText(row.reason, printable(instance.reason));
  setText(row.zone, printable(instance.zone));
  setText(row.version, printable(instance.version));
  row.text = [instance.id, instance.addr, instance.zone, instance.version, statusName(instance.status),
    instance.reason, ...instance.tags].join(' ').toLowerCase();
  const details = [];
  if (instance.tags.length > 0) details.push('tags: ' + instance.tags.join(', '));
  for (const [key, value] of Object.entries(instance.meta)) details.push(`${key}: ${value}`);
  row.node.title = details.map(printable).join('\n');
  if (row.input) {
    if (document.activeElement !== row.input) row.input.value = instance.weight;
    row.isDrained = instance.status === 'draining';
    setText(row.button, row.isDrained ? 'Undrain' : 'Drain');
    row.button.setAttribute('aria-label', `${row.button.textContent} ${printable(instance.id)}`);
  } else {
    setText(row.weight, number(instance.weight));
  }
}

function filterRows() {
  const filter = $('instance-filter').value.toLowerCase();
  for (const row of rows.values()) row.node.hidden = filter !== '' && !row.text.includes(filter);
  $('instance-filter').hidden = rows.size < 8 && !filter;
}

function showTimes() {
  const now = Date.now();
  for (const { instance, time } of rows.values()) {
    const since = instance.status_since || instance.since;
    setText(time, since ? span(now - since) : '');
    if (since && time.dataset.since !== String(since)) {
      time.dataset.since = since;
      time.dateTime = new Date(since).toISOString();
      time.title = new Date(since).toLocaleString('en-GB');
    }
  }
}

// ---- the timeline ----

function loadTimeline(pace) {
  if (isTimelineAsked) return;
  isTimelineAsked = true;
  const wait = Math.max(0, timelineAt + pace - Date.now());
  setTimeout(async () => {
    const name = selected;
    try {
      const response = await ask(`v1/services/${encodeURIComponent(name)}/timeline`);
      if (response.ok && name === selected) {
        timeline = await response.json();
        timeline.offset = Date.now() - timeline.now;
        drawTimeline();
        showEvents();
      }
    } catch (error) {
      console.warn(String(error));
    }
    timelineAt = Date.now();
    isTimelineAsked = false;
    if (name !== selected && selected !== null) loadTimeline(0);
  }, wait);
}

function drawTimeline() {
  if (!timeline) return;
  const now = Date.now() - timeline.offset;
  const known = (now - timeline.begun) / 60000;
  const shown = minutes || [5, 15, 60].find((choice) => choice >= known) || 60;
  for (const button of $('ranges').children) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.minutes) === shown));
  }
  const from = now - shown * 60000;
  let tracks = timeline.tracks.filter((track) => track.spans.some((span) => span[1] >= from));
  const all = tracks.length;
  if (all > LANES) {
    const isBusy = (track) => track.ends.length + track.restarts.length > 0 || track.spans.length > 1
      || track.spans.some((span) => span[2] !== 'up');
    tracks = [...tracks.filter(isBusy), ...tracks.filter((track) => !isBusy(track))].slice(0, LANES);
  }
  setText($('timeline-note'), all > LANES
    ? `${LANES} of ${number(all)} instances: first those that changed or are not up.` : '');

  const width = Math.max(320, $('timeline').clientWidth - 32);
  const label = Math.min(220, Math.max(90, Math.round(width * 0.2)));
  const lane = tracks.length <= 12 ? 24 : tracks.length <= 30 ? 18 : 14;
  const top = 4;
  const height = top + Math.max(1, tracks.length) * lane + 26;
  const x = (time) => label + (Math.max(from, Math.min(now, time)) - from) / (now - from) * (width - label);
  const svg = shape('svg', {
    viewBox: `0 0 ${width} ${height}`, height, role: 'img',
    'aria-label': `Statuses of ${all} instances over ${shown} minutes. The list "What happened" has the same as text.`,
  });
  const bottom = height - 26;
  if (timeline.begun > from) {
    svg.append(shape('rect', {
      class: 'before', x: label, y: top, width: x(timeline.begun) - label, height: bottom - top,
    }, 'Before this server began to watch'));
  }
  for (let tick = 0; tick <= 5; tick += 1) {
    const time = from + (now - from) * tick / 5;
    svg.append(shape('line', { class: 'grid', x1: x(time), x2: x(time), y1: top, y2: bottom + 4 }));
    const text = shape('text', {
      x: x(time), y: bottom + 18, 'text-anchor': tick === 0 ? 'start' : tick === 5 ? 'end' : 'middle',
    });
    text.textContent = tick === 5 ? 'now' : clock(time).slice(0, shown > 5 ? 5 : 8);
    svg.append(text);
  }
  const bar = Math.round(lane * 0.55);
  tracks.forEach((track, index) => {
    const y = top + index * lane + (lane - bar) / 2;
    const text = shape('text', { class: 'lane', x: 0, y: y + bar / 2 + 4 }, printable(track.id));
    const letters = Math.floor((label - 12) / 7);
    const name = printable(track.id);
    text.prepend(name.length > letters ? name.slice(0, letters - 1) + '\u2026' : name);
    svg.append(text);
    for (const [begin, end, status] of track.spans) {
      // What had not ended then goes on until now.
      const to = end >= timeline.now ? now : end;
      if (to < from) continue;
      svg.append(shape('rect', {
        class: 'bar', 'data-status': status, x: x(begin), y, rx: 1.5,
        width: Math.max(1.5, x(to) - x(begin)), height: bar,
      }, `${printable(track.id)}: ${statusName(status)}, ${clock(begin)} to ${clock(to)}`));
    }
    for (const [at, cause] of track.ends) {
      if (at >= from) svg.append(endMark(x(at), y + bar / 2, cause, `${printable(track.id)} ${cause}, ${clock(at)}`));
    }
    for (const at of track.restarts) {
      if (at >= from) svg.append(shape('circle', { class: 'restart', cx: x(at), cy: y + bar / 2, r: 3.2 },
        `${printable(track.id)} restarted, ${clock(at)}`));
    }
  });
  for (const [begin, end] of timeline.outages) {
    const to = end >= timeline.now ? now : end;
    if (to < from) continue;
    svg.append(shape('rect', {
      class: 'outage', x: x(begin), y: top, width: Math.max(1.5, x(to) - x(begin)), height: bottom - top,
    }, `etcd was away, ${clock(begin)} to ${clock(to)}`));
  }
  $('timeline').replaceChildren(svg);
  showLegend(tracks, from);
}

function endMark(x, y, cause, title) {
  const d = cause === 'expired'
    ? `M${x - 4} ${y - 4}L${x + 4} ${y + 4}M${x - 4} ${y + 4}L${x + 4} ${y - 4}`
    : `M${x} ${y - 6}L${x} ${y + 6}`;
  return shape('path', { class: 'end', 'data-cause': cause, d }, title);
}

function showLegend(tracks, from) {
  const statuses = new Set();
  const causes = new Set();
  let hasRestarts = false;
  for (const track of tracks) {
    for (const [, to, status] of track.spans) if (to >= from) statuses.add(status);
    for (const [at, cause] of track.ends) if (at >= from) causes.add(cause);
    hasRestarts = hasRestarts || track.restarts.some((at) => at >= from);
  }
  const hasOutage = timeline.outages.some(([, to]) => to >= from);
  const key = JSON.stringify([[...statuses].sort(), [...causes].sort(), hasRestarts, hasOutage]);
  if ($('legend').dataset.key === key) return;
  $('legend').dataset.key = key;
  const items = STATUSES.filter((status) => statuses.has(status)).map((status) => {
    const item = element('li');
    item.append(element('span', statusName(status), { class: 'status', 'data-status': status }));
    return item;
  });
  const drawn = (mark, text) => {
    const item = element('li');
    const svg = shape('svg', { viewBox: '0 0 12 12', 'aria-hidden': 'true' });
    svg.append(mark);
    item.append(svg, element('span', text));
    items.push(item);
  };
  for (const cause of Object.keys(CAUSES)) {
    if (causes.has(cause)) drawn(endMark(6, 6, cause), cause === 'unknown' ? 'removed' : cause);
  }
  if (hasRestarts) drawn(shape('circle', { class: 'restart', cx: 6, cy: 6, r: 3.2 }), 'restarted');
  if (hasOutage) {
    const item = element('li');
    item.append(element('span', '', { class: 'outage' }), element('span', 'etcd was away'));
    items.push(item);
  }
  $('legend').replaceChildren(...items);
}

function showEvents() {
  const events = timeline.events.slice(-200).reverse();
  $('no-events').hidden = events.length > 0;
  $('events').replaceChildren(...events.map((event) => {
    const item = element('li');
    const text = element('span');
    if (event.id !== undefined) text.append(element('span', printable(event.id), { class: 'id' }), ' ');
    text.append(printable(sentence(event)));
    item.append(element('time', clock(event.at), { datetime: new Date(event.at).toISOString() }), text);
    return item;
  }));
}

function sentence(event) {
  switch (event.event) {
    case 'added': return `was added, ${statusName(event.status)}, at ${event.addr}`;
    case 'status':
      return `is ${statusName(event.to)}, was ${statusName(event.from)}` + (event.reason ? `: ${event.reason}` : '');
    case 'restarted': return 'was restarted';
    case 'changed': return `changed: ${event.what}`;
    case 'removed': return CAUSES[event.cause] || event.cause;
    case 'stale': return 'etcd stopped answering';
    case 'live': return 'etcd answers; the list is up to date';
    default: return event.event;
  }
}

// ---- the page ----

window.addEventListener('hashchange', () => {
  // Other fragments are those of the skip link.
  if (location.hash.startsWith('#/')) choose();
});
window.addEventListener('resize', drawTimeline);
$('service-filter').addEventListener('input', showServices);
$('instance-filter').addEventListener('input', filterRows);
$('ranges').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  minutes = Number(button.dataset.minutes);
  drawTimeline();
});
if (!isOnce) {
  setInterval(() => {
    showState();
    if (!document.hidden) showTimes();
  }, 1000);
  setInterval(() => {
    if (document.hidden || !timeline) return;
    drawTimeline();
    // What is older than an hour goes, and a request that failed is repeated.
    if (Date.now() - timelineAt > 30000) loadTimeline(0);
  }, 2000);
}
follow();

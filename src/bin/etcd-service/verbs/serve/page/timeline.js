// The picture of the last hour of the service that is shown.

import { $, CAUSES, STATUSES, causeName, clock, element, number, printable, setAttribute, setText, shape, statusName }
  from './basics.js';

const RANGES = [1, 5, 15, 60];
const LANES = 24; // of instances that changed or are not up
const QUIET_LANES = 12; // of all, if the others are up and did not change
const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((seconds) => seconds * 1000);
const TICK = 84; // the least distance of two times, in pixels

let timeline = null;
let minutes = 0; // 0 chooses by what is known
let lostAt = null;

export function showTimeline(read) {
  timeline = read;
  if (!timeline) {
    $('timeline').replaceChildren();
    $('legend').replaceChildren();
    delete $('legend').dataset.key;
    setText($('timeline-note'), '');
    return;
  }
  timeline.offset = Date.now() - timeline.now;
  drawTimeline();
}

export function chooseRange(chosen) {
  minutes = chosen;
  drawTimeline();
}

// Without the server, the picture does not go on.
export function setLost(isLost) {
  if (isLost !== (lostAt !== null)) lostAt = isLost ? Date.now() : null;
}

export function drawTimeline() {
  if (!timeline) return;
  const now = (lostAt || Date.now()) - timeline.offset;
  const known = (now - timeline.begun) / 60000;
  const shown = minutes || RANGES.find((range) => range >= known) || 60;
  for (const button of $('ranges').children) {
    setAttribute(button, 'aria-pressed', String(Number(button.dataset.minutes) === shown));
  }
  const from = now - shown * 60000;
  const all = timeline.tracks.filter((track) => track.spans.some((span) => span[1] >= from));
  const tracks = choose(all);
  setText($('timeline-note'), tracks.length < all.length
    ? `${tracks.length} of ${number(all.length)} instances: first those that changed or are not up.` : '');

  const width = Math.max(280, $('timeline').clientWidth - 32);
  const label = Math.min(220, Math.max(84, Math.round(width * 0.18)));
  const lane = tracks.length <= 12 ? 24 : 18;
  const bottom = 4 + Math.max(1, tracks.length) * lane;
  const plot = {
    from, now, top: 4, bottom, left: label, right: width,
    x: (time) => label + (Math.max(from, Math.min(now, time)) - from) / (now - from) * (width - label),
  };
  const svg = shape('svg', {
    viewBox: `0 0 ${width} ${bottom + 26}`, height: bottom + 26, role: 'img',
    'aria-label': `Statuses of ${number(tracks.length)} of ${number(all.length)} instances over `
      + `${shown} ${shown === 1 ? 'minute' : 'minutes'}. The list "What happened" has the same as text.`,
  });
  drawBefore(svg, plot);
  drawTimes(svg, plot);
  noteBefore(svg, plot);
  tracks.forEach((track, index) => drawTrack(svg, plot, track, plot.top + index * lane, lane));
  drawOutages(svg, plot);
  $('timeline').replaceChildren(svg);
  showLegend(tracks, from);
}

function choose(tracks) {
  const isBusy = (track) => track.ends.length + track.restarts.length > 0 || track.spans.length > 1
    || track.spans.some((span) => span[2] !== 'up');
  if (tracks.length <= QUIET_LANES) return tracks;
  const busy = tracks.filter(isBusy).slice(0, LANES);
  const quiet = tracks.filter((track) => !isBusy(track)).slice(0, Math.max(0, QUIET_LANES - busy.length));
  return [...busy, ...quiet];
}

function drawBefore(svg, { x, top, bottom, left, from }) {
  if (timeline.begun <= from) return;
  const width = x(timeline.begun) - left;
  svg.append(shape('rect', { class: 'before', x: left, y: top, width, height: bottom - top },
    'Before this server began to watch'));
}

function noteBefore(svg, { x, top, bottom, left }) {
  const width = x(timeline.begun) - left;
  if (width < 210) return;
  const text = shape('text', { class: 'note', x: left + width / 2, y: (top + bottom) / 2 + 4, 'text-anchor': 'middle' });
  text.textContent = 'before this server began to watch';
  svg.append(text);
}

function drawTimes(svg, { x, from, now, top, bottom, left, right }) {
  const line = (at) => svg.append(shape('line', { class: 'grid', x1: at, x2: at, y1: top, y2: bottom + 4 }));
  const label = (at, anchor, name) => {
    const text = shape('text', { x: at, y: bottom + 19, 'text-anchor': anchor });
    text.textContent = name;
    svg.append(text);
  };
  const step = STEPS.find((step) => step / (now - from) * (right - left) >= TICK) || STEPS.at(-1);
  for (let time = Math.ceil(from / step) * step; time < now; time += step) {
    const at = x(time);
    line(at);
    if (at - left > 24 && right - at > 60) label(at, 'middle', clock(time).slice(0, step < 60000 ? 8 : 5));
  }
  line(right);
  label(right, 'end', lostAt ? clock(lostAt) : 'now');
}

function drawTrack(svg, { x, from, now, left }, track, y, lane) {
  const id = printable(track.id);
  const bar = Math.round(lane * 0.6);
  const middle = y + lane / 2;
  const text = shape('text', { class: 'lane', x: 0, y: middle + 4 }, id);
  const letters = Math.floor((left - 12) / 7);
  text.prepend(id.length > letters ? id.slice(0, letters - 1) + '\u2026' : id);
  svg.append(text);
  for (const [begin, end, status] of track.spans) {
    // What had not ended when it was read goes on until now.
    const to = end >= timeline.now ? now : end;
    if (to < from) continue;
    svg.append(shape('rect', {
      class: 'bar', 'data-status': status, x: x(begin), y: middle - bar / 2, rx: 1.5,
      width: Math.max(1.5, x(to) - x(begin)), height: bar,
    }, `${id}: ${statusName(status)}, ${clock(begin)} to ${clock(to)}`));
  }
  for (const [at, cause] of track.ends) {
    if (at >= from) svg.append(endMark(x(at), middle, cause, `${id} ${causeName(cause)}, ${clock(at)}`));
  }
  for (const at of track.restarts) {
    if (at >= from) {
      svg.append(shape('circle', { class: 'restart', cx: x(at), cy: middle, r: 3.4 }, `${id} restarted, ${clock(at)}`));
    }
  }
}

function drawOutages(svg, { x, from, now, top, bottom }) {
  const outages = timeline.outages.filter(([, end]) => end >= from);
  if (outages.length === 0) return;
  const hatch = shape('pattern', {
    id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)',
  });
  hatch.append(shape('rect', { class: 'outage-back', width: 6, height: 6 }));
  hatch.append(shape('line', { class: 'outage-line', x1: 0, y1: 0, x2: 0, y2: 6 }));
  svg.append(hatch);
  for (const [begin, end] of outages) {
    const to = end >= timeline.now ? now : end;
    svg.append(shape('rect', {
      class: 'outage', x: x(begin), y: top, width: Math.max(2, x(to) - x(begin)), height: bottom - top,
      fill: 'url(#hatch)',
    }, `etcd was away, ${clock(begin)} to ${clock(to)}`));
  }
}

// A cross is an instance that expired, a bar any other end.
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
  for (const cause of Object.keys(CAUSES)) if (causes.has(cause)) drawn(endMark(6, 6, cause), causeName(cause));
  if (hasRestarts) drawn(shape('circle', { class: 'restart', cx: 6, cy: 6, r: 3.4 }), 'restarted');
  if (hasOutage) {
    const item = element('li');
    item.append(element('span', '', { class: 'outage' }), element('span', 'etcd was away'));
    items.push(item);
  }
  $('legend').replaceChildren(...items);
}

// The table of the instances of the service that is shown.

import { $, element, number, printable, setAttribute, setText, span, statusName } from './basics.js';
import { ask } from './server.js';
import { announce } from './announcer.js';

const rows = new Map(); // id -> row
const inSight = new Set(); // rows on the screen: only their times go on
let service = null;
let hasControls = false;

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      inSight.add(target.row);
      showTime(target.row, Date.now());
    } else {
      inSight.delete(target.row);
    }
  }
}, { rootMargin: '200px' });

// Shows another service, without rows.
export function begin(name, withControls) {
  service = name;
  hasControls = withControls;
  rows.clear();
  inSight.clear();
  sight.disconnect();
  $('rows').replaceChildren();
  $('instances').classList.toggle('changeable', withControls);
  setText($('change-error'), '');
}

// Shows what changed: `ids` are those of new, changed and removed instances.
export function showRows(instances, ids) {
  const now = Date.now();
  let hasNew = false;
  for (const id of ids) {
    const instance = instances.get(id);
    if (!instance) {
      removeRow(id);
      continue;
    }
    let row = rows.get(id);
    if (!row) {
      row = makeRow(id);
      rows.set(id, row);
      hasNew = true;
    }
    fillRow(row, instance);
    showTime(row, now);
  }
  if (hasNew) {
    // Rows are put where they belong; those that are there stay, and keep the focus.
    let before = null;
    for (const id of [...rows.keys()].sort()) {
      const { node } = rows.get(id);
      const next = before ? before.nextSibling : $('rows').firstChild;
      if (next !== node) $('rows').insertBefore(node, next);
      before = node;
    }
  }
  $('instance-filter').hidden = rows.size < 8 && $('instance-filter').value === '';
  setAttribute($('instances'), 'aria-rowcount', String(rows.size + 1));
}

function removeRow(id) {
  const row = rows.get(id);
  if (!row) return;
  const hadFocus = row.node.contains(document.activeElement);
  const name = document.activeElement === row.input ? 'input' : 'button';
  const near = row.node.nextElementSibling || row.node.previousElementSibling;
  sight.unobserve(row.node);
  inSight.delete(row);
  row.node.remove();
  rows.delete(id);
  // The focus goes to the same control of the next row, and not to the beginning of the page.
  if (hadFocus) (near ? near.row[name] : $('main')).focus();
}

function makeRow(id) {
  const row = { id, node: element('tr', undefined, { role: 'row' }) };
  row.node.row = row;
  const cell = (name, kind) => {
    row[name] = element('td', '', { role: 'cell' });
    if (kind) row[name].className = kind;
    row.node.append(row[name]);
  };
  row.name = element('th', printable(id), { role: 'rowheader', scope: 'row' });
  row.node.append(row.name);
  cell('addr', 'addr');
  cell('statusCell', 'status-cell');
  cell('since', 'since');
  cell('weight', 'number');
  cell('zone');
  cell('version');
  row.status = element('span', '', { class: 'status' });
  row.reason = element('span', '', { class: 'reason' });
  row.statusCell.append(row.status, row.reason);
  row.time = element('time', '');
  row.since.append(row.time);
  if (hasControls) {
    cell('action', 'action');
    addControls(row);
  }
  sight.observe(row.node);
  return row;
}

function addControls(row) {
  row.button = element('button', 'Drain', { type: 'button' });
  row.button.addEventListener('click', () => change(row, row.isDrained ? 'undrain' : 'drain'));
  row.action.append(row.button);
  row.input = element('input', undefined, {
    type: 'number', min: '0', max: '4294967295', step: '1', 'aria-label': 'Weight of ' + printable(row.id),
  });
  row.input.addEventListener('change', () => {
    if (row.input.checkValidity() && row.input.value !== '') {
      change(row, 'weight', { weight: Number(row.input.value) });
    }
  });
  row.input.addEventListener('blur', () => {
    if (!row.isBusy) row.input.value = row.instance.weight;
  });
  row.weight.append(row.input);
}

function fillRow(row, instance) {
  row.instance = instance;
  setText(row.addr, printable(instance.addr));
  setText(row.status, statusName(instance.status));
  setAttribute(row.status, 'data-status', instance.status);
  setText(row.reason, printable(instance.reason));
  setText(row.zone, printable(instance.zone));
  setText(row.version, printable(instance.version));
  row.text = [instance.id, instance.addr, instance.zone, instance.version, statusName(instance.status),
    instance.reason, ...instance.tags].join(' ').toLowerCase();
  const details = [];
  if (instance.tags.length > 0) details.push('tags: ' + instance.tags.join(', '));
  for (const [key, value] of Object.entries(instance.meta)) details.push(`${key}: ${value}`);
  const title = details.map(printable).join('\n');
  if (row.node.title !== title) row.node.title = title;
  const since = instance.status_since || instance.since;
  if (since && row.shownSince !== since) {
    row.shownSince = since;
    row.time.dateTime = new Date(since).toISOString();
    row.time.title = new Date(since).toLocaleString('en-GB');
  }
  if (row.input) {
    if (document.activeElement !== row.input && !row.isBusy) row.input.value = instance.weight;
    row.isDrained = instance.status === 'draining';
    setText(row.button, row.isDrained ? 'Undrain' : 'Drain');
    setAttribute(row.button, 'aria-label', `${row.button.textContent} ${printable(instance.id)}`);
  } else {
    setText(row.weight, number(instance.weight));
  }
  filterRow(row, $('instance-filter').value.toLowerCase());
}

function filterRow(row, filter) {
  const isHidden = filter !== '' && !row.text.includes(filter);
  if (row.node.hidden !== isHidden) row.node.hidden = isHidden;
}

export function filterRows() {
  const filter = $('instance-filter').value.toLowerCase();
  for (const row of rows.values()) filterRow(row, filter);
}

function showTime(row, now) {
  if (row.shownSince) setText(row.time, span(now - row.shownSince));
}

// The times go on.
export function showTimes() {
  const now = Date.now();
  for (const row of inSight) showTime(row, now);
}

// Asks the server to change an instance. The controls keep the focus, so they are not disabled meanwhile.
async function change(row, verb, body) {
  if (row.isBusy) return;
  setBusy(row, true);
  const path = ['v1/services', encodeURIComponent(service), 'instances', encodeURIComponent(row.id), verb];
  let error = '';
  try {
    const options = { method: 'POST', headers: { 'X-Etcd-Service': '1' } };
    if (body) options.body = JSON.stringify(body);
    const response = await ask(path.join('/'), options);
    if (!response.ok) error = (await response.json()).error;
  } catch (failure) {
    error = 'the server does not answer';
  }
  setBusy(row, false);
  if (error && body) row.input.value = row.instance.weight;
  setText($('change-error'), error && printable(`${verb} ${row.id}: ${error}`));
  if (!error) announce(printable(`${verb} ${row.id}: done`));
}

function setBusy(row, isBusy) {
  row.isBusy = isBusy;
  for (const control of [row.button, row.input]) control.setAttribute('aria-disabled', String(isBusy));
}

// The list of what happened to the service that is shown.

import { $, CAUSES, clock, element, printable, statusName } from './basics.js';

const MOST = 200;

let items = new Map(); // event as text -> item

// Shows the newest events, newest first. Items of before stay, so that few nodes change.
export function showEvents(events) {
  const newest = events.slice(-MOST).reverse();
  const next = new Map();
  const seen = new Map();
  let before = null;
  for (const event of newest) {
    const text = JSON.stringify(event);
    const count = (seen.get(text) || 0) + 1;
    seen.set(text, count);
    const key = count + text;
    const item = items.get(key) || make(event);
    next.set(key, item);
    items.delete(key);
    const place = before ? before.nextSibling : $('events').firstChild;
    if (place !== item) $('events').insertBefore(item, place);
    before = item;
  }
  for (const item of items.values()) item.remove();
  items = next;
  $('events').hidden = newest.length === 0;
  $('no-events').hidden = newest.length > 0;
}

function make(event) {
  const item = element('li');
  const text = element('span');
  if (event.id !== undefined) text.append(element('span', printable(event.id), { class: 'id' }), ' ');
  text.append(printable(sentence(event)));
  item.append(element('time', clock(event.at), { datetime: new Date(event.at).toISOString() }), text);
  return item;
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

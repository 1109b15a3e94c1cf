// What every part of the page uses. Text from etcd is set by textContent and by attributes only.

export const STATUSES = ['up', 'starting', 'draining', 'out_of_service', 'maintenance', 'suspect'];
export const CAUSES = {
  left: 'left',
  expired: 'expired: it crashed, hung or lost the network',
  replaced: 'replaced by another address or value',
  resync: 'gone while etcd could not be watched',
  unknown: 'removed for an unknown reason',
};

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

export function element(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
}

export function shape(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title !== undefined) {
    const text = document.createElementNS(SVG, 'title');
    text.textContent = title;
    made.append(text);
  }
  return made;
}

// Unchanged text is not set again: that would be a change for screen readers and for the layout.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Characters that change the direction of the text around them, or that are not seen, are shown as numbers.
export function printable(text) {
  return String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
}

export const statusName = (status) => status.replaceAll('_', ' ');
export const number = (value) => value.toLocaleString('en');
export const causeName = (cause) => (cause === 'unknown' ? 'removed' : cause);

export function span(millis) {
  const seconds = Math.max(0, Math.floor(millis / 1000));
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  if (seconds < 48 * 3600) return Math.floor(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' d';
}

export const clock = (millis) => new Date(millis).toLocaleTimeString('en-GB');

// What is read out by screen readers: few and short sentences, never more often than every PACE.

import { $ } from './basics.js';

const PACE = 5000;

let pending = null;
let timer = null;
let announcedAt = -PACE;

// Announces a sentence soon. A later one replaces one that waits.
export function announce(text) {
  pending = text;
  if (timer === null) timer = setTimeout(say, Math.max(0, announcedAt + PACE - performance.now()));
}

function say() {
  timer = null;
  announcedAt = performance.now();
  // The same sentence again is no change, and would not be read.
  $('announcement').textContent = $('announcement').textContent === pending ? pending + '\u00a0' : pending;
}

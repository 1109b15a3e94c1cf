// Requests to the server, its events, and the token that it may need.

import { $, setText } from './basics.js';

let token = sessionStorage.getItem('token');

// A request. Paths are relative, so that a proxy can serve the page below a path.
export function ask(path, options) {
  const headers = { ...(options && options.headers) };
  if (token) headers.Authorization = 'Bearer ' + token;
  return fetch(path, { ...options, headers, cache: 'no-store' });
}

// Follows the events for ever. `receive` gets a name and a value of each; `lose` is called when the server does not
// answer, and `needToken` when it asks for a token.
export async function follow({ isOnce, receive, lose, needToken }) {
  let wait = 500;
  for (;;) {
    try {
      const response = await ask(isOnce ? 'events?once' : 'events');
      if (response.status === 401) {
        needToken();
        await askForToken();
        continue;
      }
      if (!response.ok) throw new Error('status ' + response.status);
      wait = 500;
      if (isOnce) take((await response.text()).trim(), receive);
      else await read(response.body, receive);
    } catch (error) {
      console.warn(String(error));
    }
    if (isOnce) return;
    lose();
    await new Promise((resolve) => setTimeout(resolve, wait + Math.random() * wait));
    wait = Math.min(wait * 2, 10000);
  }
}

async function read(body, receive) {
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
    for (const event of events) take(event, receive);
  }
}

function take(event, receive) {
  let name = '';
  let data = '';
  for (const line of event.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7);
    if (line.startsWith('data: ')) data = line.slice(6);
  }
  if (data) receive(name, JSON.parse(data));
}

function askForToken() {
  const form = $('token-form');
  const isWrong = token !== null;
  sessionStorage.removeItem('token');
  token = null;
  form.hidden = false;
  document.querySelector('.columns').hidden = true;
  // A message is read out if it appears in what is shown.
  setText($('token-error'), isWrong ? 'This token is wrong.' : '');
  $('token').setAttribute('aria-invalid', String(isWrong));
  $('token').focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      token = $('token').value.trim();
      sessionStorage.setItem('token', token);
      $('token').value = '';
      setText($('token-error'), '');
      form.hidden = true;
      document.querySelector('.columns').hidden = false;
      resolve();
    };
  });
}

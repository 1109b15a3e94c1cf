// The list of services beside the one that is shown.

import { $, element, number, printable, setAttribute, setText } from './basics.js';

const links = new Map(); // name -> link

// Shows what changed: `changed` are names of new, changed and removed services.
export function showServices(services, changed, selected) {
  let hasNew = false;
  for (const name of changed) {
    const service = services.get(name);
    let link = links.get(name);
    if (!service) {
      if (link) link.item.remove();
      links.delete(name);
      continue;
    }
    if (!link) {
      link = make(name);
      links.set(name, link);
      hasNew = true;
    }
    const total = service.instances.size;
    setText(link.up, service.up === total ? number(total) : `${number(service.up)} of ${number(total)}`);
    setAttribute(link.a, 'aria-label', `${printable(name)}: ${service.up} of ${total} up`);
    link.a.classList.toggle('troubled', service.up === 0);
  }
  if (hasNew) {
    let before = null;
    for (const name of [...links.keys()].sort()) {
      const { item } = links.get(name);
      const next = before ? before.nextSibling : $('services').firstChild;
      if (next !== item) $('services').insertBefore(item, next);
      before = item;
    }
    filterServices();
  }
  setText($('services-count'), number(services.size));
  $('service-filter').hidden = services.size < 8 && $('service-filter').value === '';
  markSelected(selected);
}

export function markSelected(selected) {
  for (const [name, { a }] of links) {
    if (name === selected) setAttribute(a, 'aria-current', 'page');
    else if (a.hasAttribute('aria-current')) a.removeAttribute('aria-current');
  }
}

export function filterServices() {
  const filter = $('service-filter').value.toLowerCase();
  for (const [name, { item }] of links) item.hidden = filter !== '' && !name.toLowerCase().includes(filter);
}

function make(name) {
  const link = { item: element('li'), a: element('a', undefined, { href: '#/' + encodeURIComponent(name) }) };
  link.up = element('span', '', { class: 'up' });
  link.a.append(element('span', printable(name), { class: 'name' }), link.up);
  link.a.title = printable(name);
  link.item.append(link.a);
  return link;
}

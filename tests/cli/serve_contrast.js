// Text of the page whose contrast with what is behind it is below 4.5 to 1, and marks below 3 to 1.
(() => {
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    const scale = text.startsWith('color(') ? 255 : 1;
    const [r, g, b, a = 1] = numbers;
    return { r: r * scale, g: g * scale, b: b * scale, a };
  };
  const over = (top, below) => {
    const mix = (name) => top[name] * top.a + below[name] * (1 - top.a);
    return { r: mix('r'), g: mix('g'), b: mix('b'), a: 1 };
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.opacity !== '1') throw new Error('opacity of ' + e.outerHTML);
      layers.push(parse(style.backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (colour, back) => {
    const [low, high] = [luminance(over(colour, back)), luminance(back)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let least = 21;
  let texts = 0;
  const check = (what, colour, back, limit) => {
    const ratio = contrast(parse(colour), back);
    if (limit === 4.5) {
      texts += 1;
      least = Math.min(least, ratio);
    }
    if (ratio < limit) found.push(`${what}: ${ratio.toFixed(2)}`);
  };
  const variable = (name) => {
    const probe = document.createElement('span');
    probe.setAttribute('class', 'contrast-probe');
    document.body.append(probe);
    probe.style.setProperty('color', `var(${name})`);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return parse(colour);
  };
  for (const e of document.body.querySelectorAll('*')) {
    if (!e.checkVisibility({ visibilityProperty: true }) || e.closest('.for-readers, .skip, title, noscript')) continue;
    const style = getComputedStyle(e);
    const ownText = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
    const what = `${e.tagName} ${e.id || e.className.baseVal || e.className} ${JSON.stringify(ownText || e.value || '')}`;
    if (e instanceof SVGElement) {
      // Text of the picture is on the panel, and on what was before.
      const backs = [behind(e.closest('svg').parentElement), variable('--back')];
      if (ownText) for (const back of backs) check(what, style.fill, back, 4.5);
      if (e.classList.contains('bar')) check(what + e.dataset.status, style.fill, backs[0], 3);
      continue;
    }
    if (ownText || (e.value && e.type !== 'password')) check(what, style.color, behind(e), 4.5);
    if (e.placeholder) check(what + ' placeholder', getComputedStyle(e, '::placeholder').color, behind(e), 4.5);
    if (e.classList.contains('status')) {
      check(what + ' mark', getComputedStyle(e, '::before').backgroundColor, behind(e), 3);
    }
    if (e.matches('input, button')) check(what + ' border', style.borderTopColor, behind(e.parentElement), 3);
  }
  return { found, least, texts };
})()

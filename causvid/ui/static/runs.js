/* My runs: what this browser has made, kept by it alone. A card plays the video while the server has
 * it, and can go on from its end; its link makes it again at any time, and the picture or video that
 * it began with is kept here, too.
 */
const KEY = 'causvid.runs';
const MOST = 24; // runs, of some 3 kB each
const section = element.querySelector('section');
const shelf = element.querySelector('.cv-own');

function load() {
  try {
    const runs = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(runs) ? runs : [];
  } catch { // not ours, or the browser keeps nothing
    return [];
  }
}

function save(runs) {
  try {
    localStorage.setItem(KEY, JSON.stringify(runs));
  } catch { /* it keeps nothing: the runs stay until the page is closed */ }
  show(runs);
}

function make(name, data, words) {
  const made = document.createElement(name);
  Object.assign(made.dataset, data);
  if (name === 'button') made.type = 'button';
  if (words) made.textContent = words;
  return made;
}

async function play(run, card) {
  const answer = await fetch(run.url, { method: 'HEAD' }).catch(() => ({}));
  if (answer.ok) {
    const detail = { ...run, poster: run.picture, text: `Made ${run.when}` };
    document.dispatchEvent(new CustomEvent('causvid:clip', { detail }));
  } else {
    card.querySelector('em').textContent = 'not on the server any more: remix it';
    card.dataset.gone = '';
  }
}

const HELD = 40e6; // bytes of the largest file that is kept

/* The files that runs began with, by run, in a store of the browser's. */
const store = new Promise((resolve) => {
  const asked = indexedDB.open('causvid', 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore('sources');
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => resolve(null); // it keeps nothing
});

async function sources(act, mode = 'readonly') {
  const base = await store;
  if (!base) return undefined;
  return new Promise((resolve) => {
    const asked = act(base.transaction('sources', mode).objectStore('sources'));
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => resolve(undefined);
  });
}

/* What lies in the inputs when Generate is pressed; the file may be gone when the video is made. */
let began = null;
document.addEventListener('click', ({ target }) => {
  const tab = target.closest?.('.cv-go') && target.closest('.tabitem');
  if (!tab) return;
  const shown = tab.querySelector('.cv-picture img, .cv-source video');
  began = shown?.src ? fetch(shown.src).then((it) => it.blob()).catch(() => null) : null;
}, true);

const modeOf = (link) => {
  try {
    return JSON.parse(atob(link.replace(/-/g, '+').replace(/_/g, '/'))).mode ?? 'text';
  } catch {
    return 'text';
  }
};

async function hold({ run, link }) {
  const [file, mode] = [await began, modeOf(link)];
  if (!file || file.size > HELD || mode === 'text') return;
  await sources((it) => it.put({ file, mode }, run), 'readwrite');
}

async function forget(kept) {
  const ids = new Set(kept.map((it) => it.run));
  for (const id of (await sources((it) => it.getAllKeys())) || []) {
    if (!ids.has(id)) await sources((it) => it.delete(id), 'readwrite');
  }
}

/* Fills in the form, and what the run began with into its input. */
async function remix(run) {
  const source = await sources((it) => it.get(run.run));
  const detail = { text: run.link, held: Boolean(source) };
  document.dispatchEvent(new CustomEvent('causvid:remix', { detail }));
  for (let tries = 0; source && !source.taken && tries < 300; tries++) { // its tab may open yet
    document.dispatchEvent(new CustomEvent('causvid:source', { detail: source }));
    await new Promise((resume) => setTimeout(resume, 100));
  }
}

function cardOf(run) {
  const card = make('div');
  card.className = 'cv-card';
  const open = card.appendChild(make('button', { run: run.run }));
  open.setAttribute('aria-label', `Play: ${run.prompt}`);
  const picture = open.appendChild(make('img'));
  picture.alt = '';
  if (/^data:image\/jpeg;base64,/.test(run.picture)) picture.src = run.picture;
  const words = open.appendChild(make('span', {}, run.prompt));
  words.append(' ', make('em', {}, run.when));
  open.addEventListener('click', () => play(run, card));
  const row = card.appendChild(make('p'));
  for (const [label, act, data] of [
    ['Remix this', () => remix(run), { again: run.run }],
    ['Copy link', null, { copy: run.link }],
    ['Extend', () => {
      document.querySelector('.cv-stage').scrollIntoView({ block: 'nearest' });
      trigger('extend', { run: run.run });
    }, { extend: run.run }],
    ['Compare', () => document.dispatchEvent(new CustomEvent('causvid:compare', { detail: run })),
      { compare: run.run }],
  ]) {
    const button = make('button', data, label);
    button.setAttribute('aria-label', `${label}: ${run.prompt}`);
    if (act) button.addEventListener('click', act);
    row.append(button, ' ');
  }
  return card;
}

function show(runs) {
  shelf.replaceChildren(...runs.map(cardOf));
  section.hidden = !runs.length;
}

document.addEventListener('causvid:made', ({ detail }) => {
  const others = load().filter((it) => it.run !== detail.run);
  save([{ ...detail, when: new Date().toLocaleString() }, ...others].slice(0, MOST));
  hold(detail);
  forget(load());
});
window.addEventListener('storage', ({ key }) => { if (key === KEY) show(load()); }); // another tab's
element.querySelector('[data-clear]').addEventListener('click', () => {
  save([]);
  forget([]);
});
show(load());

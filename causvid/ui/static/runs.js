/* My runs: what this browser has made, kept by it alone. A card plays the video while the server has
 * it; its link makes it again at any time.
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
  for (const [kind, label] of [['remix', 'Remix this'], ['copy', 'Copy link']]) {
    const button = make('button', { [kind]: run.link }, label);
    button.setAttribute('aria-label', `${label}: ${run.prompt}`);
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
});
window.addEventListener('storage', ({ key }) => { if (key === KEY) show(load()); }); // another tab's
element.querySelector('[data-clear]').addEventListener('click', () => save([]));
show(load());

/* Links, manifests and *Remix this* fill in the form: their text goes to the server, which reads it.
 *
 * An element with `data-remix` asks for it when it is clicked; one with `data-copy` puts a link into
 * the clipboard. Both hold what stands behind `#request=` in a link.
 */
const MOST = 900000; // characters, as the server has it
const input = element.querySelector('input');

function ask(text, held = false) { // held: whether the browser fills in the picture or the video
  trigger('remix', { text: text.slice(0, MOST), held });
  document.querySelector('.cv-main').scrollIntoView({ block: 'nearest' });
}

function askAddress() {
  const [, text] = location.hash.match(/^#request=(.+)$/) || [];
  if (text) ask(text);
}

async function askFile(file) {
  let text = await file.slice(0, 10 * MOST).text();
  try { // the request is all that is needed of a long manifest
    const value = JSON.parse(text);
    text = JSON.stringify({ request: value.request ?? value });
  } catch { /* the server says so */ }
  ask(text.startsWith('{') ? text : `{${text}`);
}

async function copy(button) {
  const address = `${location.origin}${location.pathname}#request=${button.dataset.copy}`;
  try {
    await navigator.clipboard.writeText(address);
  } catch { // there is none without https, and not every browser allows it
    const box = document.body.appendChild(document.createElement('textarea'));
    box.value = address;
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  const words = button.textContent;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = words; }, 1500);
}

document.addEventListener('click', ({ target }) => {
  const button = target.closest?.('[data-remix], [data-copy]');
  if (button?.dataset.remix) ask(button.dataset.remix);
  else if (button?.dataset.copy && button.textContent !== 'Copied') copy(button);
});
element.querySelector('[data-open]').addEventListener('click', () => input.click());
input.addEventListener('change', () => {
  if (input.files.length) askFile(input.files[0]);
  input.value = '';
});

const ofManifest = ({ dataTransfer }) => [...dataTransfer.files].find((it) => it.name.endsWith('.json'));
document.addEventListener('dragover', (event) => {
  if ([...event.dataTransfer.items].some((it) => it.type === 'application/json')) event.preventDefault();
}, true);
document.addEventListener('drop', (event) => {
  const file = ofManifest(event);
  if (!file) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  askFile(file);
}, true);
document.addEventListener('causvid:remix', ({ detail }) => ask(detail.text, detail.held));
window.addEventListener('hashchange', askAddress);
askAddress();

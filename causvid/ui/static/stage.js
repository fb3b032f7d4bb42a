/* The player with its strip and status line, from the server's messages.
 *
 * A message is the component's value: {kind: 'queue' | 'open' | 'chunk' | 'end' | 'clip' | 'error'}.
 * `element`, `props` and `watch` are Gradio's. What was measured is kept in `element.report`, for
 * the benchmark and the browser tests.
 */
const root = element.querySelector('.cv-stage');
const screen = root.querySelector('.cv-screen');
const video = root.querySelector('video');
const canvas = root.querySelector('canvas');
const status = root.querySelector('.cv-status');
const strip = new Strip(root);
const report = { run: null, chunks: [], frames: [], errors: [], clicked: null };
element.report = report;

const player = MediaSourceClass
  ? new MediaPlayer(video, frameShown, Number(root.dataset.keep))
  : new CanvasPlayer(canvas, frameShown);
const comparison = new Comparison(root, video);
const controls = new Controls(root, video, player, () => report.run && !player.ended);
root.dataset.transport = MediaSourceClass ? 'media' : 'canvas';
root.dataset.shows = 'video'; // an example does even without MediaSource

function frameShown(seconds, now) {
  if (!report.run) return; // an example, which has no strip
  strip.moveHead(seconds);
  report.frames.push([seconds, now]);
  const chunk = report.chunks.find((it) => it.shown === null && it.start <= seconds + 1e-3);
  if (chunk) {
    chunk.shown = now;
    remember({ ...remembered(), shown: chunk.index });
  }
  if (report.clicked !== null && report.first === null) {
    report.first = now - report.clicked;
    strip.setNumber('first', report.first / 1000, 's', 2);
  }
}

function setState(state, text) {
  root.dataset.state = state;
  status.textContent = text;
}

/* What the buttons below the picture pass on: the request of what is shown, and its file. */
function offer(link, url) {
  pinned.url = url;
  root.querySelector('[data-pin]').hidden = !url;
  const share = root.querySelector('.cv-share');
  share.hidden = !link;
  for (const name of ['remix', 'copy']) {
    share.querySelector(`[data-${name}]`).setAttribute(`data-${name}`, link || '');
  }
}

const pinned = { url: null, prompt: '' }; // what is shown, if it is whole
root.querySelector('[data-pin]').addEventListener('click', () => {
  comparison.begin({ url: pinned.url, prompt: pinned.prompt || strip.prompts.join(' → ') });
  setState(root.dataset.state, 'Change one thing and press Generate: both play in step.');
});

function open(message) {
  const goesOn = message.continues && message.continues === report.run;
  report.run = message.run;
  if (goesOn) { // the time to the first picture stays that of the beginning
    player.reopen(message.seconds);
  } else {
    report.first = null;
    report.chunks = [];
    report.frames = [];
    strip.clear();
    root.style.setProperty('--aspect', `${message.width} / ${message.height}`);
    delete root.dataset.beside;
    if (message.beside) root.dataset.beside = message.beside; // source and result in one picture
    root.dataset.shows = MediaSourceClass ? 'video' : 'canvas';
    video.removeAttribute('poster');
    controls.fps = message.fps;
    player.open(message);
  }
  remember({ claim: message.claim, shown: -1 });
  for (const info of message.before || []) strip.add(info);
  strip.expect(message.seconds);
  offer(message.link);
  const again = 'The connection was lost; the video goes on …';
  setState('waiting', message.before ? again : 'Making the first chunk …');
  keepInSight();
}

/* A picture of another shape may have grown out of the window that it was looked at in. At once, and
 * twice: a sticky player moves with the page, so the first aim may miss. */
function keepInSight() {
  if (shareInSight() <= 0) return;
  const aim = () => screen.scrollIntoView({ block: 'nearest', behavior: 'instant' });
  aim();
  requestAnimationFrame(aim);
}

function shareInSight() {
  const { top, bottom } = screen.getBoundingClientRect();
  return (Math.min(bottom, window.innerHeight) - Math.max(top, 0)) / (bottom - top);
}

function append(message) {
  if (message.run !== report.run) return;
  const { info } = message;
  report.chunks.push({
    index: info.index,
    start: info.start,
    end: info.end,
    sent: message.sent,
    arrived: Date.now(),
    at: performance.now(),
    shown: null,
  });
  strip.add(info);
  player.append({ ...message, duration: info.end - info.start });
  setState('live', 'Live');
}

function finish(message) {
  if (message.run !== report.run) return;
  report.ended = performance.now();
  report.stalls = player.stalls;
  player.finish();
  shelve(message);
  strip.setNumber('buffer', null); // from here on the video is repeated
  strip.expect(0); // stopped early or not: what there is fills the strip
  pinned.prompt = '';
  offer(message.link, message.url);
  setState('ended', message.text);
}

/* What a camera left: its video came over another way. */
function keep(message) {
  if (message.run !== report.run) return;
  shelve(message);
  pinned.prompt = '';
  offer(message.link, message.url);
}

/* For the list of this browser's runs. */
function shelve({ run, link, url }) {
  if (!url || !report.chunks.length) return;
  const shown = root.dataset.shows === 'video' ? video : canvas;
  const width = shown.videoWidth || shown.width;
  const height = shown.videoHeight || shown.height;
  const small = document.createElement('canvas');
  small.width = 160;
  small.height = Math.round((160 * height) / width) || 90;
  small.getContext('2d').drawImage(shown, 0, 0, small.width, small.height);
  const picture = small.toDataURL('image/jpeg', 0.7);
  const prompt = strip.prompts.join(' → ').slice(0, 200);
  const detail = { run, link, url, width, height, fps: controls.fps, picture, prompt };
  document.dispatchEvent(new CustomEvent('causvid:made', { detail }));
}

function download({ url, name }) {
  const link = document.createElement('a');
  Object.assign(link, { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function receive(message) {
  if (!message || !message.kind) return;
  if (message.kind === 'queue') setState('waiting', message.text);
  else if (message.kind === 'open') open(message);
  else if (message.kind === 'chunk') append(message);
  else if (message.kind === 'end') finish(message);
  else if (message.kind === 'clip') playClip(message);
  else if (message.kind === 'file') download(message);
  else if (message.kind === 'kept') keep(message);
  else if (message.kind === 'error') {
    if (message.claim === null) remember(null); // there is nothing to come back to
    if (!player.ended) player.finish();
    setState('failed', message.text);
  }
}

/* A finished video from the server: an example, or a run that ended while its page was lost. While a
 * run is shown, it stays; the example that welcomes a visitor is for an empty player only. */
function playClip(message) {
  const { state } = root.dataset;
  if (state === 'live' || state === 'waiting' || (message.welcome && state !== 'idle')) return;
  player.close();
  report.run = null;
  delete root.dataset.beside;
  root.dataset.shows = 'video';
  strip.clear();
  root.style.setProperty('--aspect', `${message.width} / ${message.height}`);
  if (message.poster) video.poster = message.poster;
  else video.removeAttribute('poster');
  if (message.fps) controls.fps = Number(message.fps);
  video.src = message.url;
  controls.apply();
  const still = message.welcome && matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (!still) video.play().catch(() => {});
  pinned.prompt = message.prompt || '';
  offer(message.link, message.url);
  setState(message.welcome ? 'idle' : 'ended', message.text);
}

watch('value', () => receive(props.value));
receive(props.value); // a run may have begun before the player was there
takeUp();
document.addEventListener('causvid:live', (event) => receive(event.detail)); // from camera.js
document.addEventListener('causvid:clip', (event) => playClip(event.detail));

document.addEventListener('click', (event) => {
  if (!event.target.closest('.cv-go')) return;
  report.clicked = performance.now();
  report.first = null;
  // On a phone it is below, in a low window it may be above.
  if (shareInSight() < 0.5) root.scrollIntoView({ behavior: 'smooth', block: 'center' });
}, true);

setInterval(() => {
  if (report.run && !player.ended) strip.setNumber('buffer', player.ahead, 's', 1);
}, 250);

window.addEventListener('error', (event) => report.errors.push(event.message));

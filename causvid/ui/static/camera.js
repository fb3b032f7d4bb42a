/* A camera, or a shared screen, becomes the video: pictures of the model's size and rate go up on one
 * socket, chunks come back and go to the player (`causvid:live`, heard by stage.js).
 *
 * `element` is Gradio's. Times are seconds on the page's clock.
 */
const panel = element.querySelector('.cv-live');
const sight = panel.querySelector('video');
const note = panel.querySelector('[role=status]');
const QUALITY = 0.8; // of JPEG
const MOST_WAITING = 200000; // bytes on their way, above which a picture is left out
const TYPING = 700; // ms without a key before words are sent
const LATE = 1.2; // seconds of video behind the newest, above which the player catches up
const now = () => performance.now() / 1000;
const tellStage = (message) => document.dispatchEvent(new CustomEvent('causvid:live', { detail: message }));

let live = null; // what is on

class Live {
  constructor(track, stream, prompt) {
    Object.assign(this, { stream, prompt, sent: 0, skipped: 0, chunks: [], changed: {}, latency: null });
    track.addEventListener('ended', () => this.stop()); // by the browser's own button
    this.canvas = document.createElement('canvas');
    sight.srcObject = stream;
    sight.play().catch(() => {});
    panel.hidden = false;
    element.report = this;
  }

  start(parameters) {
    const address = new URL(panel.dataset.socket, location.href);
    address.protocol = address.protocol.replace('http', 'ws');
    this.socket = new WebSocket(address);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => this.say('session.start', { mode: 'live', ...parameters });
    this.socket.onmessage = ({ data }) => this.hear(data);
    this.socket.onclose = () => this.over('The connection was lost.');
  }

  say(type, values = {}) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...values }));
  }

  hear(data) {
    if (typeof data !== 'string') {
      const message = this.announced;
      this.announced = null;
      if (message.type === 'video.start') tellStage({ ...message, kind: 'open', init: data });
      else tellStage({ kind: 'chunk', run: message.info.run, info: message.info, data, sent: Date.now() });
      return;
    }
    const message = JSON.parse(data);
    if (message.type === 'session.started') { // the buttons below the player are for it, too
      this.run = message.run;
      trigger('began', { run: message.run });
    }
    if (message.type === 'video.start' || message.type === 'video.chunk') this.announced = message;
    if (message.type === 'video.start') this.send(message);
    if (message.type === 'video.chunk') this.chunks = [...this.chunks.slice(-20), message.info];
    if (message.type === 'session.queued') note.textContent = `${message.place} before yours …`;
    if (message.type === 'prompt.in_force') note.textContent = `In force from ${message.seconds.toFixed(1)} s.`;
    if (message.type === 'error' && message.code !== 'invalid_frame') this.problem = message.message;
    if (message.type === 'error' && message.of === 'session.start') this.over(message.message);
    if (message.type === 'session.done') this.over(this.problem, message);
  }

  send({ width, height, fps }) {
    Object.assign(this.canvas, { width, height });
    const brush = this.canvas.getContext('2d', { alpha: false });
    let busy = false;
    this.timers = [setInterval(() => {
      const [across, down] = [sight.videoWidth, sight.videoHeight];
      if (!across || this.socket.readyState !== WebSocket.OPEN) return;
      if (busy || this.socket.bufferedAmount > MOST_WAITING) {
        this.skipped += 1;
        return;
      }
      busy = true;
      const taken = now();
      const scale = Math.max(width / across, height / down); // fills, and what protrudes is cut
      const [w, h] = [across * scale, down * scale];
      brush.drawImage(sight, (width - w) / 2, (height - h) / 2, w, h);
      this.canvas.toBlob(async (picture) => {
        const message = new Uint8Array(8 + picture.size);
        new DataView(message.buffer).setFloat64(0, taken);
        message.set(new Uint8Array(await picture.arrayBuffer()), 8);
        if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
        this.sent += 1;
        busy = false;
      }, 'image/jpeg', QUALITY);
    }, 1000 / fps), setInterval(() => this.measure(fps), 500)];
  }

  /* From the camera's picture to its successor on the screen. */
  measure(fps) {
    const video = document.querySelector('.cv-stage video');
    const { buffered, currentTime } = video;
    if (!buffered.length) return;
    const behind = buffered.end(buffered.length - 1) - currentTime;
    if (behind > LATE) video.currentTime += behind - 0.3;
    const shown = this.chunks.find((it) => it.start <= currentTime && currentTime < it.end);
    if (!shown || shown.source_time === null) return;
    this.latency = now() - (shown.source_time - (shown.end - 1 / fps - currentTime));
    note.textContent = `${this.latency.toFixed(1)} s behind the camera`;
  }

  /* values: a prompt, or strength and adaptive_strength. */
  change(values) {
    Object.assign(this.changed, values);
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      const { prompt, ...changed } = this.changed;
      this.changed = {};
      if (prompt?.trim() && prompt !== this.prompt) this.prompt = changed.prompt = prompt;
      if (Object.keys(changed).length) this.say('session.prompt_update', changed);
    }, TYPING);
  }

  /* The camera goes off at once; what was made stays in the player. */
  stop() {
    this.release();
    this.say('session.stop');
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) this.over();
  }

  release() {
    for (const timer of this.timers || []) clearInterval(timer);
    for (const track of this.stream.getTracks()) track.stop();
    clearTimeout(this.typing);
    sight.srcObject = null;
  }

  over(problem, done) {
    if (live !== this) return;
    live = null;
    this.release();
    if (this.socket) this.socket.close();
    panel.hidden = !problem;
    note.textContent = problem || '';
    const text = problem || `Made ${done?.manifest ? done.manifest.video.seconds.toFixed(1) : 0} s from the camera.`;
    if (done?.run && !problem) tellStage({ kind: 'end', run: done.run, text });
    else tellStage({ kind: 'error', text });
    if (this.run) trigger('ended', { run: this.run });
  }
}

document.addEventListener('causvid:camera', async ({ detail: { kind, values } }) => {
  if (live) return;
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== '');
  let stream;
  try {
    stream = kind === 'screen'
      ? await navigator.mediaDevices.getDisplayMedia({ video: true })
      : await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    tellStage({ kind: 'error', text: `There is no ${kind} to be had: ${error.message}` });
    return;
  }
  live = new Live(stream.getVideoTracks()[0], stream, values.prompt);
  live.start(Object.fromEntries(given));
});
document.addEventListener('causvid:camera-change', ({ detail }) => live?.change(detail));
panel.querySelector('[data-stop]').addEventListener('click', () => live?.stop());
window.addEventListener('pagehide', () => live?.stop());

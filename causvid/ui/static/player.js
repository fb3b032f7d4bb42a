/* Plays fragments of MP4 while the next is being made.
 *
 * open(init) → append(data, duration)* → finish(). A fragment is appended to a SourceBuffer as soon
 * as the one before it is in; playback begins when enough is buffered, slows down to the rate at
 * which fragments arrive when that is below 1, and old pictures make room for new ones. iPhones have
 * ManagedMediaSource only; where there is neither, frames come as JPEGs and are drawn on a canvas.
 */
const TIGHT = 10; // seconds behind the playhead, when the browser has no more room
const CONTROL_INTERVAL = 200; // ms
const SLOWEST = 0.3;

const MediaSourceClass = window.ManagedMediaSource || window.MediaSource;

/* Of base64, or of what a socket brought. */
function bytesOf(base64) {
  if (base64 instanceof ArrayBuffer) return base64;
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/* onFrame(seconds, performance.now()) is called for every picture that is shown; pictures more than
 * `keep` seconds behind the playhead make room. */
class MediaPlayer {
  constructor(video, onFrame, keep) {
    this.video = video;
    this.onFrame = onFrame;
    this.keep = keep;
    this.queue = [];
    this.ended = true;
    this.loops = true;
    this.speed = 1; // of a video that is whole
    this.stalls = 0;
    this.opened = 0; // when, as performance.now()
    video.addEventListener('waiting', () => {
      if (this.started && !this.ended) this.stalls += 1;
    });
    // What made room cannot be shown again, neither by the controls nor when the video is repeated.
    video.addEventListener('seeking', () => this.stayInside());
    const watchFrames = (_, frame) => {
      // A picture of the video before this one may be reported late.
      // The callback's own time is that of the screen's refresh, which may have begun before the
      // picture came.
      if (frame.presentationTime >= this.opened) {
        this.onFrame(frame.mediaTime, performance.now());
      }
      video.requestVideoFrameCallback(watchFrames);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(watchFrames);
  }

  open({ mime, init, seconds }) {
    this.close();
    this.queue = [bytesOf(init)];
    this.ended = this.started = false;
    this.stalls = 0;
    this.opened = performance.now();
    this.expected = seconds; // null: without end
    this.rate = null; // seconds of video per second of waiting
    this.arrived = null;
    const media = new MediaSourceClass();
    this.media = media;
    media.addEventListener('sourceopen', () => {
      URL.revokeObjectURL(this.url);
      this.buffer = media.addSourceBuffer(mime);
      this.buffer.addEventListener('updateend', () => this.pump());
      this.pump();
    }, { once: true });
    this.url = URL.createObjectURL(media);
    this.video.disableRemotePlayback = true; // ManagedMediaSource asks for it
    this.video.loop = false;
    this.video.src = this.url;
    this.timer = setInterval(() => this.control(), CONTROL_INTERVAL);
  }

  /* A finished video goes on. */
  reopen(seconds) {
    this.ended = false;
    this.expected = seconds;
    this.rate = this.arrived = null;
    this.video.loop = false;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.control(), CONTROL_INTERVAL);
  }

  append({ data, duration }) {
    const now = performance.now();
    if (this.arrived !== null) {
      const rate = duration / Math.max(0.001, (now - this.arrived) / 1000);
      this.rate = this.rate === null ? rate : 0.6 * this.rate + 0.4 * rate;
    }
    this.arrived = now;
    this.chunkSeconds = duration;
    this.queue.push(bytesOf(data));
    this.pump();
  }

  finish() {
    this.ended = true;
    clearInterval(this.timer);
    this.video.playbackRate = this.speed;
    this.pump();
    this.start();
  }

  close() {
    clearInterval(this.timer);
    this.queue = [];
    this.buffer = null;
    this.media = null;
    this.ended = true;
    this.video.removeAttribute('src');
    this.video.load();
  }

  get ahead() {
    const { buffered, currentTime } = this.video;
    return buffered.length ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : 0;
  }

  pump() {
    if (!this.buffer || this.buffer.updating) return;
    if (this.queue.length) {
      try {
        this.buffer.appendBuffer(this.queue[0]);
        this.queue.shift();
      } catch (error) {
        if (error.name !== 'QuotaExceededError') throw error;
        // When done, `updateend` tries the same fragment again. If all is needed, playback helps.
        if (!this.trim(TIGHT)) setTimeout(() => this.pump(), CONTROL_INTERVAL);
      }
      return;
    }
    this.stayInside(); // a continuation is seen from here on
    if (this.ended && this.media.readyState === 'open') {
      this.media.endOfStream();
      this.video.loop = this.loops;
      return;
    }
    this.trim(this.keep);
    if (this.ahead >= this.prebuffer) this.start();
  }

  /* Drop what is more than `keep` seconds behind the playhead; whether there was anything. */
  trim(keep) {
    const { buffered } = this.buffer;
    const end = this.video.currentTime - keep;
    if (!buffered.length || buffered.start(0) >= end) return false;
    this.buffer.remove(0, end);
    return true;
  }

  stayInside() {
    const { video } = this;
    if (!this.buffer || !video.buffered.length) return;
    const start = video.buffered.start(0);
    if (video.currentTime < start) video.currentTime = start;
  }

  /* Seconds to wait for: the first chunk, and when chunks come slowly the one after it. */
  get prebuffer() {
    const slow = this.rate !== null && this.rate < 1;
    return 0.9 * (this.chunkSeconds || 0) * (slow ? 2 : 1);
  }

  start() {
    if (this.started && !this.video.paused) return;
    if (!this.started) {
      this.started = true;
      this.video.play().catch(() => {}); // refused without a gesture: the controls are there
    } else if (this.resumeAtEnd) {
      this.video.play().catch(() => {});
    }
    this.resumeAtEnd = false;
  }

  /* Follow the rate of arrival when it is below 1, and keep a little in stock. */
  control() {
    if (this.ended || this.rate === null || !this.started) return;
    const target = Math.max(0.5, 1.5 * this.chunkSeconds);
    const stock = 1 + (0.35 * (this.ahead - target)) / target;
    const rate = Math.min(1, this.rate) * (this.rate < 1 ? stock : 1);
    this.video.playbackRate = Math.min(1, Math.max(SLOWEST, rate));
  }
}

/* The same interface over JPEG frames, for browsers without MediaSource. */
class CanvasPlayer {
  constructor(canvas, onFrame) {
    this.canvas = canvas;
    this.onFrame = onFrame;
    this.frames = [];
    this.ended = true;
    this.stalls = 0;
  }

  open({ fps }) {
    this.close();
    this.fps = fps;
    this.ended = false;
    this.origin = null; // when frame 0 would have been shown
    this.position = 0;
    this.stalls = 0;
    this.timer = setInterval(() => this.draw(), 1000 / fps);
  }

  reopen() {
    this.ended = false;
  }

  append({ frames }) {
    for (const frame of frames) {
      const image = new Image();
      image.src = `data:image/jpeg;base64,${frame}`;
      this.frames.push(image);
    }
  }

  finish() {
    this.ended = true;
  }

  close() {
    clearInterval(this.timer);
    this.frames = [];
    this.ended = true;
  }

  get ahead() {
    return this.fps ? (this.frames.length - this.position) / this.fps : 0;
  }

  draw() {
    if (this.ended && this.position >= this.frames.length) this.position = 0; // again
    const image = this.frames[this.position];
    if (!image || !image.complete) return;
    if (this.canvas.width !== image.naturalWidth) {
      this.canvas.width = image.naturalWidth;
      this.canvas.height = image.naturalHeight;
    }
    this.canvas.getContext('2d').drawImage(image, 0, 0);
    this.onFrame(this.position / this.fps, performance.now());
    this.position += 1;
  }
}

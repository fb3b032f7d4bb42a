/* Another video over the one in the player, in step with it, and a wipe between the two.
 *
 * It stays while the player shows something else, a video in the making, too: make one, pin it,
 * change one thing, and make the next.
 */
const APART = 0.06; // seconds, above which the other is put where the player is

class Comparison {
  constructor(root, video) {
    this.root = root;
    this.video = video;
    this.other = root.querySelector('.cv-other');
    this.bar = root.querySelector('.cv-compare');
    const wipe = this.bar.querySelector('input');
    wipe.addEventListener('input', () => root.style.setProperty('--wipe', `${wipe.value}%`));
    this.bar.querySelector('[data-unpin]').addEventListener('click', () => this.end());
    document.addEventListener('causvid:compare', ({ detail }) => this.begin(detail));
  }

  begin({ url, prompt }) {
    this.other.src = url;
    this.bar.querySelector('[data-other]').textContent = prompt;
    this.bar.hidden = false;
    this.root.dataset.compares = '';
    clearInterval(this.timer);
    this.timer = setInterval(() => this.follow(), 100);
  }

  follow() {
    const { video, other } = this;
    if (other.playbackRate !== video.playbackRate) other.playbackRate = video.playbackRate;
    const end = Math.max(0, (other.duration || 0) - 0.01); // a shorter one stands still there
    const time = Math.min(video.currentTime, end);
    if (Math.abs(other.currentTime - time) > APART && !other.seeking) other.currentTime = time;
    if (video.paused || time === end) other.pause();
    else if (other.paused) other.play().catch(() => {});
  }

  end() {
    clearInterval(this.timer);
    this.other.removeAttribute('src');
    this.other.load();
    this.bar.hidden = true;
    delete this.root.dataset.compares;
  }
}

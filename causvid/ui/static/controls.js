/* Loop, single pictures, speed, picture in picture and full screen, of a video in `root`.
 *
 * While a video is made its rate is the player's own affair; the chosen one holds from its end on.
 */
class Controls {
  constructor(root, video, player, isLive) {
    this.video = video;
    this.player = player;
    this.fps = 16;
    this.loops = true;
    this.speed = 1;
    const bar = root.querySelector('.cv-controls');
    const at = (name) => bar.querySelector(`[data-do="${name}"]`);
    at('loop').addEventListener('click', () => {
      this.loops = !this.loops;
      at('loop').setAttribute('aria-pressed', this.loops);
      player.loops = this.loops;
      if (!isLive()) video.loop = this.loops;
    });
    at('back').addEventListener('click', () => this.step(-1));
    at('forth').addEventListener('click', () => this.step(1));
    at('speed').addEventListener('change', ({ target }) => {
      this.speed = Number(target.value);
      player.speed = this.speed;
      if (!isLive()) this.apply();
    });
    at('apart').hidden = !document.pictureInPictureEnabled;
    at('apart').addEventListener('click', () => {
      const apart = document.pictureInPictureElement
        ? document.exitPictureInPicture() : video.requestPictureInPicture();
      apart.catch(() => {}); // there is no picture yet
    });
    at('full').addEventListener('click', () => {
      const screen = root.querySelector('.cv-screen');
      if (document.fullscreenElement) document.exitFullscreen();
      else if (screen.requestFullscreen) screen.requestFullscreen().catch(() => {});
      else video.webkitEnterFullscreen?.(); // iPhones
    });
  }

  /* To the next picture, or the one before: the middle of its time, so that rounding moves none. */
  step(by) {
    const { video, fps } = this;
    video.pause();
    const picture = Math.floor(video.currentTime * fps + 1e-3) + by;
    const last = Math.max(0, Math.round((video.duration || 0) * fps) - 1);
    video.currentTime = (Math.min(Math.max(picture, 0), Math.max(last, 0)) + 0.5) / fps;
  }

  /* What was chosen, for a video that is whole. */
  apply() {
    this.player.speed = this.speed;
    this.player.loops = this.loops;
    this.video.loop = this.loops;
    this.video.playbackRate = this.speed;
  }
}

/* The live strip: one block per chunk as it arrives, and the figures beside it.
 *
 * Blocks are coloured by the prompt in force; hand-overs carry a mark. Every figure is measured:
 * the first frame here in the browser, from the click to the picture on the screen.
 */
const DENSE = 120; // blocks
const HUES = 6; // colours in style.css; a seventh prompt begins again

function levelOf(distance) {
  if (distance > 0.6) return 'far';
  return distance > 0.3 ? 'some' : 'near';
}

class Strip {
  constructor(element) {
    this.blocks = element.querySelector('.cv-blocks');
    this.legend = element.querySelector('.cv-legend');
    this.head = element.querySelector('.cv-head');
    this.figure = (name) => element.querySelector(`[data-figure="${name}"]`);
    this.gauge = (name) => element.querySelector(`[data-gauge="${name}"]`);
    this.clear();
  }

  clear() {
    this.prompts = [];
    this.seconds = 0;
    this.expected = 0;
    this.blocks.replaceChildren();
    this.legend.replaceChildren();
    for (const name of ['first', 'speed', 'buffer', 'length']) this.figure(name).textContent = '–';
    for (const name of ['saturation', 'contrast', 'sharpness']) this.setGauge(name, null);
    this.head.style.left = '0';
  }

  expect(seconds) {
    this.expected = seconds || 0;
    this.layout();
  }

  add(info) {
    let colour = this.prompts.indexOf(info.prompt);
    if (colour < 0) {
      colour = this.prompts.push(info.prompt) - 1;
      const entry = document.createElement('li');
      entry.dataset.hue = colour % HUES;
      entry.textContent = info.prompt;
      this.legend.append(entry);
    }
    const block = document.createElement('li');
    block.dataset.hue = colour % HUES;
    block.dataset.chunk = info.index;
    block.dataset.seconds = info.end - info.start;
    const change = info.handover ? `, hand-over ${info.handover}` : '';
    block.title = `Chunk ${info.index}: ${info.start.toFixed(2)}–${info.end.toFixed(2)} s, ` +
      `made in ${info.timings.total.toFixed(2)} s${change}\n${info.prompt}`;
    if (info.handover) block.dataset.handover = info.handover;
    this.blocks.append(block);
    this.seconds = info.end;
    this.layout();
    this.setNumber('speed', info.times_playback, '', 2);
    this.setNumber('length', info.end, 's', 1);
    for (const [name, ratio] of Object.entries(info.drift)) this.setGauge(name, ratio);
  }

  /* Blocks fill the strip in proportion; what is still to come stays empty. */
  layout() {
    const whole = Math.max(this.expected, this.seconds, 0.001);
    for (const block of this.blocks.children) {
      block.style.width = `${(100 * block.dataset.seconds) / whole}%`;
    }
    this.blocks.toggleAttribute('data-dense', this.blocks.children.length > DENSE);
    this.whole = whole;
  }

  moveHead(seconds) {
    this.head.style.left = `${Math.min(100, (100 * seconds) / (this.whole || 1))}%`;
  }

  setNumber(name, value, unit, digits) {
    const known = value !== null && value !== undefined;
    const text = known && (unit ? `${value.toFixed(digits)}\u202f${unit}` : value.toFixed(digits));
    this.figure(name).textContent = known ? text : '–';
  }

  /* A meter around 1: a factor of two either way is the end of the scale. */
  setGauge(name, ratio) {
    const gauge = this.gauge(name);
    const known = ratio !== null;
    const offset = known ? Math.max(-1, Math.min(1, Math.log2(Math.max(ratio, 0.01)))) : 0;
    gauge.style.setProperty('--offset', offset);
    if (known) gauge.dataset.level = levelOf(Math.abs(offset));
    else delete gauge.dataset.level;
    gauge.setAttribute('aria-valuenow', known ? Math.min(2, ratio).toFixed(2) : 1);
    const text = known ? `${ratio.toFixed(2)} times the first chunk` : 'not known yet';
    gauge.setAttribute('aria-valuetext', text);
    gauge.title = known ? `${name}: ${ratio.toFixed(2)} × that of the first chunk` : name;
  }
}

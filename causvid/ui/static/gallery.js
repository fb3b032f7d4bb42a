/* Examples: a card plays under the pointer, and in the player when it is chosen. One of them plays
 * there as soon as there is a player.
 */
function play(card, more) {
  const { url, width, height, fps, link, prompt } = card.dataset;
  const { poster } = card.querySelector('video');
  document.dispatchEvent(
    new CustomEvent('causvid:clip', { detail: { url, width, height, fps, link, prompt, poster, ...more } }),
  );
}

function welcome(card) {
  if (document.querySelector('.cv-stage[data-transport]')) {
    play(card, { text: card.dataset.welcome, welcome: true });
  } else setTimeout(() => welcome(card), 50);
}

for (const card of element.querySelectorAll('button[data-url]')) {
  const preview = card.querySelector('video');
  card.addEventListener('pointerenter', () => preview.play().catch(() => {}));
  card.addEventListener('pointerleave', () => preview.pause());
  card.addEventListener('click', () => {
    const { summary, prompt } = card.dataset;
    play(card, { text: summary });
    trigger('choose', { prompt });
  });
  if (card.dataset.welcome) welcome(card);
}

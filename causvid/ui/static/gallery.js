/* Examples: a card plays under the pointer, and on the stage when it is chosen. */
for (const card of element.querySelectorAll('button[data-url]')) {
  const preview = card.querySelector('video');
  card.addEventListener('pointerenter', () => preview.play().catch(() => {}));
  card.addEventListener('pointerleave', () => preview.pause());
  card.addEventListener('click', () => {
    const { url, width, height, summary, prompt } = card.dataset;
    document.dispatchEvent(
      new CustomEvent('causvid:clip', { detail: { url, width, height, text: summary } }),
    );
    trigger('choose', { prompt });
  });
}

/* Ctrl+V puts a copied picture into the image tab, while that is in sight: Gradio's own button asks
 * for a permission first, which not every browser grants.
 */
document.addEventListener('paste', async (event) => {
  const box = document.querySelector('.cv-picture');
  const picture = [...event.clipboardData.files].find((file) => file.type.startsWith('image/'));
  if (!picture || !box?.checkVisibility()) return;
  event.preventDefault();
  const input = () => box.querySelector('input[type=file]');
  if (!input()) { // the camera is open
    box.querySelector('[aria-label="Upload file"]').click();
    while (!input()) await new Promise(requestAnimationFrame);
  }
  const files = new DataTransfer();
  files.items.add(picture);
  input().files = files.files;
  input().dispatchEvent(new Event('change', { bubbles: true }));
});

/* Gradio puts a picture into a button that has no name. */
document.addEventListener('load', ({ target }) => {
  if (target.matches?.('.cv-crop img')) target.alt = 'The first frame';
}, true);

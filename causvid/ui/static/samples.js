/* A sample goes the way of any file of the visitor's: into the input of its tab. */
const box = element.closest('.tabitem');
const input = () => box.querySelector('.cv-picture input[type=file], .cv-source input[type=file]');

async function fill(file) {
  if (!input()) { // a video or the camera is in its place
    const clear = ':is([aria-label="Clear"], [aria-label="Remove"], [aria-label="Upload file"])';
    box.querySelector(`:is(.cv-picture, .cv-source) ${clear}`)?.click();
  }
  for (let frames = 0; !input() && frames < 300; frames++) await new Promise(requestAnimationFrame);
  if (!input()) return false;
  const files = new DataTransfer();
  files.items.add(file);
  input().files = files.files;
  input().dispatchEvent(new Event('change', { bubbles: true }));
  return true;
}

/* What an earlier run of the visitor's began with. */
document.addEventListener('causvid:source', ({ detail }) => {
  const { file, mode } = detail;
  const ending = file.type.split('/')[1] || (mode === 'image' ? 'png' : 'mp4');
  if (mode === element.querySelector('[data-kind]').dataset.kind) {
    detail.taken = true;
    fill(new File([file], `source.${ending}`, { type: file.type }));
  }
});

element.addEventListener('click', async ({ target }) => {
  const button = target.closest('[data-sample]');
  if (!button) return;
  const { sample, name, type, prompt } = button.dataset;
  const content = await (await fetch(sample || button.querySelector('img').src)).blob();
  if (await fill(new File([content], name, { type }))) trigger('choose', { prompt });
});

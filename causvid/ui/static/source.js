/* Gradio's video input takes only what a browser calls a video. The server reads more: such a file
 * is passed on under a type that Gradio lets in, and one that the browser cannot play is no error.
 */
const suffixes = element.querySelector('[data-suffixes]').dataset.suffixes.split(' ');
const note = element.querySelector('[data-suffixes]');
const usual = note.textContent;
const inside = (target) => target instanceof Element && target.closest('.cv-source');
const readable = (name) => !name.includes('.') || suffixes.some((it) => name.toLowerCase().endsWith(it));

function renamed(files) {
  const changed = new DataTransfer();
  for (const file of files) {
    const foreign = !file.type.startsWith('video/') && readable(file.name);
    changed.items.add(foreign ? new File([file], file.name, { type: 'video/x-m4v' }) : file);
  }
  return changed.files;
}

document.addEventListener('change', ({ target }) => { // before Gradio hears of it
  if (target.type !== 'file' || !inside(target)) return;
  note.textContent = usual;
  target.files = renamed(target.files);
}, true);

document.addEventListener('click', ({ target }) => { // the dialog is to offer them
  const input = inside(target)?.querySelector('input[type=file]');
  if (input) input.accept = ['video/*', ...suffixes].join(',');
}, true);

document.addEventListener('drop', (event) => {
  const input = inside(event.target)?.querySelector('input[type=file]');
  if (!input || !event.dataTransfer.files.length) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}, true);

document.addEventListener('error', (event) => {
  if (!(event.target instanceof HTMLMediaElement) || !inside(event.target)) return;
  event.stopImmediatePropagation();
  note.textContent = 'This browser cannot show the file; the video is made from it all the same.';
}, true);

/* What the page remembers of its run, for the time when it is loaded again.
 *
 * Gradio loads the page again when the connection was lost. The server keeps the run for who knows
 * its claim: `takeUp` presses a hidden button, whose handler goes on with showing it. A page that is
 * closed, and not loaded again, ends its run at once.
 */
const KEY = 'causvid.run';

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null; // a browser may allow pages no storage
  }
}

/* run: {claim, shown}, of which `shown` is the chunk whose pictures were seen last; or null. */
function remember(run) {
  try {
    if (run) sessionStorage.setItem(KEY, JSON.stringify(run));
    else sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
}

/* Browsers that cannot tell the two apart do as if it was loaded again; the server notices. */
let loadsAgain = !window.navigation;
window.navigation?.addEventListener('navigate', ({ navigationType }) => {
  loadsAgain = navigationType === 'reload';
});

window.addEventListener('pagehide', () => {
  const run = remembered();
  if (!run || loadsAgain) return;
  remember(null);
  const claim = JSON.stringify({ claim: run.claim });
  navigator.sendBeacon('leave', new Blob([claim], { type: 'application/json' }));
});

function takeUp() {
  const [{ type } = {}] = performance.getEntriesByType('navigation');
  if (type !== 'reload') remember(null); // what a copy of a tab remembers is not its own
  if (!remembered()) return;
  const button = document.querySelector('#take-up');
  if (button) button.click();
  else setTimeout(takeUp, 100);
}

// Whatever scrolls can be reached by the keyboard, and captions of the table of contents say their level.
function mark() {
  for (const part of document.querySelectorAll(".table-wrapper, pre, div.math, .sidebar-scroll, .toc-scroll")) {
    if (part.scrollWidth > part.clientWidth) part.setAttribute("tabindex", "0");
  }
  for (const caption of document.querySelectorAll("[role=heading]:not([aria-level])")) caption.setAttribute("aria-level", "2");
}
document.addEventListener("DOMContentLoaded", mark);
window.addEventListener("load", () => {
  mark();
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(mark);
});

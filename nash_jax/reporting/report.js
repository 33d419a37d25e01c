// What a candidate is, beside the pointer or the keyboard's focus; the same candidate is lit
// everywhere in the page.
(function () {
  "use strict";
  const tips = JSON.parse(document.getElementById("tips").textContent);
  const box = document.getElementById("tip");
  let lit = [];

  function place(x, y) {
    const gap = 14;
    const left = x + gap + box.offsetWidth > window.innerWidth ? x - gap - box.offsetWidth : x + gap;
    const top = y + gap + box.offsetHeight > window.innerHeight ? y - gap - box.offsetHeight : y + gap;
    box.style.left = Math.max(4, left) + "px";
    box.style.top = Math.max(4, top) + "px";
  }

  function hide() {
    box.hidden = true;
    lit.forEach((element) => element.classList.remove("lit"));
    lit = [];
  }

  function show(element, x, y) {
    const name = element.dataset.candidate;
    if (!Object.hasOwn(tips, name)) return;
    hide();
    box.textContent = tips[name];
    box.hidden = false;
    lit = [...document.querySelectorAll("[data-candidate]")].filter((e) => e.dataset.candidate === name);
    lit.forEach((e) => e.classList.add("lit"));
    place(x, y);
  }

  const candidate = (event) => event.target.closest && event.target.closest("svg [data-candidate]");
  document.addEventListener("pointermove", (event) => {
    const element = candidate(event);
    if (element) show(element, event.clientX, event.clientY);
    else if (!box.hidden) hide();
  });
  document.querySelectorAll("section.chart:first-of-type svg [data-candidate]").forEach((e) => (e.tabIndex = 0));
  document.addEventListener("focusin", (event) => {
    const element = candidate(event);
    if (!element) return;
    const area = element.getBoundingClientRect();
    show(element, area.right, area.bottom);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
})();

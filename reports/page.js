// Heat maps: the cell pointed at, or reached by the arrow keys, is read out below its map.
for (const map of document.querySelectorAll("svg.map")) {
  const cells = [...map.querySelectorAll(".cell")], k = Number(map.dataset.k);
  const readout = map.closest("figure").querySelector(".readout");
  let at = -1;
  const show = (index) => {
    cells[at]?.classList.remove("on");
    at = index;
    cells[at].classList.add("on");
    readout.textContent = cells[at].dataset.label;
  };
  cells.forEach((cell, index) => cell.addEventListener("pointerenter", () => show(index)));
  map.addEventListener("keydown", (event) => {
    const row = Math.max(0, Math.floor(at / k)), column = at < 0 ? 0 : at % k;
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const clamp = (value) => Math.min(k - 1, Math.max(0, value));
    show(at < 0 ? 0 : clamp(row + down) * k + clamp(column + right));
  });
}
// Folded parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

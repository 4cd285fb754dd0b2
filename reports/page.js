// Maps: the cell pointed at, or reached by the arrow keys, is read out below its map. A map that is drawn anew is made
// readable anew.
const readable = (map) => {
  const cells = [...map.querySelectorAll(".cell")], columns = Number(map.dataset.columns);
  const readout = map.closest("figure").querySelector(".readout");
  let at = -1;
  const show = (index) => {
    cells[at]?.classList.remove("on");
    at = index;
    cells[at].classList.add("on");
    readout.textContent = cells[at].dataset.label;
  };
  cells.forEach((cell, index) => cell.addEventListener("pointerenter", () => show(index)));
  map.onkeydown = (event) => {
    const row = Math.max(0, Math.floor(at / columns)), column = at < 0 ? 0 : at % columns;
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const clamp = (value, most) => Math.min(most - 1, Math.max(0, value));
    show(at < 0 ? 0 : clamp(row + down, cells.length / columns) * columns + clamp(column + right, columns));
  };
};
document.querySelectorAll("svg.map[data-columns]").forEach(readable);
// Folded parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));

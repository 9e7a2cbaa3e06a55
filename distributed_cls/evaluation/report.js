// Tables sort by the column whose heading is pressed; without scripts they are simply in class order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th button").forEach((button) => {
    const heading = button.closest("th");
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[heading.cellIndex].dataset.value ?? row.cells[heading.cellIndex].textContent.trim();
      const compare = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
      const numeric = heading.dataset.kind === "number";
      const order = numeric ? (a, b) => Number(key(a)) - Number(key(b)) : compare;
      body.append(...[...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
    });
  });
}
